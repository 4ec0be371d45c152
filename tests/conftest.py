import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# One thread: the suite runs one process per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long one example takes says how busy the machine is, not whether it is right.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def all_converted(tmp_path_factory) -> Path:
    """Where this run of the tests keeps converted models: not in the user's cache."""
    os.environ["PARTALIGN_CACHE"] = str(tmp_path_factory.mktemp("converted"))
    return Path(os.environ["PARTALIGN_CACHE"])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real crops, weights and protocol files, which is not part of the project."""
    root = Path(os.environ.get("PARTALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data at {root}: set PARTALIGN_SHARED to run this test")
    return root


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory) -> Path:
    """A folder in Market-1501's layout: 8 training and 4 test persons, each three bands of colour, two cameras."""
    root = tmp_path_factory.mktemp("tiny") / "Market-1501-v15.09.15"
    draw = np.random.default_rng(0)

    def write(folder: str, person: int, camera: int, frame: int, colours: np.ndarray) -> None:
        (root / folder).mkdir(parents=True, exist_ok=True)
        bands = np.repeat(colours, [12, 26, 26], axis=0)[:, None] * np.ones((1, 32, 1))
        tint = np.array([1.0, 1.0, 1.0] if camera == 1 else [1.5, 0.7, 1.0])
        noisy = bands * tint + draw.normal(0, 20, (64, 32, 3))
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        picture.save(root / folder / f"{person:04d}_c{camera}s1_{frame:06d}_01.jpg", quality=95)

    for person in range(1, 13):
        colours = draw.uniform(60, 170, (3, 3))
        for camera in (1, 2):
            if person <= 8:
                for frame in range(3):
                    write("bounding_box_train", person, camera, frame, colours)
            else:
                write("query", person, camera, 0, colours)
                write("bounding_box_test", person, camera, 1, colours)
                write("bounding_box_test", person, camera, 2, colours)
    return root.parent


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """A folder with a light network: light.safetensors, and exported as light.onnx and pixels.onnx."""
    pytest.importorskip("onnxruntime")
    import torch

    from partalign.evaluation.calibration import Calibration
    from partalign.export import export_onnx
    from partalign.model.network import NetworkSettings, build_network
    from partalign.weights.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    light = {"appearance": "light", "parts": "light", "appearance_channels": 32, "part_channels": 8, "dimension": 64}
    settings = NetworkSettings.model_validate({**light, "height": 64, "width": 32})
    description = {"kind": "network", "network": settings.model_dump(mode="json"), "results": {"mAP": 0.5}}
    calibration = Calibration(12.0, -4.0, 10, 20, 0.1, 0.01).as_dict()
    network = build_network(settings)
    save_checkpoint(folder / "light.safetensors", network.state_dict(), description | {"calibration": calibration})
    export_onnx(folder / "light.safetensors", folder / "light.onnx")
    export_onnx(folder / "light.safetensors", folder / "pixels.onnx", preprocessing=True)
    return folder
