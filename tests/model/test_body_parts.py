"""Body parts of places, on people whose joints are known."""

import numpy as np
import pytest

from partalign.crops import Crop
from partalign.datasets.keypoints import JOINTS, examples_from_csv
from partalign.model.body_parts import PARTS, assign_places
from partalign.model.parts import OPENPOSE_JOINTS, RCPM_JOINTS

STANDING = {
    "head": (0.5, 0.1), "nose": (0.5, 0.1), "right eye": (0.48, 0.09), "left eye": (0.52, 0.09),
    "right ear": (0.45, 0.1), "left ear": (0.55, 0.1), "neck": (0.5, 0.2),
    "right shoulder": (0.35, 0.21), "right elbow": (0.2, 0.33), "right wrist": (0.12, 0.45),
    "left shoulder": (0.65, 0.21), "left elbow": (0.8, 0.33), "left wrist": (0.88, 0.45),
    "right hip": (0.4, 0.5), "right knee": (0.37, 0.7), "right ankle": (0.35, 0.9),
    "left hip": (0.6, 0.5), "left knee": (0.63, 0.7), "left ankle": (0.65, 0.9),
}  # fmt: skip
"""x, y as fractions of a crop; right and left are the person's own, seen from the front."""

LANDMARKS = {
    (0.5, 0.07): "head", (0.5, 0.35): "torso", (0.16, 0.39): "arms", (0.84, 0.39): "arms",
    (0.38, 0.62): "legs", (0.355, 0.81): "legs", (0.645, 0.81): "legs", (0.345, 0.95): "feet", (0.65, 0.95): "feet",
    (0.05, 0.05): "background", (0.95, 0.8): "background", (0.5, 0.97): "background",
}  # fmt: skip
"""The middle of the shin and of the forearm are far from any joint."""


def draw(joints, names, size=(20, 10), sigma=1.0):
    """Gaussians of height 1, in cells of the map, and the background."""
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in size), indexing="ij")
    heat = []
    for name in names[:-1]:
        if name not in joints:
            heat.append(np.zeros(size))
            continue
        cx, cy = joints[name][0] * size[1], joints[name][1] * size[0]
        heat.append(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)))
    return np.stack([*heat, 1 - np.max(heat, axis=0)])


@pytest.mark.parametrize("names", [OPENPOSE_JOINTS, RCPM_JOINTS], ids=["openpose", "rcpm"])
@pytest.mark.parametrize("size", [(20, 10), (40, 20)], ids=str)
def test_places_get_the_part_that_lies_there(names, size):
    weights = assign_places(draw(STANDING, names), names, size)
    assert weights.shape == (6, *size)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-12)
    for (x, y), part in LANDMARKS.items():
        here = weights[:, int(y * size[0]), int(x * size[1])]
        assert PARTS[here.argmax()] == part, (x, y, here.round(2))


@pytest.mark.parametrize("names", [OPENPOSE_JOINTS, RCPM_JOINTS], ids=["openpose", "rcpm"])
def test_a_mirrored_person_has_mirrored_parts(names):
    swapped = {"right": "left", "left": "right"}
    mirrored = {}
    for name, (x, y) in STANDING.items():
        side, _, rest = name.partition(" ")
        mirrored[f"{swapped[side]} {rest}" if side in swapped else name] = (1 - x, y)
    bent = STANDING | {"right wrist": (0.3, 0.2), "left knee": (0.8, 0.6)}
    bent_mirrored = mirrored | {"left wrist": (0.7, 0.2), "right knee": (0.2, 0.6)}
    plain, other = (assign_places(draw(joints, names), names, (20, 10)) for joints in (bent, bent_mirrored))
    np.testing.assert_allclose(other, plain[..., ::-1], atol=1e-9)


def test_what_is_not_seen_is_background():
    names = OPENPOSE_JOINTS
    nothing = assign_places(np.zeros((19, 20, 10)), names, (10, 5))
    np.testing.assert_array_equal(nothing[-1], np.ones((10, 5)))
    above = {name: place for name, place in STANDING.items() if "knee" not in name and "ankle" not in name}
    cut = assign_places(draw(above, names), names, (20, 10))
    whole = assign_places(draw(STANDING, names), names, (20, 10))
    legs, feet = PARTS.index("legs"), PARTS.index("feet")
    assert cut[[legs, feet]].max() < 1e-9
    assert whole[[legs, feet]].sum() > 15
    np.testing.assert_allclose(cut[0], whole[0], atol=1e-9)


def test_a_joint_counts_in_full_from_half_a_response_and_a_weak_one_for_twice_its_response():
    names = RCPM_JOINTS
    heat = draw(STANDING, names)
    full = assign_places(heat, names, (20, 10))
    np.testing.assert_allclose(assign_places(0.65 * heat, names, (20, 10)), full, atol=1e-9)
    weak = assign_places(0.1 * heat, names, (20, 10))
    person, faint = 1 - full[-1], 1 - weak[-1]
    np.testing.assert_allclose(faint[person > 0.95], 0.17, atol=0.04)


@pytest.mark.shared
def test_real_people_stand_with_the_head_above_the_torso_above_the_legs_above_the_feet(shared):
    folder = shared / "data/Market-1501-v15.09.15/query"
    crops = [Crop(path) for path in sorted(folder.iterdir())[:100]]
    examples = examples_from_csv(shared / "data/market1501-keypoints/openpose18.csv", crops)
    whole = examples.joints[(examples.joints[..., 2] > 0).sum(1) >= 14]
    assert len(whole) >= 50
    sides, person = {"R": "right ", "L": "left "}, []
    for joints in whole:
        places = {
            (sides[name[0]] + name[1:].lower() if name[0] in sides else name.lower()): (x, y)
            for name, (x, y, seen) in zip(JOINTS, joints, strict=True)
            if seen
        }
        weights = assign_places(draw(places, OPENPOSE_JOINTS), OPENPOSE_JOINTS, (10, 5))
        person.append(1 - weights[-1].mean())
        centres = [(w * np.arange(10)[:, None]).sum() / w.sum() for w in weights[[0, 1, 3, 4]] if w.sum() > 0.5]
        assert len(centres) >= 3
        assert centres == sorted(centres)
    assert 0.3 < np.mean(person) < 0.7
