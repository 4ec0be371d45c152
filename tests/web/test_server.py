"""`partalign serve` and `partalign token` as processes: what they refuse, TLS, and that no traceback comes out."""

import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request

import pytest

from partalign.errors import AccessError
from partalign.web.access import Role, new_token
from partalign.web.server import Address, greeting, listen, open_doors
from web_gallery import serving


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "people.example"])
def test_an_address_that_others_reach_needs_tokens(host, tmp_path):
    with pytest.raises(AccessError, match="partalign token"):
        open_doors(Address(host), None)
    new_token(tmp_path / "t", Role.search, "hall")
    access = open_doors(Address(host), tmp_path / "t")
    assert not access.open
    assert access.hosts is None
    assert "certificate" in greeting(Address(host), access, 80)[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_may_come_in_and_is_told_so(host):
    access = open_doors(Address(host, names=("People.Example",)), None)
    assert access.open
    assert {"localhost", "127.0.0.1", "[::1]", "people.example"} <= access.hosts
    assert "account on this machine" in greeting(Address(host), access, 80)[1]


def test_half_a_certificate_and_a_taken_port_are_refused(tmp_path):
    with pytest.raises(AccessError, match="--key"):
        open_doors(Address(certificate=tmp_path / "c.pem"), None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AccessError, match="--port"):
        listen(Address(port=taken.getsockname()[1]))
    for port in (-1, 70_000):
        with pytest.raises(AccessError, match="--port"):
            listen(Address(port=port))


def partalign(*words):
    command = [sys.executable, "-m", "partalign", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_commands_refuse_in_one_line(tmp_path, gallery, model):
    asks = [
        (("serve", tmp_path / "none", "--model", model, "--port", "0"), "gallery"),
        (("serve", gallery, "--host", "0.0.0.0"), "expected tokens"),
        (("serve", gallery, "--tokens", tmp_path / "none.txt"), "none.txt"),
    ]
    for words, told in asks:
        run = partalign(*words)
        assert run.returncode == 1
        assert told in run.stderr
        assert run.stderr.count("\n") == 1


def test_a_token_is_shown_once(tmp_path):
    run = partalign("token", "edit", "--file", tmp_path / "t", "--name", "hall")
    token = run.stdout.strip()
    assert open_doors(Address("0.0.0.0"), tmp_path / "t").check(token).name == "hall"
    assert token not in (tmp_path / "t").read_text()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_with_a_certificate_it_speaks_tls_only(tmp_path, gallery, model):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    words = ("--model", model, "--certificate", certificate, "--key", key)
    with serving(shutil.copytree(gallery, tmp_path / "g"), *words) as (url, _):
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(f"{url}/api/info", context=trusted) as answer:
            assert "max-age" in answer.headers["strict-transport-security"]
        with pytest.raises(OSError, match=r"."):
            urllib.request.urlopen(url.replace("https", "http"))
