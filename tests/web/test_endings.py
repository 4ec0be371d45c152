"""Where pictures end: Pillow's of all kinds and real ones end where their files do, and nothing may follow."""

import gzip
import io
import struct
import zipfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from partalign.errors import PictureError
from partalign.web.endings import picture_end
from partalign.web.limits import Limits
from partalign.web.uploads import check_picture


@cache
def noise(mode="RGB", size=(50, 75)):
    picture = Image.effect_noise(size, 80).convert("L")
    if mode == "I;16":
        return Image.frombytes(mode, size, bytes(2 * size[0] * size[1]))
    if mode in ("RGB", "CMYK", "RGBA"):
        return Image.merge(mode, [picture.rotate(90 * turn) for turn in range(len(mode))])
    return picture.convert(mode)


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    noise(mode).save(file, kind, **options)
    return file.getvalue()


def with_thumbnail(kind="JPEG"):
    """EXIF with a whole JPEG in it, end marker and all, as cameras write it."""
    small = encoded("JPEG")
    tags = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 44, 0x0202, 4, 1, len(small), 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 14) + tags + small
    content = encoded(kind, exif=exif)
    assert small in content
    return content


PICTURES = {
    "JPEG": encoded("JPEG"),
    "JPEG, progressive": encoded("JPEG", progressive=True),
    "JPEG, optimized, grey": encoded("JPEG", "L", optimize=True),
    "JPEG, four colours": encoded("JPEG", "CMYK"),
    "JPEG, full colours": encoded("JPEG", quality=100, subsampling=0),
    "JPEG, restart markers": encoded("JPEG", restart_marker_blocks=1),
    "JPEG, restart markers, progressive": encoded("JPEG", restart_marker_rows=1, progressive=True),
    "JPEG, thumbnail": with_thumbnail(),
    "JPEG, comment with an end": encoded("JPEG", comment=b"\xff\xd9\xff\xd8\xff\xda"),
    "JPEG, long profile": encoded("JPEG", icc_profile=b"\xff\xd9" * 50_000),
    "JPEG, fill bytes": b"\xff\xd8\xff\xff\xff" + encoded("JPEG")[3:],
    "MPO": encoded("MPO", save_all=True, append_images=[noise(), noise("L")]),
    "PNG": encoded("PNG"),
    "PNG, transparent": encoded("PNG", "RGBA"),
    "PNG, palette": encoded("PNG", "P"),
    "PNG, bits": encoded("PNG", "1"),
    "PNG, 16 bits": encoded("PNG", "I;16"),
    "PNG, moving": encoded("PNG", save_all=True, append_images=[noise("L"), noise("P")]),
    "PNG, thumbnail": with_thumbnail("PNG"),
    "WebP": encoded("WEBP"),
    "WebP, lossless": encoded("WEBP", "RGBA", lossless=True),
    "WebP, transparent": encoded("WEBP", "RGBA"),
    "WebP, moving": encoded("WEBP", save_all=True, append_images=[noise("L"), noise("P")]),
    "WebP, thumbnail": with_thumbnail("WEBP"),
    "WebP, profile": encoded("WEBP", icc_profile=b"odd" * 5, xmp=b"<x>"),
    "BMP": encoded("BMP"),
    "BMP, grey": encoded("BMP", "L"),
    "BMP, palette": encoded("BMP", "P"),
    "BMP, bits": encoded("BMP", "1"),
    "BMP, transparent": encoded("BMP", "RGBA"),
}


def archive(padding=0):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as inside:
        inside.writestr("a.txt", "hello")
    return file.getvalue() + bytes(padding)


TAILS = {
    "RAR": b"Rar!\x1a\x07\x01\x00" + bytes(20),
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(20),
    "gzip": gzip.compress(b"hello"),
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(50),
    "MZ": b"MZ\x90\x00" + bytes(50),
    "shebang": b"\n#!/bin/sh\nrm -rf ~\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "XML": b'<?xml version="1.0"?><x/>',
    "zip": archive(),
    "zip far from the end": archive(70_000),
    "zip between zeros": bytes(512) + archive(70_000),
    "text": b"echo",
    "one byte": b"\x01",
    "a phone's video": b"MotionPhoto_Data\0\0\0\x18ftypmp42",
    "an end marker": b"\xff\xd9",
    "an end chunk": b"\0\0\0\0IEND\xaeB`\x82",
}


@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_ends_where_its_file_does_and_zeros_may_follow(content):
    assert picture_end(content) == len(content)
    found = check_picture(content, Limits())
    with Image.open(io.BytesIO(content)) as picture:
        assert found.size == picture.size
    for padding in (1, 511, 70_000):
        assert check_picture(content + bytes(padding), Limits()).tobytes() == found.tobytes()


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS.keys())
@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES.keys())
def test_nothing_else_may_follow(content, tail):
    assert picture_end(content + tail) == len(content)
    with pytest.raises(PictureError, match=f"expected a picture and nothing else, found {len(tail.rstrip(bytes(1)))} "):
        check_picture(content + tail, Limits())


