"""Pictures -> what a network takes, in torch. `images.network_values` is the same without torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from partalign.errors import ShapeError
from partalign.images import MEAN_BGR


def network_input(pictures: np.ndarray | Tensor, device: torch.device | str | None = None) -> Tensor:
    """Turn pictures (B, H, W, 3), uint8, RGB into the network's input (B, 3, H, W), float32, BGR minus `MEAN_BGR`.

    The result lies in channels-last memory, on the pictures' device or on `device`, which then gets the pictures in 8
    bits. Raises ShapeError for another shape or type.
    """
    if isinstance(pictures, np.ndarray):
        # torch refuses to promise that it leaves read-only memory alone, and takes no mirrored view.
        sound = pictures.flags.writeable and min(pictures.strides, default=0) >= 0
        pictures = torch.from_numpy(pictures if sound else pictures.copy())
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != torch.uint8:
        raise ShapeError(
            f"expected pictures of shape (B, H, W, 3), uint8, found {tuple(pictures.shape)}, {pictures.dtype}"
        )
    pictures = pictures.to(device)
    values = torch.empty(pictures.shape, dtype=torch.float32, device=pictures.device)
    for channel, mean in enumerate(MEAN_BGR):  # one pass by channel: twice as fast as flip, convert and subtract
        torch.sub(pictures[..., 2 - channel], mean, out=values[..., channel])
    return values.permute(0, 3, 1, 2)
