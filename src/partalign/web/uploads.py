"""Pictures that strangers send: checked by content before they are decoded, and made small.

File names and declared types are not looked at. What is kept are pixels, never the file.
"""

from __future__ import annotations

import io
import re

from PIL import Image

from partalign.errors import PictureError
from partalign.images import read_picture
from partalign.web.limits import Limits

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What browsers and cameras make; fewer decoders than files of one's own are read with."""

SIDE = 1024
"""Pictures are kept with at most so many pixels on the longer side; a network sees 160."""

# Words by which a browser, an interpreter or a reader of documents takes a file for its own.
_OTHER_TONGUES = re.compile(rb"<!doctype\s+html|<html[\s>]|<script[\s>]|<\?php|%PDF-\d", re.IGNORECASE)
_ARCHIVE_END, _ARCHIVE_TAIL = b"PK\x05\x06", 66_000


def check_picture(content: bytes, limits: Limits) -> Image.Image:
    """Return an uploaded picture, RGB, upright, at most `SIDE` pixels high and wide.

    Raises PictureError where it is too large, in bytes or in pixels, of none of `FORMATS`, damaged, or is at the same
    time a web page, a program or an archive.
    """
    if len(content) > limits.picture_bytes:
        raise PictureError(
            f"expected at most {limits.picture_bytes:,} bytes a picture, found {len(content):,}: cut the person out"
        )
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
    except Exception:  # decoders raise all sorts of things on damaged files; a bomb is one of them
        raise PictureError(
            f"expected a picture ({', '.join(FORMATS)}), found something else or a damaged one"
        ) from None
    if width * height > limits.pixels:
        raise PictureError(f"expected at most {limits.pixels:,} pixels, found {width} x {height}: cut the person out")
    if _OTHER_TONGUES.search(content) or _ARCHIVE_END in content[-_ARCHIVE_TAIL:]:
        raise PictureError("expected a picture and nothing else, found a file that is also a page, program or archive")
    found = read_picture(io.BytesIO(content))
    found.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return found
