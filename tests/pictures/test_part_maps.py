import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partalign.crops import Crop
from partalign.datasets.keypoints import examples_from_csv
from partalign.errors import ShapeError
from partalign.pictures.part_maps import (
    draw_heat,
    draw_panels,
    draw_skeleton,
    fit_map_colours,
    joint_heat,
    joint_parts,
    limb_heat,
)
from partalign.pictures.theme import DARK, LIGHT

# A person who faces us: the own right side is left in the picture.
HEAD = [(32, 12), (32, 26)]
ARMS = [(20, 26), (14, 44), (12, 60), (44, 26), (50, 44), (52, 60)]
LEGS = [(25, 66), (24, 90), (23, 114), (39, 66), (40, 90), (41, 114)]
EYES_AND_EARS = [(29, 9), (35, 9), (25, 11), (39, 11)]
STANDING = np.array([(x / 64, y / 128, 1) for x, y in (*HEAD, *ARMS, *LEGS, *EYES_AND_EARS)])
RIGHT_SIDE = (2, 3, 4, 8, 9, 10, 14, 16)
ORANGE, BLUE, YELLOW, GREY = (255, 122, 26), (57, 177, 255), (255, 224, 138), (128, 128, 128)


@pytest.fixture
def crop():
    return Image.new("RGB", (64, 128), GREY)


def pixel(picture: Image.Image, joint) -> tuple[int, ...]:
    return picture.getpixel((int(joint[0] * picture.width), int(joint[1] * picture.height)))


def without(joint: int) -> np.ndarray:
    joints = STANDING.copy()
    joints[joint] = 0
    return joints


def test_sides_have_their_colours(crop):
    drawn = draw_skeleton(crop, STANDING, height=512)
    assert drawn.size == (256, 512)
    for joint in range(18):
        expected = YELLOW if joint < 2 else ORANGE if joint in RIGHT_SIDE else BLUE
        assert pixel(drawn, STANDING[joint]) == expected
    for limb, expected in (((9, 10), ORANGE), ((1, 8), ORANGE), ((12, 13), BLUE), ((1, 5), BLUE), ((1, 0), YELLOW)):
        assert pixel(drawn, STANDING[list(limb)].mean(axis=0)) == expected


def test_limbs_from_shoulder_to_ear_are_not_drawn(crop):
    joints = np.zeros((18, 3))
    joints[[2, 16]] = STANDING[[2, 16]]
    drawn = draw_skeleton(crop, joints, height=512)
    assert pixel(drawn, STANDING[16]) == ORANGE
    assert pixel(drawn, STANDING[[2, 16]].mean(axis=0)) == GREY


@pytest.mark.parametrize("joint", range(18))
def test_a_missing_joint_and_its_limbs_are_left_out(crop, joint):
    drawn = draw_skeleton(crop, without(joint), height=512)
    assert pixel(drawn, STANDING[joint]) == GREY
    # An unknown joint has no place, whatever stands in its row.
    elsewhere = STANDING.copy()
    elsewhere[joint] = (0.9, 0.9, 0)
    assert drawn.tobytes() == draw_skeleton(crop, elsewhere, height=512).tobytes()
    others = [j for j in range(18) if j != joint]
    assert all(pixel(drawn, STANDING[j]) in (ORANGE, BLUE, YELLOW) for j in others)


def test_a_limb_needs_both_its_joints(crop):
    drawn = draw_skeleton(crop, without(10), height=512)
    assert pixel(drawn, STANDING[9]) == ORANGE
    assert pixel(drawn, STANDING[[9, 10]].mean(axis=0)) == GREY


def test_nothing_is_drawn_where_no_joint_is_known(crop):
    assert draw_skeleton(crop, np.zeros((18, 3)), height=128).tobytes() == crop.tobytes()


def test_joints_outside_the_picture_do_no_harm(crop):
    joints = STANDING.copy()
    joints[10] = (24 / 64, 1.2, 1)
    assert pixel(draw_skeleton(crop, joints, height=512), (24 / 64, 0.95)) == ORANGE


