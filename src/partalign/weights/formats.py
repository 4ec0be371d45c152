"""What kind of file lies at a path, told by its first bytes and not by its name. Nothing is parsed or loaded here."""

import hashlib
from pathlib import Path

from partalign.errors import WeightsError

_BEGINNINGS = (
    (b"PK\x03\x04", "a PyTorch file"),
    (b"\x80\x02\x8a\x0a", "a PyTorch file"),  # before PyTorch 1.6: bare pickles, the first is a magic number
    (b"\x80", "a Python pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive, unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, fetch the file itself"),
    (b"<", "a web page or XML, not a download"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x89PNG", "a picture"),
)


def kind_of_file(path: Path) -> str:
    """Say what `path` holds in a few words, such as "a PyTorch file". Raises WeightsError if there is no such file."""
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise WeightsError(f"{path}: expected a weight file, found {found}: check the path")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}): check its permissions") from None
    if not head:
        return "an empty file"
    if head[8:9] == b"{" and head[6:8] == b"\0\0":
        return "a safetensors file"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    text = head.isascii() and all(chr(byte).isprintable() or chr(byte).isspace() for byte in head)
    return "a text file" if text else "an unknown kind of file"


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_one_line(text: object, most: int = 80) -> str:
    """Make text from inside a file fit for a one-line message: no control characters, not endless."""
    shown = str(text).encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= most else f"{shown[:most]}..."
