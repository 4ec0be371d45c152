"""Pictures that strangers send: checked by content before they are decoded, and made small.

File names and declared types are not looked at. What is kept are pixels, never the file.
"""

from __future__ import annotations

import io
import re

from PIL import Image

from partalign.errors import PictureError
from partalign.images import read_picture
from partalign.web.endings import picture_end
from partalign.web.limits import Limits

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What browsers and cameras make; fewer decoders than files of one's own are read with."""

SIDE = 1024
"""Pictures are kept with at most so many pixels on the longer side; a network sees 160."""

# Words by which a browser, an interpreter, a reader of documents or an unpacker takes a file for its own wherever in it
# they are. Other programs ask for theirs at the start, where a picture's are.
_OTHER_TONGUES = re.compile(
    rb"<!doctype\s+html|<html[\s>]|<script[\s>]|<svg[\s>]|<\?php|__halt_compiler|%PDF-\d|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c",
    re.IGNORECASE,
)
_ARCHIVE_END, _ARCHIVE_TAIL = b"PK\x05\x06", 66_000


def check_picture(content: bytes, limits: Limits) -> Image.Image:
    """Return an uploaded picture, RGB, upright, at most `SIDE` pixels high and wide.

    Raises PictureError where it is too large, in bytes or in pixels, of none of `FORMATS`, damaged, followed by more
    than zeros, or at the same time a web page, a program or an archive.
    """
    if len(content) > limits.picture_bytes:
        raise PictureError(
            f"expected at most {limits.picture_bytes:,} bytes a picture, found {len(content):,}: cut the person out"
        )
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"expected at most {limits.pixels:,} pixels, found far more: cut the person out") from None
    except Exception:  # decoders raise all sorts of things on damaged files
        raise PictureError(
            f"expected a picture ({', '.join(FORMATS)}), found something else or a damaged one"
        ) from None
    if width * height > limits.pixels:
        raise PictureError(f"expected at most {limits.pixels:,} pixels, found {width} x {height}: cut the person out")
    _require_end(content)
    if _OTHER_TONGUES.search(content) or _ARCHIVE_END in content[-_ARCHIVE_TAIL:]:
        raise PictureError("expected a picture and nothing else, found a file that is also a page, program or archive")
    found = read_picture(io.BytesIO(content))
    found.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return found


def _require_end(content: bytes) -> None:
    try:
        end = picture_end(content)
    except ValueError as error:
        raise PictureError(f"expected a whole picture, found one that is damaged or cut off ({error})") from None
    behind = len(content.rstrip(b"\0")) - end  # some cameras fill their files up with zeros
    if behind > 0:
        raise PictureError(
            f"expected a picture and nothing else, found {behind:,} bytes behind its end, such as a phone's video or "
            "a hidden file: save the picture again without them"
        )
