"""Networks in torch: half precision, memory that a graph writes again, and what only a GPU can show."""

import numpy as np
import pytest
import torch

from partalign.datasets.generated import World
from partalign.embedding import Embedder
from partalign.engines import least_cosine
from partalign.engines.eager import GPU_CHUNK, NetworkEngine
from partalign.model.input import network_input
from partalign.weights.checkpoint import load_model

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: graphs and pinned memory are CUDA's")


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return World(seed=5, persons=9, crops_per_person=1, height=64, width=32).render(range(9))[0]


@pytest.fixture
def network(exported):
    return load_model(exported / "light.safetensors")


@pytest.fixture
def expected(network, people) -> np.ndarray:
    with torch.inference_mode():
        return network(network_input(people)).numpy()


@pytest.mark.parametrize(("name", "types"), [("torch", {torch.float32}), ("torch-bf16", {torch.bfloat16})])
def test_convolutions_compute_in_half_precision_where_it_is_asked_for(network, people, expected, name, types):
    seen = set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, given, result: seen.add(result.dtype))
    found = NetworkEngine(network, name=name)(people)
    assert seen == types
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert least_cosine(found, expected) > (0.999 if name.endswith("-bf16") else 0.99999)


def test_descriptors_outlive_the_next_crops(network, people, expected):
    """A recorded graph gives its result in the same memory each time; here the network does so without a GPU."""
    engine = NetworkEngine(network)
    engine.chunk = 4
    result = torch.zeros(4, 64)

    def recorded(pictures):
        result[: len(pictures)] = network(pictures)
        return result[: len(pictures)]

    engine._forward = recorded
    np.testing.assert_allclose(engine(people), expected, atol=1e-5)


def test_an_embedder_reads_twice_what_passes_at_once(network):
    engine = NetworkEngine(network)
    assert Embedder(engine).batch == 64
    engine.chunk = GPU_CHUNK
    assert Embedder(engine).batch == 2 * GPU_CHUNK
    assert Embedder(engine, batch=7).batch == 7


@on_a_gpu
@pytest.mark.parametrize("name", ["torch", "torch-bf16", "compiled", "compiled-bf16"])
def test_a_gpu_gives_the_same(network, people, expected, name):
    """More crops than pass at once, the last of them few, twice: graphs are recorded, then played."""
    engine = NetworkEngine(network, "cuda", name)
    many, least = np.concatenate([people] * 60), 0.999 if name.endswith("-bf16") else 0.9999
    assert len(many) > 2 * GPU_CHUNK
    for _ in range(3):
        assert least_cosine(engine(many), np.concatenate([expected] * 60)) > least
    for count in (1, 9):
        assert least_cosine(engine(people[:count]), expected[:count]) > least
    assert engine.check() > least


@on_a_gpu
def test_pictures_of_any_layout_reach_a_gpu_whole(network, people):
    engine = NetworkEngine(network, "cuda")
    locked = people.copy()
    locked.flags.writeable = False
    for pixels in (locked, people[:, :, ::-1], people[::2]):
        sent = engine._sent(pixels)
        assert isinstance(sent, torch.Tensor)
        assert sent.device.type == "cuda"
        np.testing.assert_array_equal(sent.cpu().numpy(), pixels)


@on_a_gpu
def test_compiled_launches_are_recorded_as_graphs(network, people):
    engine = NetworkEngine(network, "cuda", "compiled-bf16")
    for _ in range(3):  # compiled, recorded, played
        engine(people)
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profile:
        engine(people)
    assert any("cudaGraphLaunch" in event.key for event in profile.key_averages())
