import subprocess
import sys

import partalign


def test_the_public_names_are_these():
    expected = "load_dataset load_model PartAlignedNetwork Embedder TrainSettings train evaluate explain"
    assert partalign.__all__ == [*expected.split(), "open_gallery", "Match", "PartAlignError"]
    for name in partalign.__all__:
        assert getattr(partalign, name).__doc__, name


def test_importing_partalign_loads_no_heavy_library():
    program = "import partalign, sys; print([m for m in ('torch', 'numpy', 'PIL', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
