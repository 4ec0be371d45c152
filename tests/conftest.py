import os
from pathlib import Path

import pytest

# One thread: the suite runs one process per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real crops, weights and protocol files, which is not part of the project."""
    root = Path(os.environ.get("PARTALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data at {root}: set PARTALIGN_SHARED to run this test")
    return root
