"""Locked doors: tokens, roles, names, origins, sizes, rates, headers, and errors that tell nothing."""

import asyncio
import hmac
import stat
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from partalign.errors import AccessError, GalleryError
from partalign.gallery import Filter, Record
from partalign.web.access import Access, Role, new_token, read_tokens
from partalign.web.app import make_app
from partalign.web.guard import HEADERS
from partalign.web.limits import Limits

SEARCH, EDIT, ADMIN = Role.search, Role.edit, Role.admin


def a_record(search):
    return search.gallery.records(limit=1)[0].id


def test_the_file_keeps_no_token_and_is_for_its_owner(tokens):
    path, secrets = tokens
    assert not any(secret in path.read_text() for secret in secrets.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [token.client.role for token in read_tokens(path)] == list(Role)
    with pytest.raises(AccessError, match="named edit"):
        new_token(path, SEARCH, "edit")
    with pytest.raises(AccessError, match="without spaces"):
        new_token(path, SEARCH, "the hall")


@pytest.mark.parametrize("line", ["search hall", "root hall " + "0" * 64, "search hall 12ab", "search hall zz", "\xff"])
def test_a_damaged_file_is_named_with_its_line(tmp_path, line):
    (tmp_path / "t").write_text("# tokens\n" + line + "\n", encoding="latin-1")
    with pytest.raises(AccessError, match=str(tmp_path / "t")):
        read_tokens(tmp_path / "t")
    (tmp_path / "t").write_text("# none\n")
    with pytest.raises(AccessError, match="at least one"):
        read_tokens(tmp_path / "t")


def test_every_token_is_compared_in_constant_time_whichever_is_right(tokens, monkeypatch):
    path, secrets = tokens
    access, seen = Access(read_tokens(path)), []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: seen.append((len(a), len(b))) or compare(a, b))
    for secret in [*secrets.values(), "wrong", ""]:
        seen.clear()
        access.check(secret)
        assert seen == [(32, 32)] * 3


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic abc", "", "Bearer \xe4"])
def test_no_or_a_wrong_token_opens_nothing(doors, header):
    client = doors()
    for path in ("/api/info", "/api/records", "/openapi.json", "/api/log", "/nothing"):
        answer = client.get(path, headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get(path).status_code == 401


def test_roles_reach_what_is_theirs_and_no_more(doors, search):
    record = a_record(search)
    asks = [
        (SEARCH, "GET", "/api/info", None),
        (SEARCH, "POST", "/api/search", {"like": [record]}),
        (EDIT, "POST", "/api/decisions", {"like": [record], "record": record, "same": True}),
        (EDIT, "PATCH", f"/api/records/{record}", {"person": "anna"}),
        (ADMIN, "GET", "/api/log", None),
        (ADMIN, "DELETE", f"/api/records/{record}", None),
        (ADMIN, "POST", "/api/forget", {"person": "nobody"}),
    ]
    for role in Role:
        client = doors(role)
        for least, method, path, body in asks:
            answer = client.request(method, path, json=body)
            assert answer.status_code == (200 if role >= least else 403), (role, path, answer.text)


def test_who_searched_is_in_the_log_by_the_tokens_name(doors, search):
    doors(SEARCH).post("/api/search", json={"like": [a_record(search)]})
    assert search.gallery.entries(1)[0].who.startswith("search from ")


def test_a_browser_signs_in_and_out(doors, tokens):
    client = doors()
    assert client.get("/", follow_redirects=False).headers["location"] == "/sign-in"
    assert "not a token" in client.post("/sign-in", data={"token": "wrong"}).text
    answer = client.post("/sign-in", data={"token": tokens[1][EDIT]}, follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert tokens[1][EDIT].lower() not in cookie
    assert client.get("/api/info").json()["role"] == "edit"
    assert "Sign out" in client.get("/").text
    key = client.cookies["partalign"]
    client.post("/sign-out")
    client.cookies.set("partalign", key)
    assert client.get("/api/info").status_code == 401


def test_cookies_over_tls_are_for_tls_only(doors, tokens):
    client = doors()
    client.base_url = "https://localhost"
    answer = client.post("/sign-in", data={"token": tokens[1][EDIT]}, follow_redirects=False)
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "max-age" in answer.headers["strict-transport-security"]


def test_tokens_cannot_be_tried_quickly(doors, tokens):
    client = doors(attempts=3)
    found = [client.get("/api/info", headers={"Authorization": "Bearer x"}).status_code for _ in range(5)]
    assert found == [401, 401, 401, 429, 429]
    answer = client.post("/sign-in", data={"token": tokens[1][ADMIN]})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 1
    assert client.get("/api/info", headers={"Authorization": f"Bearer {tokens[1][ADMIN]}"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "127.0.0.1.nip.io"])
def test_names_of_others_are_refused(client, host):
    assert client.get("/api/info", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765", "[::1]"])
def test_names_of_this_machine_are_known(client, host):
    assert client.get("/api/info", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_pages_of_others_cannot_ask(client, search, headers):
    record = a_record(search)
    for method, path in (
        ("GET", "/api/info"),
        ("DELETE", f"/api/records/{record}"),
        ("GET", f"/api/thumbnails/{record}"),
    ):
        assert client.request(method, path, headers=headers).status_code == 403
    assert search.gallery.get(record) is not None


def test_the_page_itself_asks_and_is_linked_to(client):
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/info", headers=own).status_code == 200
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_every_answer_has_the_headers(client, doors, search):
    paths = ["/", "/api/info", "/static/page.js", "/static/none.js", "/api/records/none", "/api/search", "/favicon.ico"]
    answers = [client.get(path) for path in paths] + [doors().get("/api/info"), client.get("/", headers={"Host": "x"})]
    answers.append(client.post("/api/search", content=b"x" * 100_000))
    assert {answer.status_code for answer in answers} == {200, 401, 404, 405, 413, 421}
    for answer in answers:
        assert all(answer.headers[name] == value for name, value in HEADERS.items())
        assert "server" not in answer.headers
        assert "cache-control" in answer.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert "http" not in HEADERS["Content-Security-Policy"]


def test_nothing_of_the_page_comes_from_elsewhere(client):
    for path in ("/", "/static/page.js", "/static/style.css", "/openapi.json"):
        assert "//" not in client.get(path).text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404


def test_large_bodies_are_refused_whether_or_not_they_say_so(doors):
    client = doors(ADMIN, upload_bytes=2000, body_bytes=500)
    assert client.post("/api/search", content=b" " * 501).status_code == 413
    assert client.post("/api/search", content=(b" " * 100 for _ in range(6))).status_code == 413
    assert client.post("/api/search", content=(b" " * 100 for _ in range(5))).status_code == 422
    assert client.post("/api/queries", files={"pictures": b"x" * 3000}).status_code == 413
    assert client.post("/api/search", headers={"Content-Length": "-1"}, content=b"").status_code == 413


def test_too_many_pictures_and_what_is_none(client, people):
    files = [("pictures", people[0].path.read_bytes())] * 9
    assert client.post("/api/queries", files=files).status_code == 413
    answer = client.post("/api/queries", files=[("pictures", ("../../x.jpg", b"<svg/>", "image/jpeg"))])
    assert answer.status_code == 400
    assert "something else" in answer.json()["detail"]
    assert client.post("/api/queries", files=[]).status_code == 422


def test_a_client_that_asks_too_often_has_to_wait(doors):
    client = doors(SEARCH, rate=0.001, burst=3)
    assert [client.get("/api/info").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert int(client.get("/api/info").headers["retry-after"]) > 100


def test_who_waits_for_a_busy_network_is_told(client, people, monkeypatch):
    service = client.app.state.service
    monkeypatch.setattr(service, "_turns", type(service._turns)(waiting=0))
    with service._turns.turn():
        answer = client.post("/api/queries", files={"pictures": people[0].path.read_bytes()})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/....//app.py", "/static//etc/passwd",
     "/api/thumbnails/..%2f..%2f..%2fetc%2fpasswd", "/api/thumbnails//etc/passwd", "/api/records/%2fetc%2fpasswd",
     "/api/thumbnails/a%00.jpg", "/templates/page.html", "/static/%00"],
)  # fmt: skip
def test_paths_lead_nowhere(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_what_goes_wrong_is_told_without_a_trace(client, search, monkeypatch):
    def fail(*_):
        raise RuntimeError(f"secret {search.gallery.url}")

    monkeypatch.setattr(client.app.state.service, "record", fail)
    answer = client.get("/api/records/x")
    assert answer.status_code == 500
    assert list(answer.json()) == ["detail"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text

    def refuse(*_):
        raise GalleryError(f"{search.gallery.url}: postgresql://admin:pass@db/x")

    monkeypatch.setattr(client.app.state.service, "record", refuse)
    answer = client.get("/api/records/x")
    assert answer.status_code == 409
    assert "pass" not in answer.text
    assert search.gallery.url not in answer.text


def test_no_answer_says_where_pictures_lie(client, search, people):
    folder = str(people[0].path.parent)
    record = a_record(search)
    asks = [client.get("/api/records"), client.get("/"), client.get("/api/info"), client.get(f"/api/records/{record}")]
    asks.append(client.post("/api/search", json={"like": [record]}))
    for answer in asks:
        assert folder not in answer.text
        assert search.gallery.url not in answer.text


def test_the_source_of_a_record_cannot_be_set(client, search):
    record = a_record(search)
    assert client.patch(f"/api/records/{record}", json={"source": "/etc/passwd"}).status_code == 422


def test_names_are_text_on_the_page(search):
    script = "<script>alert(1)</script>"
    record = search.gallery.records(limit=1)[0]
    search.gallery.update(Filter(ids=(record.id,)), camera=script)
    with TestClient(make_app(search), base_url="http://localhost") as client:
        assert script not in client.get("/").text


def test_the_description_says_whether_a_token_is_needed(client, doors):
    needed = doors(SEARCH).get("/openapi.json").json()["paths"]["/api/search"]["post"]
    assert needed["security"] == [{"HTTPBearer": []}]
    assert "security" not in client.get("/openapi.json").json()["paths"]["/api/search"]["post"]


def test_who_sends_slowly_is_not_waited_for(search):
    app, sent = make_app(search, limits=Limits(arrival=0.1)), []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/search", "raw_path": b"/api/search", "query_string": b""}
    scope |= {"headers": headers, "scheme": "http", "client": ("127.0.0.1", 9), "server": ("localhost", 80)}
    pieces: Iterator[dict[str, object]] = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive():
        for piece in pieces:
            return piece
        return await asyncio.sleep(600, {})

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))
    assert sent[0]["status"] == 408
    assert b"within 0.1 seconds" in sent[1]["body"]


@pytest.mark.parametrize("source", ["/etc/passwd", "/dev/zero", "secret.png", "../secret.png"])
def test_a_record_of_others_shows_no_file_but_its_own(client, search, tmp_path, monkeypatch, source):
    """Records of an imported file may name any source; what is there is shown only if it is what was described."""
    monkeypatch.chdir(search.gallery.folder)
    for folder in (search.gallery.folder, tmp_path):
        Image.new("RGB", (48, 96), (250, 10, 10)).save(folder / "secret.png")
    query, vector = a_record(search), -search.gallery.vectors([a_record(search)])
    search.gallery.add([Record("foreign", source=source, box=(0, 0, 10, 10))], vector)
    asked = {"like": [query], "record": "foreign"}
    answers = [client.get("/api/thumbnails/foreign"), client.post("/api/explanations", json=asked)]
    answers.append(client.get("/api/explanation.png", params=asked))
    assert [answer.status_code for answer in answers] == [404, 409, 409]
    assert all("root:" not in answer.text and source not in answer.text for answer in answers)


def test_a_record_without_a_small_picture_shows_its_file(client, search, people):
    vector = search.describe([people[0].path])
    search.gallery.add([Record("own", source=str(people[0].path))], vector)
    answer = client.get("/api/thumbnails/own")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
