"""Picture file -> network input: the only place with pixel conventions.

A picture is RGB, uint8, resized by Pillow's bilinear filter (antialiased when shrinking) whatever its use: training,
embedding and export see the same pixels. Networks take BGR, 0-255, minus `MEAN_BGR`. JPEG "draft" decoding is never
used, because it changes pixels. Knows nothing of data sets, networks or torch.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from partalign import progress
from partalign.crops import Crop
from partalign.errors import PictureError, ShapeError
from partalign.processors import thread_count

MEAN_BGR = (104.0, 117.0, 123.0)
"""What is taken from the blue, green and red values (0-255): the mean that the Caffe networks were trained with."""

INPUT_SIZE = (160, 80)
"""Height and width of the network's input, pixels."""

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are refused before they are decoded; an 8K video frame has 33 million."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")
"""The formats that are tried, by content, not by file name. Of an animation or a multi-page file, the first picture."""

Box = tuple[float, float, float, float]

_ORIENTATION = 0x0112
_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GROUND = tuple(round(value) for value in reversed(MEAN_BGR))


def read_picture(source: str | Path | BinaryIO) -> Image.Image:
    """Return a picture file (or an open binary file, such as an upload) as an upright RGB picture.

    EXIF rotation is applied. Transparent places show the mean colour, which the network receives as zero. 16-bit
    grey is scaled by 255/65535, not clipped. Raises PictureError where the file is missing, empty, truncated or no
    picture, of a kind whose brightness range is not known (float, 32-bit), or has more than `MAX_PIXELS` pixels.
    """
    if not isinstance(source, str | Path):
        return _decode(source, str(getattr(source, "name", "the uploaded file")))
    try:
        source = Path(source)
        if not source.is_file() and source.exists():
            raise PictureError(f"{source}: expected a picture, found a folder or device; give the path of a file")
        with source.open("rb") as file:
            return _decode(file, str(source))
    except OSError as error:
        raise PictureError(
            f"{source}: expected a picture, cannot open it ({error.strerror or error}); check its path and rights"
        ) from None


def read_batch(
    paths: Sequence[str | Path], size: tuple[int, int] = INPUT_SIZE, boxes: Sequence[Box | None] | None = None
) -> np.ndarray:
    """Read pictures into one array (B, H, W, 3), uint8, RGB; `size` is (H, W).

    boxes: for each picture None or (left, top, width, height) in pixels, what to cut out before resizing; it is rounded
    to whole pixels and clipped to the picture. Raises PictureError where a picture cannot be read or a box is outside.
    """
    if boxes is not None and len(boxes) != len(paths):
        raise ShapeError(f"expected one box for each of {len(paths)} pictures, found {len(boxes)}")
    batch = np.empty((len(paths), *size, 3), np.uint8)
    for row, path in enumerate(paths):
        batch[row] = read_pixels(path, size, None if boxes is None else boxes[row])
    return batch


def read_pixels(path: str | Path | BinaryIO, size: tuple[int, int] = INPUT_SIZE, box: Box | None = None) -> np.ndarray:
    """Read one picture, or the `box` of it, as (H, W, 3) uint8 RGB. As `read_batch`, for one."""
    picture = read_picture(path)
    if box is not None:
        picture = _cut(picture, box, str(path))
    return resize(picture, size)


def resize(picture: Image.Image, size: tuple[int, int] = INPUT_SIZE) -> np.ndarray:
    """Return an RGB picture as (H, W, 3) uint8. The one way in which partalign changes a picture's size."""
    height, width = size
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def network_values(pixels: np.ndarray) -> np.ndarray:
    """Turn pictures (B, H, W, 3), uint8, RGB into a network's input (B, 3, H, W), float32, BGR minus `MEAN_BGR`."""
    values = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
    for channel, mean in enumerate(MEAN_BGR):
        np.subtract(pixels[..., 2 - channel], np.float32(mean), out=values[:, channel])
    return values


