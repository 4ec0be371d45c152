"""Targets, loss, decoding and PCK of the part stream as a pose network."""

import json

import numpy as np
import pytest
import torch

from partalign.datasets.keypoints import LIMBS, MIRROR, PoseExamples, mirror
from partalign.model.joints import find_joints
from partalign.model.parts import PoseMaps
from partalign.training.pose import (
    joint_targets,
    limb_targets,
    pck,
    pose_loss,
    pretrain_parts,
    reduced_joints,
)
from partalign.training.settings import PoseSettings, make_settings
from partalign.weights.checkpoint import read_checkpoint


def some_joints(count=4, seed=0, missing=0.2):
    draw = np.random.default_rng(seed)
    joints = draw.uniform(0.1, 0.9, (count, 18, 3)).astype(np.float32)
    joints[..., 2] = draw.random((count, 18)) > missing
    joints[..., :2] *= joints[..., 2:]
    return torch.from_numpy(joints)


def test_joint_maps_peak_at_their_joints_and_the_background_is_the_rest():
    joints = some_joints()
    maps, known = joint_targets(joints, (20, 10), sigma=1.0)
    assert maps.shape == (4, 19, 20, 10)
    for crop in range(4):
        for joint in range(18):
            x, y, seen = joints[crop, joint].tolist()
            assert bool(known[crop, joint]) == bool(seen)
            if seen:
                row, column = divmod(int(maps[crop, joint].argmax()), 10)
                assert abs(row + 0.5 - y * 20) <= 0.5001
                assert abs(column + 0.5 - x * 10) <= 0.5001
            else:
                assert not maps[crop, joint].any()
    torch.testing.assert_close(maps[:, 18], 1 - maps[:, :18].amax(1))


def test_limb_maps_equal_a_loop_over_cells():
    joints = some_joints(2, seed=1)
    maps, known = limb_targets(joints, (12, 8), half_width=0.5)
    for crop in range(2):
        for limb, (a, b) in enumerate(LIMBS):
            both = bool(joints[crop, a, 2] * joints[crop, b, 2])
            assert known[crop, 2 * limb] == known[crop, 2 * limb + 1] == both
            start, end = (joints[crop, j, :2].numpy() * (8, 12) - 0.5 for j in (a, b))
            length = max(np.linalg.norm(end - start), 1e-6)
            unit = (end - start) / length
            for y in range(12):
                for x in range(8):
                    along = (np.array([x, y]) - start) @ unit
                    across = abs((x - start[0]) * unit[1] - (y - start[1]) * unit[0])
                    on = both and -0.5 <= along <= length + 0.5 and across <= 0.5
                    expected = unit if on else (0, 0)
                    np.testing.assert_allclose(maps[crop, 2 * limb : 2 * limb + 2, y, x], expected, atol=1e-5)


def test_decoding_the_true_maps_finds_the_joints():
    joints = some_joints(16, seed=2, missing=0)
    for size in ((20, 10), (10, 5)):
        maps, _ = joint_targets(joints, size, sigma=1.0)
        found = torch.from_numpy(find_joints(maps.numpy())[..., :2]).float()
        cells = (found - joints[..., :2]) * torch.tensor([size[1], size[0]])
        assert cells.norm(dim=2).mean() < 0.1
        assert pck(found, joints, (160, 80))[0] > 0.99


def test_pck_counts_seen_joints_within_a_tenth_of_the_body():
    true = torch.zeros(1, 18, 3)
    true[0, :, 2] = 1
    true[0, :, 0] = 0.5
    true[0, :, 1] = torch.linspace(0, 1, 18)
    found = true[..., :2].clone()
    found[0, 0, 1] += 0.09
    found[0, 1, 1] += 0.11
    found[0, 2, 0] += 0.19  # of a width that is half the height
    true[0, 3, 2] = 0
    found[0, 3] = 7
    share, per_joint = pck(found, true, (160, 80))
    assert share == pytest.approx(16 / 17)
    assert per_joint[1] == 0
    assert per_joint[0] == per_joint[2] == 1


def test_the_loss_is_zero_for_perfect_maps_and_blind_to_unknown_joints():
    joints = some_joints(3, seed=4)
    heat, heat_known = joint_targets(joints, (20, 10), 1.0)
    limbs, limb_known = limb_targets(joints, (20, 10), 0.5)
    assert pose_loss([PoseMaps(limbs, heat)] * 2, joints, 1.0, 0.5).item() == pytest.approx(0, abs=1e-8)
    nonsense = torch.randn(3, 19, 20, 10) * ~heat_known[..., None, None]
    wild = torch.randn(3, 38, 20, 10) * ~limb_known[..., None, None]
    assert nonsense.any()
    assert pose_loss([PoseMaps(limbs + wild, heat + nonsense)], joints, 1.0, 0.5).item() == pytest.approx(0, abs=1e-8)
    assert pose_loss([PoseMaps(limbs + 0.1, heat)], joints, 1.0, 0.5).item() > 0.01


def test_a_mirrored_picture_has_mirrored_maps_with_sides_swapped():
    joints = some_joints(2, seed=5)
    turned = torch.from_numpy(mirror(joints.numpy()))
    maps, _ = joint_targets(joints, (20, 10), 1.0)
    again, _ = joint_targets(turned, (20, 10), 1.0)
    torch.testing.assert_close(again[:, :18], maps[:, MIRROR].flip(3), atol=1e-5, rtol=0)


def test_reduced_joints_average_what_is_seen_of_the_face():
    joints = torch.zeros(1, 18, 3)
    joints[0, 0] = torch.tensor([0.4, 0.1, 1.0])
    joints[0, 16] = torch.tensor([0.6, 0.2, 1.0])
    joints[0, 5] = torch.tensor([0.7, 0.3, 1.0])
    reduced = reduced_joints(joints)
    assert reduced.shape == (1, 14, 3)
    torch.testing.assert_close(reduced[0, 0], torch.tensor([0.5, 0.15, 1.0]))
    torch.testing.assert_close(reduced[0, 5], joints[0, 5])
    assert reduced[0, 1, 2] == 0


@pytest.mark.parametrize("parts", ["light", "rcpm"])
def test_pretraining_lowers_the_loss_and_leaves_a_loadable_stream(parts, tiny_market, tmp_path):
    paths = tuple(sorted((tiny_market / "Market-1501-v15.09.15/bounding_box_train").iterdir()))
    joints = np.tile(some_joints(1, seed=6, missing=0).numpy(), (len(paths), 1, 1))
    examples = PoseExamples(paths, (None,) * len(paths), joints)
    network = {"parts": parts, "height": 64, "width": 32} | ({"appearance": "light"} if parts == "light" else {})
    settings = make_settings(
        PoseSettings, {"network": network, "batch": 8, "epochs": 5, "warmup": 2, "held_out": 0.2, "rate": 2e-3}, "test"
    )
    path, results = pretrain_parts(settings, examples, tmp_path / "pose")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "pose/log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.7 * losses[0]
    assert 0 <= results["pck"] <= 1
    tensors, description = read_checkpoint(path)
    assert description["stream"] == parts
    assert not any(name.startswith(("feature.", "norm.")) for name in tensors)
