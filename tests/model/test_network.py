"""The whole network: sizes, variants, devices, precision, errors; and parts of it against slow references."""

import pytest
import torch
from torch.nn import functional as F

from partalign.errors import RecipeError, ShapeError
from partalign.model.appearance import GoogLeNet, LocalResponseNorm
from partalign.model.network import NetworkSettings, build_network
from partalign.model.parts import OpenPose, ReducedPose, _pooled_gaussian

LIGHT = {"appearance": "light", "parts": "light", "appearance_channels": 32, "part_channels": 8, "dimension": 64}

VARIANTS = {
    "paper, OpenPose": {},
    "dilated": {"dilation": True},
    "R-CPM": {"parts": "rcpm"},
    "R-CPM, dilated": {"parts": "rcpm", "dilation": True},
    "joints only": {"maps": "joints"},
    "limbs only": {"maps": "limbs"},
    "internal only": {"maps": "internal"},
    "non-negative": {"nonnegative": True},
    "released": {"affine": False, "lrn": "released", "part_input": "released", "dilation": True},
    "full bilinear": {"pooling": "full", "parts": "rcpm"},
    "concat": {"pooling": "concat", "parts": "rcpm"},
    "baseline": {"pooling": "average"},
    "baseline to 5b": {"pooling": "average", "until": "5b"},
    "stripes": {"pooling": "stripes"},
    "light": LIGHT,
    "light, dilated": LIGHT | {"dilation": True},
    "light, residual": LIGHT | {"appearance": "light-residual"},
}


def build(**settings):
    torch.manual_seed(0)
    return build_network(NetworkSettings(**settings)).eval()


def pictures(batch=1, height=160, width=80, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 50


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_gives_unit_vectors_and_maps_of_the_stated_stride(name):
    network = build(**VARIANTS[name])
    with torch.inference_mode():
        descriptors = network(pictures())
        appearance, parts = network.maps(pictures())
    assert descriptors.shape == (1, network.channels)
    assert descriptors.norm().item() == pytest.approx(1, abs=1e-5)
    stride = network.stride
    assert tuple(appearance.shape[2:]) == (160 // stride, 80 // stride) or stride == 32
    if parts is not None:
        assert parts.shape[2:] == appearance.shape[2:]
    if name == "non-negative":
        assert parts.min() >= 0


@pytest.mark.parametrize(("dilation", "size"), [(False, (10, 5)), (True, (20, 10))])
def test_maps_have_the_papers_sizes(dilation, size):
    appearance, parts = build(dilation=dilation).maps(pictures())
    assert appearance.shape == (1, 512, *size)
    assert parts.shape == (1, 128, *size)


def test_reduced_pose_has_the_published_number_of_parameters():
    count = sum(
        p.numel() for name, p in ReducedPose().named_parameters() if name.split(".")[0] not in ("feature", "norm")
    )
    assert count == 2_969_310


def test_part_stream_offers_185_channels_in_the_order_limbs_joints_internal():
    stream = OpenPose().eval()
    stages, internal = stream.stages(pictures())
    assert [stage.limbs.shape[1] for stage in stages] == [38, 38]
    joined = torch.cat((stages[-1].limbs, stages[-1].joints, internal), 1)
    assert joined.shape[1] == 185 == stream.feature.in_channels
    by_hand = stream.norm(stream.feature(F.max_pool2d(joined, 2, ceil_mode=True)))
    torch.testing.assert_close(stream(pictures()), by_hand)


def test_batch_of_one_equals_its_row_in_a_larger_batch():
    network = build(parts="rcpm")
    batch = pictures(3)
    with torch.inference_mode():
        torch.testing.assert_close(network(batch)[1:2], network(batch[1:2]), atol=1e-5, rtol=0)


def test_channels_last_autocast_and_compile_agree_with_the_plain_network():
    network = build(**LIGHT)
    batch = pictures(2, 64, 32)
    with torch.inference_mode():
        plain = network(batch)
        last = network.to(memory_format=torch.channels_last)(batch.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = network(batch)
    torch.testing.assert_close(last, plain, atol=1e-5, rtol=0)
    # bfloat16 has 8 bits of mantissa; a dozen layers leave about two digits of a unit vector.
    assert F.cosine_similarity(half.float(), plain).min() > 0.99
    assert half.dtype == torch.float32


def test_compiles_for_training_and_inference():
    network = build(**LIGHT)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    batch = pictures(2, 64, 32)
    torch.testing.assert_close(compiled(batch), network(batch), atol=1e-5, rtol=1e-4)
    compiled(batch).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (torch.zeros(1, 3, 100, 80), "multiples of 16, found 100 x 80"),
        (torch.zeros(1, 1, 160, 80), r"\(1, 1, 160, 80\)"),
        (torch.zeros(3, 160, 80), r"\(3, 160, 80\)"),
        (torch.zeros(1, 3, 160, 80, dtype=torch.uint8), "uint8"),
    ],
)
def test_pictures_of_another_shape_are_refused(batch, words):
    with pytest.raises(ShapeError, match=words):
        build(parts="rcpm")(batch)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"parts": "none"}, "needs a part stream"),
        ({"parts": "rcpm", "maps": "limbs"}, 'no "limbs" maps'),
        ({"until": "5b"}, "until = "),
        ({"appearance": "light"}, "go together"),
    ],
)
def test_choices_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(RecipeError, match=words):
        build(**settings)


