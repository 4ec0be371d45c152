import json
import os
import struct
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from partalign.errors import SaveError, WeightsError
from partalign.model.appearance import GoogLeNet
from partalign.model.network import NetworkSettings, build_network
from partalign.model.parts import OpenPose
from partalign.weights.caffe import read_caffemodel
from partalign.weights.checkpoint import (
    convert,
    load_model,
    load_stream,
    load_strictly,
    read_checkpoint,
    save_checkpoint,
)

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LIGHT = NetworkSettings(appearance="light", parts="light", appearance_channels=16, part_channels=8, dimension=64)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def light():
    torch.manual_seed(0)
    return build_network(LIGHT).eval()


def check_message(message, path):
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def save_light(path, light, **changes):
    save_checkpoint(path, light.state_dict(), {"kind": "network", "network": LIGHT.model_dump() | changes})


class TestFile:
    def test_round_trip(self, path):
        shared = torch.randn(4, 6)
        tensors = {
            "plain": shared,
            "again": shared,
            "view": shared[1:3],
            "turned": shared.T,
            "strided": shared[:, ::2],
            "expanded": torch.ones(1, 3).expand(5, 3),
            "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "parameter": nn.Parameter(torch.randn(3)),
            "half": torch.randn(3).half(),
            "brain": torch.randn(3).bfloat16(),
            "count": torch.tensor(7),
            "empty": torch.empty(0, 2),
        }
        description = {
            "kind": "stream",
            "stream": "googlenet",
            "source": "größe.caffemodel",
            "rank-1": 0.5,
            "deep": [{}],
        }
        save_checkpoint(path, tensors, description)
        found, described = read_checkpoint(path)
        assert described == {"format": 1, **description}
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
            assert found[name].is_contiguous()

    def test_saving_over_the_file_that_was_read(self, path):
        save_checkpoint(path, {"a": torch.arange(1000)}, {})
        tensors, description = read_checkpoint(path)
        save_checkpoint(path, tensors | {"b": torch.ones(2)}, description)
        assert torch.equal(read_checkpoint(path)[0]["a"], torch.arange(1000))

    def test_a_failed_save_leaves_the_old_file(self, path, monkeypatch):
        save_checkpoint(path, {"a": torch.ones(2)}, {})
        before = path.read_bytes()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SaveError, match="No space left"):
            save_checkpoint(path, {"a": torch.zeros(2)}, {})
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["best.pth", "best.safetensors", "best"])
    @pytest.mark.parametrize("current", [True, False])
    def test_pickles_are_refused_whatever_their_name(self, tmp_path, name, current):
        torch.save({"w": torch.ones(2)}, tmp_path / name, _use_new_zipfile_serialization=current)
        with pytest.raises(
            WeightsError, match=r"found a PyTorch file: turn it into one with `partalign convert official`"
        ):
            read_checkpoint(tmp_path / name)

    def test_caffe_models_are_sent_to_convert(self, tmp_path):
        (tmp_path / "net.caffemodel").write_bytes(b"\x0a\x03net\xa2\x06\x00")
        with pytest.raises(WeightsError, match="`partalign convert caffe`"):
            read_checkpoint(tmp_path / "net.caffemodel")

    def test_safetensors_of_another_program(self, path):
        save_file({"w": torch.ones(2)}, path)
        with pytest.raises(WeightsError, match="of another program"):
            read_checkpoint(path)

    @pytest.mark.parametrize("text", ["", "[]", "null", '{"format": 1', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
    def test_damaged_description(self, path, text):
        save_file({"w": torch.ones(2)}, path, {"partalign": text})
        with pytest.raises(WeightsError, match="its description is damaged"):
            read_checkpoint(path)

    @pytest.mark.parametrize("version", [2, None, "1\n1", {"a": 1}])
    def test_another_format(self, path, version):
        save_file({"w": torch.ones(2)}, path, {"partalign": json.dumps({"format": version})})
        with pytest.raises(WeightsError, match=r"expected format 1, found .*newer partalign") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("length", [2**63, 2**40, 10**8 + 1, 90])
    def test_giant_header(self, path, length):
        path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 60)
        with pytest.raises(WeightsError):
            read_checkpoint(path)

    @pytest.mark.parametrize("shape", [[2**40], [2**32, 2**32], [0, 2**63], [-1]])
    def test_giant_shape(self, path, shape):
        header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        with pytest.raises(WeightsError, match="damaged safetensors file"):
            read_checkpoint(path)

    def test_every_truncation(self, path):
        save_checkpoint(path, {"a": torch.ones(3), "b": torch.ones(2, 2)}, {"kind": "stream"})
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(WeightsError, match=str(path)):
                read_checkpoint(path)

    @quick
    @given(data=st.data())
    def test_changed_bytes(self, path, data):
        save_checkpoint(path, {"a": torch.ones(3), "b": torch.ones(2, 2)}, {"kind": "stream"})
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
            content[place] = data.draw(st.integers(0, 255))
        path.unlink()
        path.write_bytes(content)
        try:
            tensors, description = read_checkpoint(path)
        except WeightsError as error:
            check_message(str(error), path)
        else:
            assert sum(tensor.numel() for tensor in tensors.values()) <= 7 * 4
            assert description["format"] == 1


class TestLoadStrictly:
    @pytest.fixture
    def module(self):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def test_every_problem_is_named(self, module):
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        tensors = dict(module.state_dict()) | {"0.bias": torch.ones(5), "x.y": torch.ones(1), "z\n": torch.ones(1)}
        del tensors["1.running_mean"], tensors["1.weight"]
        tensors["0.weight"] = torch.ones(4, 3, 1, 1)
        with pytest.raises(WeightsError) as caught:
            load_strictly(module, tensors, source="some/file.pth")
        assert str(caught.value) == (
            "some/file.pth: does not fit the network (Sequential); 2 missing: 1.weight, 1.running_mean; "
            "2 extra: x.y, z\\n; 2 of another shape: 0.weight (expected (4, 3, 3, 3), found (4, 3, 1, 1)), "
            "0.bias (expected (4,), found (5,))"
        )
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())

    def test_what_may_lack_and_what_may_be_added(self, module):
        conv = {"0.weight": torch.ones(4, 3, 3, 3), "0.bias": torch.ones(4), "head.weight": torch.ones(9)}
        mean = module[1].running_mean.clone()
        load_strictly(module, conv, source="x", may_lack=("1.",), may_add=("head.",))
        assert torch.equal(module[0].bias, torch.ones(4))
        assert torch.equal(module[1].running_mean, mean)
        with pytest.raises(WeightsError, match=r"4 missing: 1.weight.*; 1 extra: head.weight"):
            load_strictly(module, conv, source="x", may_lack=("1.num_batches", "2."))

    def test_types_are_cast(self, module):
        tensors = {name: t.half() if t.is_floating_point() else t.int() for name, t in module.state_dict().items()}
        load_strictly(module, tensors, source="x")
        assert {t.dtype for t in module.state_dict().values()} == {torch.float32, torch.int64}
        assert torch.equal(module[0].weight, tensors["0.weight"].float())

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_weights_that_are_not_finite(self, module, bad):
        tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        tensors["0.weight"][1, 2, 0, 0] = bad
        tensors["1.running_var"][3] = bad
        with pytest.raises(WeightsError, match=r"2 not finite or of another type: 0.weight, 1.running_var"):
            load_strictly(module, tensors, source="x")

    def test_weights_that_overflow_or_change_kind(self, module):
        tensors = dict(module.state_dict())
        tensors["0.bias"] = torch.full((4,), 1e300, dtype=torch.float64)
        tensors["1.num_batches_tracked"] = torch.tensor(1.5)
        tensors["1.bias"] = torch.ones(4, dtype=torch.int64)
        with pytest.raises(
            WeightsError, match=r"3 not finite or of another type: 0.bias, 1.bias, 1.num_batches_tracked"
        ):
            load_strictly(module, tensors, source="x")


