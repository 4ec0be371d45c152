"""Where a picture file ends by the rules of its format, found by walking through its structure.

A search for an end marker would be fooled by the small picture that cameras put into a large one's head. Where decoders
forgive (bytes between two segments of a JPEG), so does this, lest the two see different ends.
"""

from __future__ import annotations

import re
import struct

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
"""A JPEG's next segment: in a scan FF is followed by 0 or by a restart marker, elsewhere FF may be repeated."""

_START, _END, _APPLICATION_2 = 0xD8, 0xD9, 0xE2
_WEBP_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
_UNCOMPRESSED = (0, 3, 6)  # a BMP's: plain, and with masks


def picture_end(content: bytes) -> int:
    """Return how many bytes of a JPEG, PNG, WebP or BMP file belong to the picture, by its structure.

    Multi-picture files (CIPA DC-007: several JPEGs one after another, of phones and of stereo cameras) are whole if the
    first one says that it is one. Raises ValueError where the file is of another format, or ends before the picture.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            end = _end_of_jpegs(content)
        elif content.startswith(b"\x89PNG\r\n\x1a\n"):
            end = _end_of_png(content)
        elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            end = _end_of_webp(content)
        elif content.startswith(b"BM"):
            end = _end_of_bmp(content)
        else:
            raise ValueError("of another format")
    except struct.error:
        raise ValueError("ends before the picture does") from None
    if end > len(content):
        raise ValueError("ends before the picture does")
    return end


def _end_of_jpegs(content: bytes) -> int:
    end, several = _end_of_jpeg(content, 0)
    while several:
        following = re.compile(rb"\x00*\xff\xd8").match(content, end)  # they may be aligned
        if following is None:
            break
        end, _ = _end_of_jpeg(content, following.end() - 2)
    return end


def _end_of_jpeg(content: bytes, start: int) -> tuple[int, bool]:
    """Return where the JPEG at `start` ends, and whether it says that others follow."""
    place, several = start + 2, False
    while found := _MARKER.search(content, place):
        place, kind = found.end(), content[found.end() - 1]
        if kind == _END:
            return place, several
        (length,) = struct.unpack_from(">H", content, place)
        if kind == _START or length < 2:
            break
        several |= kind == _APPLICATION_2 and content.startswith(b"MPF\0", place + 2)
        place += length
    raise ValueError("a JPEG without an end")


def _end_of_png(content: bytes) -> int:
    place, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        place += 12 + length
    return place


def _end_of_webp(content: bytes) -> int:
    (length,) = struct.unpack_from("<I", content, 4)
    place, end = 12, 8 + length
    while place < end:
        kind, length = struct.unpack_from("<4sI", content, place)
        if kind not in _WEBP_CHUNKS:
            raise ValueError("a WebP with a chunk that is none of its own")
        place += 8 + length + length % 2
    return place


def _end_of_bmp(content: bytes) -> int:
    first, header = struct.unpack_from("<II", content, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression not in _UNCOMPRESSED:
        raise ValueError("a compressed BMP")
    return first + abs(height) * ((width * bits + 31) // 32 * 4)
