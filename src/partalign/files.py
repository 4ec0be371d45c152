"""Writing files so that a crash or a full disk loses nothing."""

import os
from contextlib import suppress
from pathlib import Path

from partalign.errors import SaveError


class atomic_file:  # noqa: N801 - used as a function
    """Context manager: a binary file that takes its name only when it is complete; else the old one stays.

    sync: wait until it is on the disk, so that it also outlives a power cut; too slow for thousands of small files.
    Raises SaveError where the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, *, sync: bool = True):
        self.path = Path(path)
        self._sync = sync
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")

    def __enter__(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
        except OSError as error:
            raise self._failure(error) from None
        return self._file

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._file.flush()
                if self._sync:
                    os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._partial.replace(self.path)
                return
        except OSError as failure:
            with suppress(OSError):  # closing writes what is left, and fails again on a full disk
                self._file.close()
            self._partial.unlink(missing_ok=True)
            raise self._failure(failure) from None
        self._partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> SaveError:
        return SaveError(
            f"{self.path}: cannot be written ({error.strerror or error}); free space or choose another place"
        )
