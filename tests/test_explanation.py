"""The breakdowns of a similarity against loops in float64, the network's own score, and symmetries."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.crops import Crop
from partalign.embedding import Embedder
from partalign.errors import ExplanationError, PictureError, WeightsError
from partalign.explanation import Explanation, compare, describe, explain, explain_results, load_pose
from partalign.images import resize
from partalign.model.bilinear import CompactBilinear
from partalign.model.body_parts import PARTS
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, build_network
from partalign.weights.checkpoint import save_checkpoint

SMALL = {"appearance": "light", "parts": "light", "appearance_channels": 12, "part_channels": 6, "dimension": 32}
POOLINGS = ("compact", "full", "concat", "average", "stripes")


def build(pooling="compact", height=64, width=32, **more):
    torch.manual_seed(0)
    network = build_network(NetworkSettings(**SMALL | {"pooling": pooling, "height": height, "width": width} | more))
    # Running statistics and biases of a network that has seen something.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 255, (4, 8, 4, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(p).resize((48, 100), Image.Resampling.BICUBIC)) for p in coarse]


def pixels(picture, network):
    return network_input(resize(Image.fromarray(picture), network.input_size)[None])


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
def test_all_breakdowns_add_up_to_the_score_of_the_descriptors(pictures, pooling, flip):
    embedder = Embedder(build(pooling), flip=flip)
    resized = [resize(Image.fromarray(picture), embedder.input_size)[None] for picture in pictures[:2]]
    a, b = (embedder(taken)[0].astype(np.float64) for taken in resized)
    found = explain(embedder, *pictures[:2])
    assert found.score == pytest.approx(float(a @ b), abs=1e-5)
    assert found.pairs.shape == (8, 4, 8, 4)
    sums = [found.pairs.sum(), *(places.sum() for places in found.maps)]
    if embedder.network.parts is not None:
        sums += [found.table.sum(), sum(found.parts.values())]
        for weights in found.weights:
            np.testing.assert_allclose(weights.sum(0), 1, atol=1e-12)
    np.testing.assert_allclose(sums, found.score, atol=1e-9)


def loops(network, first, second):
    """Equations 8 and 9, pair by pair; the sketched form with the sketch written out. Returns (S, S')."""
    sides = []
    with torch.inference_mode():
        for picture in (first, second):
            maps = network.maps(pixels(picture, network))
            a, p = (m[0].double().flatten(1).T.numpy() for m in maps)
            vectors = [np.outer(i, j).ravel() for i, j in zip(a, p, strict=True)]
            pooling = network.pooling
            if isinstance(pooling, CompactBilinear):
                bins = ((pooling.h1[:, None] + pooling.h2) % pooling.channels).flatten().numpy()
                signs = (pooling.s1[:, None] * pooling.s2).flatten().numpy()
                vectors = [np.bincount(bins, signs * v, pooling.channels) for v in vectors]
            norm = np.linalg.norm(np.mean(vectors, axis=0))
            sides.append([v / norm for v in vectors])
    count = len(sides[0]) * len(sides[1])
    return np.array([[v @ w / count for w in sides[1]] for v in sides[0]])


@pytest.mark.parametrize("pooling", ["compact", "full"])
@pytest.mark.parametrize("size", [(64, 32), (48, 16), (32, 64)], ids=str)
def test_pairs_are_those_of_equations_8_and_9(pictures, pooling, size):
    network = build(pooling, *size)
    found, expected = explain(network, *pictures[:2]), loops(network, *pictures[:2])
    places = expected.shape[0]
    np.testing.assert_allclose(found.pairs.reshape(places, places), expected, atol=1e-7)
    np.testing.assert_allclose(found.maps[0].ravel(), expected.sum(1), atol=1e-6)
    np.testing.assert_allclose(found.maps[1].ravel(), expected.sum(0), atol=1e-6)
    table = np.zeros((6, 6))
    a, b = (weights.reshape(6, -1) for weights in found.weights)
    for i, j in itertools.product(range(places), repeat=2):
        table += expected[i, j] * np.outer(a[:, i], b[:, j])
    np.testing.assert_allclose(found.table, table, atol=1e-6)
    np.testing.assert_allclose(list(found.parts.values()), (table.sum(0) + table.sum(1)) / 2, atol=1e-6)
    assert tuple(found.parts) == PARTS


def test_the_place_map_is_the_equation_of_one_place_with_the_other_descriptor(pictures):
    network = build("compact")
    with torch.inference_mode():
        appearance, parts = network.maps(pixels(pictures[0], network))
        other = network(pixels(pictures[1], network))[0].double()
        length = network.pooling(appearance, parts).double().norm()
        alone = [
            network.pooling(appearance[..., y, x][..., None, None], parts[..., y, x][..., None, None])[0].double()
            for y in range(8)
            for x in range(4)
        ]
    expected = [float(place @ other / (32 * length)) for place in alone]
    np.testing.assert_allclose(explain(network, *pictures[:2]).maps[0].ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["compact", "full"])
@pytest.mark.parametrize("flip", [False, True])
def test_a_picture_with_itself_scores_1_and_both_ways_round_is_the_same(pictures, pooling, flip):
    embedder = Embedder(build(pooling), flip=flip)
    a, b = describe(embedder, pictures[:2])
    own, there, back = compare(a, a), compare(a, b), compare(b, a)
    assert own.score == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(own.pairs, own.pairs.transpose(2, 3, 0, 1), atol=1e-12)
    np.testing.assert_allclose(own.maps[0], own.maps[1], atol=1e-12)
    np.testing.assert_allclose(own.table, own.table.T, atol=1e-12)
    np.testing.assert_allclose(back.pairs, there.pairs.transpose(2, 3, 0, 1), atol=1e-12)
    for part, value in there.parts.items():
        assert back.parts[part] == pytest.approx(value, abs=1e-12)


def test_with_flip_a_mirrored_picture_has_the_mirrored_explanation(pictures):
    embedder = Embedder(build("full"), flip=True)
    plain = explain(embedder, pictures[0], pictures[1])
    mirrored = explain(embedder, pictures[0][:, ::-1].copy(), pictures[1])
    np.testing.assert_allclose(mirrored.pairs, plain.pairs[:, ::-1], atol=1e-5)


def test_pictures_of_two_resolutions_can_be_compared(pictures):
    network = build("full", 64, 32)
    (large,) = describe(network, pictures[:1])
    network.input_size = (32, 16)
    (small,) = describe(network, pictures[1:2])
    found = compare(large, small)
    assert found.pairs.shape == (8, 4, 4, 2)
    np.testing.assert_allclose([found.maps[0].sum(), found.maps[1].sum(), sum(found.parts.values())], found.score)


def test_a_query_and_its_results_pass_the_network_once(pictures):
    network, seen = build("compact"), []
    network.appearance.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    network.parts.body.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    found = explain_results(network, pictures[0], pictures * 3)
    assert sum(seen) == 2 * 13
    for i, explanation in enumerate(found):
        np.testing.assert_allclose(explanation.pairs, explain(network, pictures[0], pictures[i % 4]).pairs, atol=1e-7)


def test_a_picture_may_be_a_file_a_crop_an_array_or_pillows(pictures, tmp_path):
    network, path = build("compact"), tmp_path / "a.png"
    Image.fromarray(pictures[0]).save(path)
    scores = {explain(network, p, pictures[1]).score for p in (path, str(path), Crop(path), pictures[0])}
    scores.add(explain(network, Image.fromarray(pictures[0]), pictures[1]).score)
    assert max(scores) - min(scores) < 1e-7
    for bad in (pictures[0][..., 0], pictures[0].astype(np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(PictureError, match="uint8, RGB, found an array"):
            explain(network, bad, pictures[1])
    with pytest.raises(PictureError, match=r"none\.png"):
        explain(network, tmp_path / "none.png", pictures[1])


def test_strongest_pairs_come_first_and_share_no_place():
    pairs = np.random.default_rng(3).normal(size=(3, 2, 4, 2))
    found = Explanation(pairs)
    everything = [(place[:2], place[2:], pairs[place]) for place in itertools.product(*map(range, pairs.shape))]
    ranked = sorted((p for p in everything if p[2] > 0), key=lambda p: -p[2])
    assert found.strongest(12, distinct=False) == ranked[:12]
    assert len(found.strongest(1000, distinct=False)) == len(ranked)
    chosen, used = [], set()
    for a, b, value in ranked:
        if ("a", a) not in used and ("b", b) not in used:
            chosen.append((a, b, value))
            used |= {("a", a), ("b", b)}
    assert found.strongest(1000) == chosen
    assert len(chosen) <= 6
    assert Explanation(-np.ones((2, 2, 2, 2))).strongest() == []


def one_place(**parts):
    """An explanation in which each part of A matches only the same part of B."""
    values = np.array([parts.get(name, 0.0) for name in PARTS])
    pairs = np.zeros((6, 1, 6, 1))
    pairs[range(6), 0, range(6), 0] = values
    own = np.eye(6)[..., None]
    return Explanation(pairs, (own, own))


@pytest.mark.parametrize(
    ("parts", "probability", "expected"),
    [
        (
            {"torso": 0.45, "legs": 0.35, "head": -0.05, "arms": 0.1},
            None,
            "Similar mostly because of the torso (50%) and the legs (39%); the head speaks against it.",
        ),
        (
            {"torso": 0.2, "arms": -0.02, "feet": -0.01, "legs": 0.01},
            None,
            "Not very similar; what there is comes mostly from the torso (95%); the arms and feet speak against it.",
        ),
        ({"legs": 0.4, "feet": -0.05}, 0.9, "Similar mostly because of the legs (100%); the feet speak against it."),
        ({"torso": -0.4, "legs": 0.02}, None, "Hardly similar at all; the torso speaks against it."),
        ({}, None, "Hardly similar at all."),
        (
            {"background": 0.5, "torso": 0.4},
            None,
            "Similar mostly because of the background (56%) and the torso (44%). "
            "Much of it is background, not the person.",
        ),
    ],
)
def test_sentences(parts, probability, expected):
    found = one_place(**parts)
    assert found.sentence(probability) == expected
    assert found.parts == pytest.approx({name: parts.get(name, 0.0) for name in PARTS})


def test_a_baseline_has_places_but_names_no_body_parts_without_a_pose_network(pictures):
    network = build("average")
    found = explain(network, *pictures[:2])
    with pytest.raises(ExplanationError, match="expected a network with a part stream"):
        _ = found.parts
    assert "without a part stream" in found.sentence()
    assert "parts" not in found.as_dict()
    named = explain(network, *pictures[:2], pose=build("compact").parts)
    np.testing.assert_allclose(named.pairs, found.pairs, atol=1e-12)
    assert sum(named.parts.values()) == pytest.approx(found.score, abs=1e-9)


def test_a_models_own_part_stream_as_pose_network_changes_nothing(pictures, tmp_path):
    network = build("compact")
    tensors = {n: t for n, t in network.parts.state_dict().items() if not n.startswith(("feature.", "norm."))}
    save_checkpoint(tmp_path / "parts.safetensors", tensors, {"kind": "stream", "stream": "light"})
    settings = NetworkSettings(**SMALL | {"height": 64, "width": 32}).model_dump(mode="json")
    save_checkpoint(tmp_path / "model.safetensors", network.state_dict(), {"kind": "network", "network": settings})
    own = explain(network, *pictures[:2])
    for name in ("parts", "model"):
        other = explain(network, *pictures[:2], pose=load_pose(tmp_path / f"{name}.safetensors"))
        np.testing.assert_allclose(other.table, own.table, atol=1e-9)


def test_what_is_no_pose_network_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": torch.zeros(1)}, {"kind": "stream", "stream": "googlenet"})
    with pytest.raises(WeightsError, match=r"x\.safetensors: expected a pose network"):
        load_pose(path)
    baseline = build("average")
    settings = NetworkSettings(**SMALL | {"pooling": "average"}).model_dump(mode="json")
    save_checkpoint(path, baseline.state_dict(), {"kind": "network", "network": settings})
    with pytest.raises(WeightsError, match=r"x\.safetensors: expected a pose network"):
        load_pose(path)
