import subprocess
import sys

import pytest

from partalign import datasets
from partalign.errors import DatasetError


def test_unknown_name(tmp_path):
    with pytest.raises(DatasetError, match=r"found 'Market-1501'; did you mean market1501\?"):
        datasets.load_dataset("Market-1501", tmp_path)
    with pytest.raises(DatasetError, match=r"expected a data set of market1501, .*found 'xyz'; choose one"):
        datasets.load_dataset("xyz", tmp_path)


def test_names_lead_to_readers(tmp_path):
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice/1.jpg").touch()
    assert datasets.load_dataset("folder", str(tmp_path)).gallery[0].person == "alice"
    with pytest.raises(DatasetError, match="bounding_box_train, query and bounding_box_test, found alice"):
        datasets.load_dataset("market1501", str(tmp_path))


def test_importing_data_sets_imports_no_torch_and_no_pillow():
    modules = "market1501, folder, keypoints"
    script = f"import sys; from partalign.datasets import load_dataset, {modules}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "partalign.datasets.folder" in loaded
    assert not loaded & {"torch", "PIL", "rich", "pydantic", "matplotlib", "scipy"}
