"""Pictures to files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from partalign.errors import SaveError
from partalign.files import atomic_file


def check_target(path: Path) -> Path:
    """Return the path of a picture to write. Raises SaveError where its name does not end in .png.

    To be called before work that takes minutes.
    """
    path = Path(path)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise SaveError(f"{path}: expected the name of a picture that ends in .png; choose another --out")
    return path


def save_picture(picture: Image.Image, path: Path, *, colours: int | None = None, dither: bool = False) -> None:
    """Write a PNG file, atomically. Raises SaveError.

    colours: so many at the most, which makes photographs several times smaller. dither: mix the others of dots.
    """
    if colours is not None:
        picture = picture.convert("RGB")
        fewer = picture.quantize(colours)
        # Pillow mixes colours only towards a palette that is given.
        picture = picture.quantize(palette=fewer, dither=Image.Dither.FLOYDSTEINBERG) if dither else fewer
    with atomic_file(check_target(path)) as file:
        picture.save(file, "PNG", optimize=True)