class Pictures:
    """A set of pictures read by row number; decoded on first use, and kept while the whole set fits `cache_bytes`.

    pictures: paths, or crops (their `path` is read whole: `Crop.box` speaks of the frame that it was cut from).
    size, boxes: as `read_batch`. on_error: "refuse" raises PictureError for a picture that cannot be read; "skip"
    leaves it out of `readable` and of `stream`, and says so on standard error. cache_bytes: 0 turns the cache off;
    2 GiB hold 55,924 crops of 160 x 80. threads: decoders at work, by default `thread_count()`.
    """

    def __init__(
        self,
        pictures: Sequence[str | Path | Crop],
        size: tuple[int, int] = INPUT_SIZE,
        *,
        boxes: Sequence[Box | None] | None = None,
        on_error: Literal["refuse", "skip"] = "refuse",
        cache_bytes: int = 2 * 2**30,
        threads: int | None = None,
    ):
        self.paths = [item.path if isinstance(item, Crop) else Path(item) for item in pictures]
        if boxes is not None and len(boxes) != len(self.paths):
            raise ShapeError(f"expected one box for each of {len(self.paths)} pictures, found {len(boxes)}")
        self.size = size
        self.on_error: Literal["refuse", "skip"] = on_error
        self.boxes = (None,) * len(self.paths) if boxes is None else boxes
        shape = (len(self.paths), *size, 3)
        # Fresh memory costs nothing until it is written to.
        self._cache = np.empty(shape, np.uint8) if np.prod(shape) <= cache_bytes else None
        self._seen = np.zeros(len(self.paths), bool)
        self._failures: dict[int, PictureError] = {}
        self._reported = 0
        threads = threads or thread_count()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the pictures of these rows as (B, H, W, 3) uint8 RGB. Raises PictureError where one cannot be read."""
        pixels, good = self._read(rows)
        if not good.all():
            raise self._failures[int(np.asarray(rows)[~good][0])]
        return pixels

    def stream(self, batches: Iterable[Sequence[int] | np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, pictures) for each batch of rows, in order; the next is read while the caller works on one.

        With "skip", rows that cannot be read are missing from what is yielded, and named on standard error at the end.
        """
        with ThreadPoolExecutor(1) as ahead:
            waiting = None
            for rows in batches:
                following = ahead.submit(self._read_readable, rows)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()
        self._report()

    def check(self) -> list[tuple[int, PictureError]]:
        """Decode every picture not decoded before; return the rows that cannot be read, each with the reason.

        With "skip" they are also named on standard error. Raises PictureError where there are any with "refuse", or
        where no picture at all can be read.
        """
        rows = np.flatnonzero(~self._seen)
        with progress.bar("checking pictures", len(rows)) as advance:
            for start in range(0, len(rows), 256):
                advance(len(self._read(rows[start : start + 256])[1]))
        self._report()
        return sorted(self._failures.items())

    @property
    def readable(self) -> np.ndarray:
        """The rows that can be used, ascending; calls `check`."""
        failed = [row for row, _ in self.check()]
        return np.delete(np.arange(len(self)), failed)

    def _read_readable(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.on_error == "refuse":
            return np.asarray(rows, np.intp), self.batch(rows)
        pixels, good = self._read(rows)
        return np.asarray(rows, np.intp)[good], pixels[good]

    def _read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (B, H, W, 3) and for each row whether it could be read; where not, its pixels mean nothing."""
        rows = np.asarray(rows, np.intp)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"expected rows from 0 to {len(self) - 1}, found {rows.min()} to {rows.max()}")
        if self._cache is None:
            pixels = np.empty((len(rows), *self.size, 3), np.uint8)
            self._decode_into(pixels, range(len(rows)), rows)
        else:
            missing = np.unique(rows[~self._seen[rows]])
            self._decode_into(self._cache, missing, missing)
            pixels = self._cache[rows]
        return pixels, np.array([int(row) not in self._failures for row in rows], bool)

    def _decode_into(self, pixels: np.ndarray, places: Sequence[int] | np.ndarray, rows: np.ndarray) -> None:
        def decode(place: int, row: int) -> None:
            if row not in self._failures:
                try:
                    pixels[place] = read_pixels(self.paths[row], self.size, self.boxes[row])
                except PictureError as error:
                    self._failures[row] = error
            self._seen[row] = True

        spread = map if self._pool is None or len(rows) == 1 else self._pool.map
        for _ in spread(decode, places, rows.tolist()):
            pass

    def _report(self) -> None:
        if not self._failures:
            return
        first = sorted(self._failures.items())[:3]
        names = ", ".join(str(self.paths[row]) for row, _ in first) + (", ..." if len(self._failures) > 3 else "")
        found = f"{len(self._failures):,} of {len(self):,} pictures cannot be read"
        if self.on_error == "refuse" or len(self._failures) == len(self):
            raise PictureError(f"{found}, the first: {first[0][1]}")
        if len(self._failures) != self._reported:
            self._reported = len(self._failures)
            line = f"{found} and are left out: {names}. The first: {first[0][1]}"
            progress.console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _decode(file: BinaryIO, name: str) -> Image.Image:
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise _too_large(name, f"{width} x {height}")
            picture.load()
            return _to_rgb(_upright(picture), name)
    except (PictureError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from None
    except UnidentifiedImageError:
        raise _not_a_picture(file, name) from None
    except Exception as error:  # decoders raise all sorts of things on damaged files
        raise PictureError(
            f"{name}: expected a whole picture, found a truncated or damaged one ({error}); replace or remove it"
        ) from None


def _too_large(name: str, found: str) -> PictureError:
    return PictureError(
        f"{name}: expected at most {MAX_PIXELS:,} pixels, found {found}; cut the person out, or shrink it"
    )


def _not_a_picture(file: BinaryIO, name: str) -> PictureError:
    file.seek(0)
    found, advice = "something else" if file.read(1) else "an empty file", "replace it or leave it out"
    if (mimetypes.guess_type(name)[0] or "").startswith("video/"):
        found, advice = "a video", "partalign people cuts the persons out of it"
    return PictureError(f"{name}: expected a picture ({', '.join(FORMATS)}), found {found}; {advice}")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        rotation = _ROTATIONS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return picture
    return picture if rotation is None else picture.transpose(rotation)


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _from_16_bit(picture, name)
    if picture.mode in ("F", "LAB"):
        raise PictureError(
            f"{name}: expected 8 or 16 bits per value, found mode {picture.mode}; convert it to 8-bit RGB"
        )
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*_GROUND, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _from_16_bit(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(f"{name}: expected grey values of 16 bits, found 32 bits; convert it to 8-bit grey")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _cut(picture: Image.Image, box: Box, name: str) -> Image.Image:
    left, top, width, height = box
    # Whole pixels: a person cut out of a frame is the same as the crop saved to a file and read again.
    right, bottom = min(round(left + width), picture.width), min(round(top + height), picture.height)
    left, top = max(round(left), 0), max(round(top), 0)
    if left >= right or top >= bottom:
        raise PictureError(
            f"{name}: expected a box inside {picture.width} x {picture.height} pixels, found "
            f"(left, top, width, height) = {tuple(box)}; correct or leave out the box"
        )
    return picture.crop((left, top, right, bottom))
