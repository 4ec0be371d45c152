"""A batch in chunks: descriptors, gradients and running statistics are those of the whole batch."""

import pytest
import torch

from partalign.model.network import NetworkSettings, build_network
from partalign.training.chunks import describe

SMALL = {"height": 48, "width": 32, "dimension": 32, "appearance_channels": 16, "part_channels": 8}


def trained_once(network, chunks, mixed_precision=False):
    network.zero_grad()
    descriptors, backward = describe(network, chunks, mixed_precision)
    backward(torch.linspace(-1, 1, descriptors.numel()).view_as(descriptors))
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return descriptors.detach(), gradients, {name: b.clone() for name, b in network.named_buffers()}


def network_of(**settings):
    torch.manual_seed(0)
    return build_network(NetworkSettings.model_validate(SMALL | settings)).train()


def pictures(count):
    x = 60 * torch.randn(count, 3, 48, 32, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "settings",
    [{"parts": "rcpm"}, {"parts": "rcpm", "dilation": True, "nonnegative": True}, {"pooling": "average"}],
    ids=str,
)
def test_chunks_change_nothing(settings):
    x = pictures(7)
    whole = trained_once(network_of(**settings), [x])
    chunked = trained_once(network_of(**settings), list(x.tensor_split(3)))
    torch.testing.assert_close(chunked[0], whole[0], rtol=1e-4, atol=1e-5)
    assert chunked[1].keys() == whole[1].keys()
    # A bias before batch normalisation has no gradient but rounding.
    rounding = 1e-5 * max(float(gradient.abs().max()) for gradient in whole[1].values())
    for name, gradient in whole[1].items():
        torch.testing.assert_close(chunked[1][name], gradient, rtol=1e-3, atol=rounding)
    for name, buffer in whole[2].items():
        torch.testing.assert_close(chunked[2][name], buffer, rtol=1e-4, atol=1e-4)


def test_what_is_frozen_gets_no_gradient():
    network = network_of(parts="rcpm")
    network.parts.requires_grad_(False)
    _, gradients, _ = trained_once(network, list(pictures(4).split(2)))
    assert gradients
    assert not any(name.startswith("parts.") for name in gradients)


def test_hooks_see_every_chunk():
    network, seen = network_of(parts="rcpm"), []
    network.parts.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    trained_once(network, list(pictures(5).split(2)))
    assert seen == [2, 2, 1] * 2


def test_half_precision_passes_in_chunks():
    network = network_of(parts="rcpm")
    found, gradients, _ = trained_once(network, list(pictures(4).split(2)), mixed_precision=True)
    expected = trained_once(network, [pictures(4)])[0]
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.98
    assert all(gradient.isfinite().all() for gradient in gradients.values())
