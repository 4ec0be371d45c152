"""partalign generate, partalign convert, partalign recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def generate(
    folder: Path,
    *,
    persons: int = 200,
    crops: int = 12,
    cameras: int = 6,
    height: int = 128,
    width: int = 64,
    misalignment: float = 1.0,
    occlusion: float = 0.25,
    seed: int = 0,
) -> None:
    """Write a data set of generated people, with joints, in Market-1501's layout; nobody's consent is needed.

    Example: partalign generate people --persons 150 --height 96 --width 48

    Args:
        folder: where to write; work that is already there is not done again
        persons: identities, half of them for training
        crops: crops of each person, spread over the cameras
        cameras: cameras
        height: of a crop, in pixels
        width: of a crop, in pixels
        misalignment: how badly the boxes fit, 0 (exactly) to 1 (as a poor detector's)
        occlusion: share of the crops with something in front of the person
        seed: another seed is another world
    """
    from partalign.datasets.generated import World

    world = World(
        seed=seed, persons=persons, cameras=cameras, crops_per_person=crops, height=height, width=width,
        misalignment=misalignment, occlusion=occlusion,
    )  # fmt: skip
    split = world.write(folder)
    print(f"{folder}: {len(split.train)} training, {len(split.query)} query, {len(split.gallery)} gallery crops")
    print(f"joints: {folder / 'keypoints.csv'}")


def convert(kind: Literal["caffe", "openpose", "official"], source: Path, target: Path) -> None:
    """Turn foreign weights into partalign's own format; nothing in them is executed.

    Example: partalign convert caffe bvlc_googlenet.caffemodel weights/googlenet.safetensors

    Args:
        kind: caffe (GoogLeNet), openpose (.caffemodel or its PyTorch port), official (the authors' checkpoint)
        source: the file to read
        target: the .safetensors file to write
    """
    from partalign.weights.checkpoint import convert as run

    run(kind, source, target)
    print(target)


def recipes() -> None:
    """List the shipped recipes.

    Example: partalign recipes
    """
    import tomllib

    from partalign.training.settings import shipped_recipes

    for name, path in shipped_recipes().items():
        print(f"{name:28}{tomllib.loads(path.read_text()).get('title', '')}")