def test_joints_of_another_shape_are_refused(crop):
    with pytest.raises(ShapeError, match=r"\(18, 3\).*found \(18, 2\)"):
        draw_skeleton(crop, STANDING[:, :2])


def test_joints_of_a_real_crop_lie_where_the_key_point_file_says(shared):
    path = next((shared / "data/Market-1501-v15.09.15").rglob("0224_c6s1_055726_02.jpg"))
    (joints,) = examples_from_csv(shared / "data/market1501-keypoints/openpose18.csv", [Crop(path)]).joints
    with Image.open(path) as crop:
        drawn = draw_skeleton(crop, joints, height=1024)
    # The file's own line, pixels of the 64 x 128 crop: neck, wrists and ankles.
    for (x, y), expected in (
        ((37, 23), YELLOW),
        ((8, 60), ORANGE),
        ((53, 60), BLUE),
        ((24, 118), ORANGE),
        ((45, 108), BLUE),
    ):
        assert pixel(drawn, ((x + 0.5) / 64, (y + 0.5) / 128)) == expected


def test_joint_heat_is_the_strongest_joint_without_the_background():
    maps = np.zeros((19, 4, 3))
    maps[3, 1, 2], maps[7, 1, 2], maps[18] = 0.4, 0.9, 1.0
    heat = joint_heat(maps)
    assert heat[1, 2] == 0.9
    assert heat.sum() == 0.9


def test_limb_heat_is_the_length_of_the_longest_limb():
    maps = np.zeros((38, 4, 3))
    maps[6:8, 2, 1] = -0.3, 0.4
    maps[8:10, 2, 1] = 0.1, 0.1
    heat = limb_heat(maps)
    assert heat[2, 1] == pytest.approx(0.5)
    assert np.count_nonzero(heat) == 1
    with pytest.raises(ShapeError, match="2 L"):
        limb_heat(maps[:37])


def test_no_heat_leaves_a_dark_grey_crop_and_heat_is_warm(crop):
    heat = np.zeros((16, 8))
    cold = np.asarray(draw_heat(Image.new("RGB", (64, 128), (200, 100, 50)), heat, height=256))
    assert np.ptp(cold, axis=2).max() == 0
    assert cold.max() < 100
    heat[4, 2] = 1
    warm = draw_heat(crop, heat, height=256)
    red, _, blue = warm.getpixel((int(2.5 * 16), int(4.5 * 16)))
    assert red > 200 > 150 > blue
    assert np.ptp(np.asarray(warm)[200:], axis=2).max() == 0


def test_heat_rises_in_brightness_so_that_it_reads_in_grey():
    ramp = np.tile(np.linspace(0, 1, 64), (128, 1))
    grey = np.asarray(draw_heat(Image.new("RGB", (64, 128)), ramp, height=128).convert("L")).astype(int)
    assert (np.diff(grey[64, 2:-2]) >= -1).all()
    assert grey[64, -3] > grey[64, 2] + 150


