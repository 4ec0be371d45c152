"""Pictures that strangers send: what is none, or more than one, is refused before it is decoded."""

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from partalign.errors import PictureError
from partalign.web.limits import Limits
from partalign.web.uploads import SIDE, check_picture

LIMITS = Limits()


def encoded(kind, size=(48, 96), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width, height):
    """A PNG of some hundred bytes that says it has width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as inside:
        inside.writestr("a.txt", "hello")
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_pictures_come_out_upright_and_small(kind):
    found = check_picture(encoded(kind, (1600, 800)), LIMITS)
    assert (found.mode, found.size) == ("RGB", (SIDE, SIDE // 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = check_picture(encoded("JPEG", (60, 30), exif=exif), LIMITS)
    assert turned.size == (30, 60)


def test_a_small_picture_keeps_its_pixels():
    content = encoded("PNG")
    assert check_picture(content, LIMITS).tobytes() == Image.open(io.BytesIO(content)).tobytes()


def with_text(text):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", text)
    return encoded("PNG", pnginfo=info)


REFUSED = {
    "a bomb": bomb(50_000, 50_000),
    "a wide bomb": bomb(2**31 - 1, 1),
    "more pixels than allowed": bomb(8_000, 4_001),
    "a GIF that is also a page": b"GIF89a/*" + b"<html><script>alert(1)</script>" + encoded("GIF"),
    "a plain GIF": encoded("GIF"),
    "a TIFF": encoded("TIFF"),
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "a page": b"<!doctype html><title>x</title>",
    "a PNG with a page behind it": encoded("PNG") + b"<HTML><body>",
    "a PNG with a script inside": with_text("<script>alert(1)</script>"),
    "a JPEG with a script inside": encoded("JPEG", comment=b"<ScRiPt >alert(1)</script>"),
    "a JPEG with PHP inside": encoded("JPEG", comment=b"<?php system($_GET['c']); ?>"),
    "a JPEG that is also a PDF": encoded("JPEG", comment=b"%PDF-1.4"),
    "a JPEG that is also an archive": encoded("JPEG") + archive(),
    "an archive": archive(),
    "half a PNG": encoded("PNG")[:2000],
    "a PNG without pixels": bomb(0, 0),
    "nothing": b"",
    "a path": b"/etc/passwd",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_picture_or_more_than_one_is_refused(content):
    with pytest.raises(PictureError, match="expected") as error:
        check_picture(content, LIMITS)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("side", [6_000, 10_000, 20_000, 50_000])
def test_too_many_pixels_are_told_however_many_they_are(side):
    with pytest.raises(PictureError, match=r"expected at most 32,000,000 pixels, found .*: cut the person out"):
        check_picture(bomb(side, side), LIMITS)


def test_too_many_bytes_are_refused():
    content = encoded("BMP")
    with pytest.raises(PictureError, match="bytes"):
        check_picture(content, Limits(picture_bytes=len(content) - 1))
    assert check_picture(content, Limits(picture_bytes=len(content))).size == (48, 96)


@given(st.binary(max_size=200), st.integers(0, 4000), st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]))
@example(b"", 0, "PNG")
def test_damage_is_refused_or_harmless(damage, place, kind):
    content = encoded(kind, (24, 48))
    place %= len(content)
    damaged = content[:place] + damage + content[place + len(damage) :]
    try:
        found = check_picture(damaged, Limits(pixels=100_000))
    except PictureError:
        return
    assert found.mode == "RGB"
    assert found.width * found.height <= 100_000
