"""Controls: a part stream that is shown another picture than the appearance stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from partalign.crops import Crop
from partalign.images import Pictures
from partalign.model.input import network_input
from partalign.model.network import PartAlignedNetwork
from partalign.training.settings import TrainSettings
from partalign.training.trainer import Prepare, prepare_network

BANK = 256
"""Training crops that others are drawn from."""


def showing(kind: Literal["another", "mean"], crops: Sequence[Crop], seed: int) -> Prepare:
    """Return what prepares a network whose part stream sees other pictures than its appearance stream.

    kind: "another", one of 256 of these crops, drawn by the picture's own pixels, so that a crop meets the same one in
    every batch, mirrored or not; "mean", their mean. A model file of such a run does not know of it: not to be loaded.
    """

    def prepare(settings: TrainSettings) -> PartAlignedNetwork:
        network = prepare_network(settings)
        bank = _pictures(crops, network.input_size, seed)
        if kind == "mean":
            bank = bank.mean(0, keepdim=True)
        network.get_submodule("parts").register_forward_pre_hook(lambda _, inputs: _others(inputs[0], bank))
        return network

    return prepare


def _others(pictures: Tensor, bank: Tensor) -> Tensor:
    """Pick a picture of the bank (N, 3, H, W) for each of (B, 3, H, W)."""
    # Pixels are whole numbers: their sum is exact in any order.
    rows = pictures.double().sum((1, 2, 3)).round().long() % len(bank)
    return bank.to(pictures)[rows].contiguous(memory_format=torch.channels_last)


def _pictures(crops: Sequence[Crop], size: tuple[int, int], seed: int) -> Tensor:
    rows = np.random.default_rng([seed, 8]).permutation(len(crops))[:BANK]
    return network_input(Pictures([crops[row] for row in rows], size).batch(range(len(rows))))