@pytest.mark.parametrize("kind", ["caffe", "released"])
def test_lrn_equals_loops(kind):
    x = torch.randn(2, 9, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 300
    expected = torch.empty_like(x)
    for c in range(9):
        window = list(range(max(0, c - 2), min(9, c + 3)))
        if kind == "released" and c >= 3:
            window.append(0)
        total = sum(x[:, j] ** 2 for j in window)
        expected[:, c] = x[:, c] / (1 + 1e-4 / 5 * total) ** 0.75
    found = LocalResponseNorm(9, kind)(x.float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_caffe_lrn_equals_the_librarys():
    x = torch.randn(2, 64, 5, 4, generator=torch.Generator().manual_seed(4)) * 200
    torch.testing.assert_close(
        LocalResponseNorm(64)(x), F.local_response_norm(x, 5, 1e-4, 0.75, 1.0), rtol=1e-5, atol=1e-5
    )


def test_dilated_inceptions_follow_the_released_code():
    plain, dilated = GoogLeNet(), GoogLeNet(dilation=True)
    for name in ("4a", "4b", "4c", "4d", "4e"):
        module = dilated.get_submodule(f"inception_{name}")
        assert module.three.dilation == module.five.dilation == (2, 2)
        assert module.window == 5
        assert plain.get_submodule(f"inception_{name}").three.dilation == (1, 1)
    assert dilated.get_submodule("inception_3b").three.dilation == (1, 1)
    assert [tuple(m.shape) for m in plain.state_dict().values()] == [
        tuple(m.shape) for m in dilated.state_dict().values()
    ]


@pytest.mark.parametrize("appearance", ["light", "light-residual"])
def test_dilated_light_streams_give_the_same_maps_and_those_between(appearance):
    settings = LIGHT | {"appearance": appearance}
    plain, dilated = build(**settings), build(**settings, dilation=True)
    dilated.load_state_dict(plain.state_dict())
    crops = pictures(2, 64, 32)
    with torch.inference_mode():
        for stream in ("appearance", "parts"):
            # The added layer's 3x3 convolution looks one cell away, whatever the stride: compare what it is fed with.
            for network in (plain, dilated):
                network.get_submodule(f"{stream}.feature").register_forward_pre_hook(
                    lambda module, inputs: setattr(module, "fed", inputs[0])
                )
            for network in (plain, dilated):
                network.get_submodule(stream)(crops)
            coarse, fine = (network.get_submodule(f"{stream}.feature").fed for network in (plain, dilated))
            torch.testing.assert_close(fine[..., ::2, ::2], coarse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("length", "window", "stride"), [(160, 17, 16), (80, 17, 16), (160, 9, 8), (96, 9, 8)])
def test_the_centre_map_is_what_average_pooling_of_a_gaussian_gives(length, window, stride):
    x = torch.arange(length, dtype=torch.float64)
    gaussian = torch.exp(-((x - (length - 1) / 2) ** 2) / (2 * 13.0**2))
    pooled = F.avg_pool1d(gaussian[None, None], window, stride, ceil_mode=True)[0, 0]
    assert torch.allclose(torch.from_numpy(_pooled_gaussian(length, 13.0, window, stride)), pooled, rtol=1e-12)