class TestLoadModel:
    def test_equal_outputs(self, path, light):
        save_light(path, light)
        loaded = load_model(path)
        assert not any(module.training for module in loaded.modules())
        pictures = torch.randn(2, 3, 32, 16)
        with torch.inference_mode():
            assert torch.equal(loaded(pictures), light(pictures))

    def test_the_hashes_are_those_of_the_file(self, path, light):
        other = build_network(LIGHT.model_copy(update={"hashes": 5}))
        save_light(path, light)
        load_strictly(other, read_checkpoint(path)[0], source=path)
        pictures = torch.randn(2, 3, 32, 16)
        with torch.inference_mode():
            assert torch.equal(other.eval()(pictures), light(pictures))

    def test_a_stream_is_no_network(self, path):
        save_checkpoint(path, {"conv1.weight": torch.ones(1)}, {"kind": "stream", "stream": "googlenet"})
        with pytest.raises(WeightsError, match="expected a whole network, found a stream"):
            load_model(path)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"appearence": "light"}, "appearence: Extra inputs are not permitted"),
            ({"dimension": 0}, "dimension: Input should be greater"),
            ({"pooling": "\nmagic"}, "pooling: Input should be"),
            ({"parts": "none"}, "needs a part stream"),
            ({"maps": "limbs"}, r"1 of another shape: parts.feature.weight \(expected"),
            ({"pooling": "concat"}, "2 missing: pooling.linear.weight, pooling.linear.bias; 4 extra: pooling.h1"),
        ],
    )
    def test_descriptions_that_do_not_fit(self, path, light, changes, says):
        save_light(path, light, **changes)
        with pytest.raises(WeightsError, match=says) as caught:
            load_model(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "changes",
        [
            {"appearance_channels": 2**40},
            {"part_channels": 10**9},
            {"appearance_channels": 60_000, "part_channels": 60_000},
            {"pooling": "average", "dimension": 10**9},
            {"pooling": "stripes", "stripes": 10**9},
            {"pooling": "full", "appearance_channels": 10**9},
        ],
    )
    def test_descriptions_that_ask_for_much(self, path, light, changes):
        save_light(path, light, **changes)
        tracemalloc.start()
        with pytest.raises(WeightsError, match="describes a larger network than it holds"):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()

    @settings(quick, max_examples=40)
    @given(data=st.data())
    def test_changed_headers(self, path, light, data):
        save_light(path, light)
        content = bytearray(path.read_bytes())
        header = 8 + struct.unpack("<Q", content[:8])[0]
        for place in data.draw(st.lists(st.integers(8, header - 1), min_size=1, max_size=3)):
            content[place] = data.draw(st.integers(32, 126))
        path.unlink()
        path.write_bytes(content)
        try:
            assert load_model(path).channels == 64
        except WeightsError as error:
            check_message(str(error), path)


