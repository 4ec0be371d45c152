import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partalign.errors import WeightsError
from partalign.model.appearance import GoogLeNet
from partalign.weights.caffe import googlenet_layers, googlenet_tensors, read_caffemodel
from partalign.weights.checkpoint import fit

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def add_layer(net, name, blobs, *, old, legacy, double=False):
    """Add a layer of either generation, with blobs of either kind of shape."""
    layer = (net.layers if old else net.layer).add(name=name)
    for array in blobs:
        blob = layer.blobs.add()
        if legacy:
            blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
        else:
            blob.shape.dim.extend(array.shape)
        (blob.double_data if double else blob.data).extend(array.ravel().tolist())


def read(path, content, spare=500_000):
    """Read `content` as a file; the memory taken must stay within a few times its length."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        return read_caffemodel(path)
    except WeightsError as error:
        check_message(str(error), path)
        raise
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(content) + spare


def check_message(message, path):
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 500


def read_or_refuse(path, content, **limits):
    try:
        layers = read(path, content, **limits)
    except WeightsError:
        return None
    for blobs in layers.values():
        assert all(blob.size for blob in blobs)
    return layers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.caffemodel"


@pytest.fixture(scope="session")
def small_net(caffe):
    """A net with layers of both generations, both kinds of shape and a layer without weights."""

    def make(packed):
        net = caffe[packed].NetParameter(name="net")
        random = np.random.default_rng(0)
        weight, bias = random.normal(size=(4, 3, 2, 2)).astype("f4"), random.normal(size=4).astype("f4")
        add_layer(net, "v1", [weight, bias], old=True, legacy=True)
        net.layer.add(name="relu", type="ReLU", bottom=["v1"])
        add_layer(net, "v2", [weight, bias], old=False, legacy=False)
        return net.SerializeToString()

    return {packed: make(packed) for packed in (True, False)}


class TestAgainstProtobuf:
    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize("old", [True, False])
    @pytest.mark.parametrize("legacy", [True, False])
    @pytest.mark.parametrize("double", [True, False])
    @settings(quick, max_examples=30)
    @given(data=st.data())
    def test_any_net(self, caffe, path, packed, old, legacy, double, data):
        dims = st.lists(st.integers(1, 5), min_size=4 if legacy else 0, max_size=4)
        names = st.text(st.characters(codec="utf-8"), max_size=9)
        net, expected = caffe[packed].NetParameter(name="x"), {}
        for name, shapes in data.draw(st.dictionaries(names, st.lists(dims, max_size=2), max_size=3)).items():
            blobs = [np.random.default_rng(1).normal(size=shape).astype("f8" if double else "f4") for shape in shapes]
            add_layer(net, name, blobs, old=old, legacy=legacy, double=double)
            if blobs:
                expected[name] = blobs
        content = net.SerializeToString()
        if not expected:
            with pytest.raises(WeightsError):
                read(path, content)
            return
        found = read(path, content)
        assert found.keys() == expected.keys()
        for name, blobs in expected.items():
            for ours, theirs in zip(found[name], blobs, strict=True):
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs, strict=True)

    def test_long_unpacked_data_among_other_fields(self, caffe, path):
        blob = caffe[False].BlobProto(num=1, channels=1, height=3, width=100_000)
        values = np.random.default_rng(2).normal(size=300_000).astype("f4")
        blob.data.extend(values.tolist())
        blob.diff.extend(values[:1000].tolist())
        whole = blob.SerializeToString()
        # Parts of one repeated field may lie apart: protobuf joins them, and so must we.
        pieces = [caffe[False].BlobProto(data=part.tolist(), diff=[1.0]) for part in np.array_split(values, 1000)]
        parts = b"".join(piece.SerializeToString() for piece in pieces)
        shape = caffe[False].BlobProto(num=1, channels=1, height=3, width=100_000).SerializeToString()
        for content in (whole, shape + parts):
            theirs = caffe[False].BlobProto.FromString(content)
            # The layer is put together by hand, so that the parts stay apart.
            blobs = read(path, b"\xa2\x06" + length_and(b"\x0a\x04long\x3a" + length_and(content)))["long"]
            np.testing.assert_array_equal(blobs[0].ravel(), np.array(theirs.data, "f4"))

    def test_the_real_file(self, caffe, shared):
        path = shared / "data/weights/bvlc_googlenet.caffemodel"
        found = read_caffemodel(path)
        net = caffe[True].NetParameter.FromString(path.read_bytes())
        theirs = {layer.name: layer.blobs for layer in (*net.layers, *net.layer) if layer.blobs}
        assert len(found) == 58
        assert found.keys() == theirs.keys()
        for name, blobs in theirs.items():
            for ours, blob in zip(found[name], blobs, strict=True):
                np.testing.assert_array_equal(ours.ravel(), np.array(blob.data, "f4"))
                assert ours.shape == (blob.num, blob.channels, blob.height, blob.width)


class TestDamage:
    @pytest.mark.parametrize("packed", [True, False])
    def test_every_truncation(self, small_net, path, packed):
        whole = small_net[packed]
        complete = read(path, whole)
        for length in range(len(whole)):
            layers = read_or_refuse(path, whole[:length]) or {}
            # Cut between two layers, a file is a smaller net: then what is there is right.
            assert layers.keys() < complete.keys()
            for name, blobs in layers.items():
                assert [blob.shape for blob in blobs] == [blob.shape for blob in complete[name]]

    @quick
    @given(data=st.data(), packed=st.booleans())
    def test_changed_bytes(self, small_net, path, data, packed):
        content = bytearray(small_net[packed])
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        read_or_refuse(path, bytes(content))

    @quick
    @given(data=st.data(), packed=st.booleans())
    def test_inserted_bytes(self, small_net, path, data, packed):
        content = small_net[packed]
        place = data.draw(st.integers(0, len(content)))
        read_or_refuse(path, content[:place] + data.draw(st.binary(min_size=1, max_size=12)) + content[place:])

    @quick
    @given(content=st.binary(max_size=300))
    def test_any_bytes(self, path, content):
        read_or_refuse(path, content)

    @quick
    @given(declared=st.integers(0, 2**64 - 1), depth=st.integers(0, 2), rest=st.binary(max_size=40))
    def test_declared_lengths(self, path, declared, depth, rest):
        tags = (b"\x2a", b"\x3a", b"\xa2\x06")[2 - depth :]  # data of a blob, blobs of a layer, layers of a net
        content = tags[0] + varint(declared) + rest
        for tag in tags[1:]:
            content = tag + length_and(content)
        read_or_refuse(path, content)

    @pytest.mark.parametrize(
        "dims", [[2**62, 4], [2**31, 2**31, 2**31], [0, 2**40], [-1], [-2, -8], [1] * 33, [17], []]
    )
    def test_shapes_that_do_not_fit(self, caffe, path, dims):
        net = caffe[True].NetParameter()
        blob = net.layer.add(name="conv").blobs.add()
        blob.shape.dim.extend(dims)
        blob.data.extend([1.0] * 16)
        with pytest.raises(WeightsError, match=r"blob of shape|dimensions"):
            read(path, net.SerializeToString())

    def test_no_values(self, caffe, path):
        net = caffe[True].NetParameter()
        net.layer.add(name="conv").blobs.add().shape.dim.extend([0, 3])
        with pytest.raises(WeightsError, match="no values"):
            read(path, net.SerializeToString())

    def test_same_name_twice(self, caffe, path):
        net = caffe[True].NetParameter()
        for _ in range(2):
            add_layer(net, "conv\n1", [np.ones(2, "f4")], old=False, legacy=False)
        with pytest.raises(WeightsError, match=r"two layers are called conv\\n1"):
            read(path, net.SerializeToString())

    @pytest.mark.parametrize("kind", ["many blobs", "many shapes", "many pieces", "many layers"])
    def test_many_tiny_things(self, path, kind):
        """Objects cost more memory than their few bytes in the file; a reader that makes one for each is flooded."""
        blob = b"\x2a\x04\0\0\x80\x3f"
        content = {
            "many blobs": (b"\x3a" + varint(len(blob)) + blob) * 100_000,
            "many shapes": b"\x3a" + length_and(b"\x3a\x02\x08\x01" * 100_000 + blob),
            "many pieces": b"\x3a" + length_and(blob * 100_000),
            "many layers": b"",
        }[kind]
        net = b"\xa2\x06" + length_and(content)
        read_or_refuse(path, net * (1 if content else 50_000), spare=4_000_000)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "it is empty"),
            (b"PK\x03\x04" + bytes(90), "found a PyTorch file"),
            (b'name: "GoogleNet"\nlayer { name: "conv1" }', "found a text file"),
            (b"<!DOCTYPE html><html>quota exceeded</html>", "found a web page"),
        ],
    )
    def test_other_files(self, path, content, says):
        with pytest.raises(WeightsError, match=says):
            read(path, content)

    def test_no_file(self, path):
        with pytest.raises(WeightsError, match="no such file"):
            read_caffemodel(path)
        with pytest.raises(WeightsError, match="a folder"):
            read_caffemodel(path.parent)


class TestGoogLeNet:
    def test_every_tensor_fits(self, shared):
        blobs = read_caffemodel(shared / "data/weights/bvlc_googlenet.caffemodel")
        tensors = googlenet_tensors(blobs, source="x")
        network = GoogLeNet("5b", channels=None)
        assert fit(network, tensors, source="x").keys() == network.state_dict().keys()
        np.testing.assert_array_equal(tensors["inception_4c.five.weight"].numpy(), blobs["inception_4c/5x5"][0])
        assert tensors["conv1.bias"].shape == (64,)

    def test_missing_and_unknown_layers_are_named(self):
        blobs = {layer: [np.ones((1, 1, 1, 1), "f4"), np.ones(1, "f4")] for layer in googlenet_layers()}
        assert len(googlenet_tensors(blobs | {"loss3/classifier": []}, source="x")) == 114
        for layer in ("conv2/3x3", "inception_5b/1x1"):
            del blobs[layer]
        with pytest.raises(WeightsError, match=r"file: .*missing conv2/3x3, inception_5b/1x1; unknown conv9, fc"):
            googlenet_tensors(blobs | {"fc": [], "conv9": []}, source="file")

    @pytest.mark.parametrize("shapes", [[(2, 2, 1, 1)], [(2, 2), (2,)], [(2, 2, 1, 1), (2, 1)], [(2, 2, 1, 1)] * 3])
    def test_blobs_that_are_no_convolution(self, shapes):
        blobs = {layer: [np.ones((1, 1, 1, 1), "f4"), np.ones(1, "f4")] for layer in googlenet_layers()}
        blobs["conv2/3x3"] = [np.ones(shape, "f4") for shape in shapes]
        with pytest.raises(WeightsError, match="layer conv2/3x3: expected a weight"):
            googlenet_tensors(blobs, source="file")


def varint(number):
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    return bytes([*octets, number])


def length_and(content):
    return varint(len(content)) + content
