import numpy as np
import pytest
import torch
from PIL import Image

from partalign.embedding import Embedder
from partalign.errors import DatasetError, PictureError, ShapeError, WeightsError
from partalign.images import read_batch
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, build_network
from partalign.pictures.figures import body_parts, draw_local_descriptors, draw_maps
from partalign.pictures.local_maps import LocalMaps, choose_crops, read_local_maps
from partalign.weights.checkpoint import save_checkpoint

LIGHT_PAIR = {
    "appearance": "light", "parts": "light", "appearance_channels": 16, "part_channels": 8, "dimension": 32,
    "height": 64, "width": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(build_network(NetworkSettings.model_validate(LIGHT_PAIR)))


@pytest.fixture(scope="module")
def maps(embedder, tiny_market) -> LocalMaps:
    return read_local_maps(embedder, choose_crops(data=tiny_market, persons=3, each=4).crops)


def test_maps_are_the_embedder_s_and_joints_the_pose_head_s(embedder, maps):
    pixels = network_input(read_batch([crop.path for crop in maps.crops], (64, 32)))
    with torch.inference_mode():
        appearance, parts = embedder.network.maps(pixels)
        joints = embedder.network.parts.stages(pixels)[0][-1].joints
    for found, expected in ((maps.appearance, appearance), (maps.parts, parts), (maps.joints, joints)):
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert [picture.size for picture in maps.pictures] == [(32, 64)] * 12
    assert len(maps.joint_names) == 19 == maps.joints.shape[1]


def test_joints_come_from_a_pose_file_where_one_is_given(embedder, maps, tmp_path):
    torch.manual_seed(1)
    other = build_network(NetworkSettings.model_validate(LIGHT_PAIR)).parts
    save_checkpoint(tmp_path / "parts.safetensors", other.state_dict(), {"kind": "stream", "stream": "light"})
    with_pose = read_local_maps(embedder, maps.crops, tmp_path / "parts.safetensors")
    np.testing.assert_allclose(with_pose.parts, maps.parts, atol=1e-6)
    assert np.abs(with_pose.joints - maps.joints).max() > 1e-3
    # The network itself was left alone.
    np.testing.assert_allclose(read_local_maps(embedder, maps.crops).joints, maps.joints, atol=1e-6)


def test_a_baseline_and_no_crops_are_refused(embedder, tmp_path):
    baseline = build_network(NetworkSettings.model_validate({**LIGHT_PAIR, "parts": "none", "pooling": "average"}))
    with pytest.raises(WeightsError, match="without a part stream"):
        read_local_maps(Embedder(baseline), [])
    with pytest.raises(DatasetError, match="at least one crop"):
        read_local_maps(embedder, [])
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"broken\.jpg"):
        read_local_maps(embedder, choose_crops([tmp_path / "broken.jpg"]).crops)


def test_crops_of_a_data_set_are_drawn_by_lot_from_every_camera(tiny_market):
    choice = choose_crops(data=tiny_market, persons=3, each=4, others=5, seed=2)
    persons = [crop.person for crop in choice.shown]
    assert len(choice.shown) == 12
    assert [persons.count(person) for person in dict.fromkeys(persons)] == [4, 4, 4]
    assert persons == sorted(persons, key=persons.index)
    assert all({crop.camera for crop in choice.shown[k : k + 2]} == {"c1", "c2"} for k in range(0, 12, 4))
    assert len(set(choice.crops)) == 17
    assert choice == choose_crops(data=tiny_market, persons=3, each=4, others=5, seed=2)
    assert choice != choose_crops(data=tiny_market, persons=3, each=4, others=5, seed=3)


def test_few_pictures_are_all_shown_in_their_order_and_of_many_some(tiny_market, tmp_path):
    folder = tiny_market / "Market-1501-v15.09.15/query"
    files = sorted(folder.glob("*.jpg"), reverse=True)
    assert [crop.path for crop in choose_crops(files, persons=4, each=2).shown] == files
    assert len(choose_crops([folder], persons=2, each=2).shown) == 4
    for i in range(9):  # of nobody known
        Image.new("RGB", (32, 64), (25 * i, 0, 0)).save(tmp_path / f"{'abcdefghi'[i]}.png")
    assert len(choose_crops([tmp_path], persons=2, each=3, others=9).shown) == 6
    assert len(choose_crops([tmp_path], persons=2, each=3, others=9).crops) == 9


def test_pictures_and_a_data_set_at_once_or_neither_are_refused(tiny_market):
    for images, data in (([], None), ([tiny_market], tiny_market)):
        with pytest.raises(DatasetError, match="give one of the two"):
            choose_crops(images, data=data)


def test_maps_of_other_numbers_of_pictures_are_refused(maps):
    with pytest.raises(ShapeError, match="maps of 12 crops"):
        LocalMaps(maps.crops, maps.pictures, maps.appearance[:5], maps.parts, maps.joints, maps.joint_names)


def test_the_figures_repeat_and_their_variants_differ(maps):
    drawn = {
        "maps": draw_maps(maps, 6, height=64),
        "joints": draw_maps(maps, 6, joints=True, height=64),
        "against": draw_maps(maps, 6, against=maps, height=64),
        "tsne": draw_local_descriptors(maps, points=60, side=120),
    }
    assert drawn["maps"].tobytes() == draw_maps(maps, 6, height=64).tobytes()
    assert drawn["tsne"].tobytes() == draw_local_descriptors(maps, points=60, side=120).tobytes()
    assert drawn["tsne"].tobytes() != draw_local_descriptors(maps, points=60, side=120, seed=1).tobytes()
    assert drawn["maps"].size == drawn["joints"].size
    assert drawn["maps"].tobytes() != drawn["joints"].tobytes()
    assert drawn["against"].width > drawn["maps"].width  # two sets of five beside each other, for three of three


def test_figures_refuse_unknown_rows_and_maps_of_other_crops(maps):
    with pytest.raises(ShapeError, match="found heads"):
        draw_local_descriptors(maps, rows=["heads"])
    fewer = LocalMaps(
        maps.crops[:6], maps.pictures[:6], maps.appearance[:6], maps.parts[:6], maps.joints[:6], maps.joint_names
    )
    with pytest.raises(ShapeError, match="maps of the same crops"):
        draw_maps(maps, against=fewer)


def test_a_place_far_from_every_joint_is_background(maps):
    joints = np.zeros_like(maps.joints)
    nothing = LocalMaps(maps.crops, maps.pictures, maps.appearance, maps.parts, joints, maps.joint_names)
    assert (body_parts(nothing) == -1).all()
    names = list(maps.joint_names)
    joints[:, names.index("nose"), 1, 2], joints[:, names.index("neck"), 2, 2] = 1, 1
    found = body_parts(nothing)
    assert (found[:, 1, 2] == 0).all()
    assert (found[:, 7] == -1).all()