def made_maps(seed: int, count: int = 6, channels: int = 12) -> np.ndarray:
    """Maps with four strong directions of clearly different strength, so that the principal axes are unambiguous."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:5]
    weights = rng.normal(size=(count, 8, 4, 5)) * (0.0, 2.0, 1.2, 0.6, 0.1) + (4, 0, 0, 0, 0)
    return np.einsum("nhwk,kc->nchw", weights, basis)


def test_the_projection_equals_a_plain_pca_of_all_unit_descriptors():
    maps = made_maps(0)
    rows = np.stack([maps[n, :, y, x] for n in range(6) for y in range(8) for x in range(4)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    _, values, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    colours = fit_map_colours([maps])
    np.testing.assert_allclose(colours.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(colours.spread, values[:3] / np.sqrt(len(rows)), atol=1e-9)
    np.testing.assert_allclose(np.abs(colours.axes @ axes[:3].T), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_axes_point_the_same_way_on_every_machine(seed):
    axes = fit_map_colours([made_maps(seed)]).axes
    assert (axes.max(axis=1) == np.abs(axes).max(axis=1)).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, 5)), order=st.permutations(range(6)))
def test_colours_do_not_depend_on_how_pictures_are_batched(seed, cuts, order):
    maps = made_maps(seed)
    together = fit_map_colours([maps])
    apart = fit_map_colours(np.split(maps[order], sorted(cuts)))
    for colours in (together, apart):
        np.testing.assert_allclose(colours.axes, together.axes, atol=1e-6)
        np.testing.assert_allclose(colours.mean, together.mean, atol=1e-9)
    whole = together.paint(maps, (4, 8))
    single = [together.paint(maps[i : i + 1], (4, 8))[0] for i in range(6)]
    assert [p.tobytes() for p in whole] == [p.tobytes() for p in single]


def test_the_same_descriptor_has_the_same_colour_in_every_picture():
    maps = made_maps(1)
    maps[0, :, 2, 1] = maps[4, :, 6, 3]
    maps[3, :, 0, 0] = 7.5 * maps[4, :, 6, 3]
    painted = fit_map_colours([maps]).paint(maps, (4, 8))
    assert painted[0].getpixel((1, 2)) == painted[4].getpixel((3, 6)) == painted[3].getpixel((0, 0))
    colours = {p for picture in painted for _, p in picture.getcolors()}
    assert len(colours) > 100


def test_pictures_are_upsampled_smoothly_to_the_size_of_the_crop():
    maps = made_maps(2, count=1)
    (small,), (large,) = (fit_map_colours([maps]).paint(maps, size) for size in ((4, 8), (128, 256)))
    assert large.size == (128, 256)
    steps = np.abs(np.diff(np.asarray(large).astype(int), axis=0)).max()
    coarse = np.abs(np.diff(np.asarray(small).astype(int), axis=0)).max()
    assert steps < coarse / 8


def test_constant_maps_are_grey_and_zero_descriptors_are_allowed():
    maps = np.ones((2, 5, 3, 2))
    assert fit_map_colours([maps]).paint(maps, (2, 3))[0].getcolors() == [(6, (128, 128, 128))]
    maps[0, :, 0, 0] = 0
    assert len(fit_map_colours([maps]).paint(maps, (2, 3))[0].getcolors()) == 2


@pytest.mark.parametrize(
    "batches",
    [[], [np.ones((2, 2, 4, 4))], [np.ones((2, 5, 4, 4)), np.ones((2, 6, 4, 4))], [np.ones((5, 4, 4))]],
    ids=["none", "two channels", "other channels", "no batch"],
)
def test_maps_that_cannot_be_fitted_are_refused(batches):
    with pytest.raises(ShapeError, match="expected maps"):
        fit_map_colours(batches)


def test_maps_unlike_those_fitted_are_refused():
    with pytest.raises(ShapeError, match=r"expected maps \(N, 12, H, W\)"):
        fit_map_colours([made_maps(0)]).paint(np.ones((1, 5, 4, 4)), (4, 4))


def test_panels_stand_side_by_side_on_the_page_s_paper(crop):
    red = Image.new("RGB", (32, 64), "red")
    for theme in (LIGHT, DARK):
        sheet = draw_panels({"input": crop, "parts": red}, height=200, theme=theme)
        assert sheet.getpixel((50, sheet.height - 100)) == (128, 128, 128)
        assert sheet.getpixel((sheet.width - 50, sheet.height - 100)) == (255, 0, 0)
        assert "#{:02x}{:02x}{:02x}".format(*sheet.getpixel((0, 0))) == theme.paper


def test_a_place_is_the_joint_whose_map_is_highest_if_it_is_high_enough():
    maps = np.random.default_rng(0).uniform(-0.2, 0.6, (3, 6, 4, 2))
    found = joint_parts(maps, threshold=0.45)
    assert found.shape == (3, 5, 4, 2)
    for n, y, x in np.ndindex(3, 4, 2):
        joints = maps[n, :5, y, x].tolist()
        expected = [float(value == max(joints) and value >= 0.45) for value in joints]
        assert found[n, :, y, x].tolist() == expected
    assert (found.sum(axis=1) == 0).any()
    with pytest.raises(ShapeError, match="background last"):
        joint_parts(maps[0])