@given(st.sampled_from(sorted(PICTURES)), st.integers(0, 600), st.binary(min_size=1).filter(any))
@example("MPO", 0, b"\xff\xd8")
def test_no_tail_that_says_anything_is_taken(name, zeros, tail):
    # Of several pictures the last may be cut off: a tail can be read as the start of one.
    refusal = "a (picture and nothing else|whole picture)" if name == "MPO" else "a picture and nothing else"
    with pytest.raises(PictureError, match=f"expected {refusal}, found"):
        check_picture(PICTURES[name] + bytes(zeros) + tail, Limits())


def test_a_second_picture_follows_only_in_multi_picture_files():
    plain, several = PICTURES["JPEG"], PICTURES["MPO"]
    with pytest.raises(PictureError, match="nothing else"):
        check_picture(plain + plain, Limits())
    aligned = several + bytes(100) + plain
    assert picture_end(aligned) == len(aligned)
    with pytest.raises(PictureError, match="nothing else, found 4 bytes"):
        check_picture(aligned + b"Rar!", Limits())
    with pytest.raises(PictureError, match="nothing else"):
        check_picture(several + PICTURES["PNG"], Limits())


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_was_cut_off_has_no_end(name):
    content = PICTURES[name]
    for kept in (3, 12, 30, len(content) // 2, len(content) - 1):
        if name == "MPO" and kept == len(content) // 2:
            continue  # the first of its pictures is whole
        with pytest.raises(ValueError, match=r"ends before|without an end|another format"):
            picture_end(content[:kept])


def test_a_jpeg_without_its_end_cannot_hide_a_tail():
    """A decoder takes what comes after the last scan for the end; so a missing end marker has to be refused."""
    content = PICTURES["JPEG"][:-2]
    with pytest.raises(PictureError, match="without an end"):
        check_picture(content + b"Rar?" + bytes(50), Limits())


@pytest.mark.parametrize("name", ["WebP", "WebP, profile"])
def test_the_length_in_a_webp_cannot_cover_a_tail(name):
    """What it counts has to be chunks that a WebP has."""
    content = bytearray(PICTURES[name] + b"HIDE\4\0\0\0evil")
    content[4:8] = struct.pack("<I", len(content) - 8)
    with pytest.raises(ValueError, match="none of its own"):
        picture_end(bytes(content))
    with pytest.raises(PictureError, match="expected a"):
        check_picture(bytes(content), Limits())


@pytest.mark.parametrize(
    "words", [b"Rar!\x1a\x07\x00", b"7z\xbc\xaf\x27\x1c", b"<svg onload=x>", b"__HALT_COMPILER(); ?>"]
)
def test_programs_that_read_their_files_from_anywhere_are_looked_for_inside(words):
    with pytest.raises(PictureError, match="page, program or archive"):
        check_picture(encoded("JPEG", comment=words), Limits())


def test_other_formats_and_other_bmps_are_none():
    for content in (b"", b"\x89PN", b"GIF89a", encoded("GIF"), b"RIFF\4\0\0\0WAVE"):
        with pytest.raises(ValueError, match="another format"):
            picture_end(content)
    compressed = bytearray(PICTURES["BMP, grey"])
    compressed[30] = 1
    with pytest.raises(ValueError, match="compressed BMP"):
        picture_end(bytes(compressed))


@pytest.mark.parametrize("turned", [False, True])
def test_older_and_upside_down_bmps(turned):
    """With the 12 bytes of OS/2's head, or with rows from the top."""
    plain = PICTURES["BMP"]
    width, height = struct.unpack_from("<ii", plain, 18)
    if turned:
        content = plain[:22] + struct.pack("<i", -height) + plain[26:]
    else:
        head = b"BM" + struct.pack("<IHHI", len(plain) - 28, 0, 0, 26)
        content = head + struct.pack("<IHHHH", 12, width, height, 1, 24) + plain[54:]
    assert picture_end(content) == len(content)
    assert check_picture(content, Limits()).size == (width, height)


def test_real_crops_end_where_their_files_do(shared):
    crops = sorted((shared / "data/Market-1501-v15.09.15/bounding_box_test").glob("*.jpg"))
    assert len(crops) > 1000
    for crop in crops:
        content = crop.read_bytes()
        assert picture_end(content) == len(content), crop


def test_photographs_of_others_end_where_their_files_do():
    datasets = pytest.importorskip("sklearn.datasets")
    found = sorted((Path(datasets.__file__).parent / "images").glob("*.jpg"))
    assert found
    for path in found:
        content = path.read_bytes()
        assert picture_end(content) == len(content), path
        check_picture(content, Limits())
