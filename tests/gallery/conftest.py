"""Galleries for tests: one on disk, one on a real PostgreSQL server that these tests start."""

import itertools
import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from gallery_records import MODEL, start_server
from partalign.gallery import open_gallery


@pytest.fixture(scope="session")
def postgres():
    """The address of a server."""
    folder = Path(tempfile.mkdtemp(prefix="partalign-postgres-"))
    server = start_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["embedded", "server"])
def address(request, tmp_path):
    """Where a gallery can be made: a folder, or a name on the server."""
    if request.param == "embedded":
        return str(tmp_path / "gallery")
    uri = request.getfixturevalue("postgres")
    return f"{uri}{'&' if '?' in uri else '?'}gallery=g{os.getpid()}_{next(_numbers)}"


_numbers = itertools.count()


@pytest.fixture
def gallery(address):
    with closing(open_gallery(address, model=MODEL, create=True)) as made:
        yield made