class TestConvert:
    def test_googlenet(self, path, shared):
        source = shared / "data/weights/bvlc_googlenet.caffemodel"
        description = convert("caffe", source, path)
        assert description == {
            "format": 1,
            "kind": "stream",
            "stream": "googlenet",
            "source": "bvlc_googlenet.caffemodel",
            "sha256": "db2c137b8d906d3be70da2ec388b80662ab7bdc494620091273afaad950d016a",
        }
        blobs = read_caffemodel(source)
        whole, stream = GoogLeNet("5b", channels=None), GoogLeNet("4e", dilation=True)
        added = stream.feature.weight.clone()
        for network in (whole, stream):
            load_stream(network, path)
            assert torch.equal(
                network.inception_4e.pool_proj.weight, torch.from_numpy(blobs["inception_4e/pool_proj"][0])
            )
        assert torch.equal(stream.feature.weight, added)
        with pytest.raises(WeightsError, match="does not fit the network"):
            load_stream(OpenPose(), path)

    def test_openpose(self, path, tmp_path):
        torch.manual_seed(0)
        network = OpenPose()
        own = {name: t for name, t in network.state_dict().items() if not name.startswith(("feature.", "norm."))}
        later = {f"Mconv1_stage{stage}_L1.weight": torch.ones(1) for stage in (3, 4, 5, 6)}
        torch.save(own | later, tmp_path / "body_pose_model.pth")
        description = convert("openpose", tmp_path / "body_pose_model.pth", path)
        assert (description["kind"], description["stream"]) == ("stream", "openpose")
        other = OpenPose(dilation=True)
        load_stream(other, path)
        assert torch.equal(other.Mconv7_stage2_L2.weight, network.Mconv7_stage2_L2.weight)

        own["conv1_1.weight"] = torch.ones(64, 4, 3, 3)
        torch.save(own, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=r"wrong.pth: .*conv1_1.weight \(expected \(64, 3, 3, 3\)"):
            convert("openpose", tmp_path / "wrong.pth", path)

    def test_a_network_is_no_stream(self, path, light):
        save_light(path, light)
        with pytest.raises(WeightsError, match="expected the weights of one stream, found a network"):
            load_stream(light.appearance, path)

    def test_unknown_kind(self, path):
        with pytest.raises(WeightsError, match='"caffe", "openpose" or "official", found "keras"'):
            convert("keras", path, path)
