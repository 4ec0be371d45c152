"""Flips, colours, lost detail, shifts and erasing of a batch: a pure function of the random generator handed in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from partalign.images import MEAN_BGR
from partalign.training.settings import AugmentSettings

_COLORS = np.array([1, 1, 1, 0.5, 0.5, 0.5])  # of light, contrast, saturation; of the white balance's channels


def augment(
    pictures: Tensor,
    settings: AugmentSettings,
    draw: np.random.Generator,
    share: slice = slice(None),
    total: int | None = None,
) -> Tensor:
    """Change a batch (B, 3, H, W) of mean-subtracted pictures; what is uncovered or erased is the mean colour (0).

    share, total: where the pictures are only some of a batch, which of how many; they change as in the whole batch.
    """
    count = len(pictures) if total is None else total
    if settings.flip:
        chosen = torch.from_numpy(draw.random(count)[share] < settings.flip).to(pictures.device)
        pictures = torch.where(chosen[:, None, None, None], pictures.flip(3), pictures)
    if settings.color:
        pictures = _recolor(pictures, 1 + settings.color * _COLORS * draw.uniform(-1, 1, size=(count, 6))[share])
    if settings.shrink:
        shrunk, sizes = draw.random(count)[share] < settings.shrink, draw.uniform(0.25, 1, size=count)[share]
        for row in np.flatnonzero(shrunk).tolist():
            pictures[row] = _without_detail(pictures[row : row + 1], sizes[row])
    if settings.crop:
        pictures = _shift(pictures, settings.crop, draw.integers(0, 2 * settings.crop + 1, size=(count, 2))[share])
    if settings.erase:
        own = {row: place for place, row in enumerate(range(count)[share])}
        for row in np.flatnonzero(draw.random(count) < settings.erase).tolist():
            top, left, height, width = _rectangle(pictures.shape[2], pictures.shape[3], draw)
            if row in own:
                pictures[own[row], :, top : top + height, left : left + width] = 0
    return pictures


def _recolor(pictures: Tensor, factors: np.ndarray) -> Tensor:
    """Give every picture a light, a contrast, a saturation and a white balance of its own, as cameras differ in.

    factors: (B, 6) around 1, the last three of the white balance's channels. Values stay between black and white.
    """
    black = -torch.tensor(MEAN_BGR, device=pictures.device)[:, None, None]
    light, contrast, saturation = torch.from_numpy(factors[:, :3]).to(pictures).T[:, :, None, None, None]
    balance = torch.from_numpy(factors[:, 3:]).to(pictures)[:, :, None, None]
    pixels = (pictures - black) * (light * balance)
    grey = pixels.mean(dim=1, keepdim=True)
    pixels = grey + saturation * (pixels - grey)
    level = grey.mean(dim=(2, 3), keepdim=True)
    return (level + contrast * (pixels - level)).clamp(0, 255) + black


def _without_detail(picture: Tensor, size: float) -> Tensor:
    """Shrink a picture (1, 3, H, W) to a share of its sides and enlarge it again: a person farther from the camera."""
    sides = [max(1, round(size * side)) for side in picture.shape[2:]]
    small = F.interpolate(picture, sides, mode="bilinear", antialias=True)
    return F.interpolate(small, picture.shape[2:], mode="bilinear")[0]


def _shift(pictures: Tensor, most: int, corners: np.ndarray) -> Tensor:
    """Pad by `most` pixels and cut every picture at its corner, (B, 2): top and left, 0 to 2 `most`."""
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, (most, most, most, most))
    cut = [padded[i, :, top : top + height, left : left + width] for i, (top, left) in enumerate(corners)]
    return torch.stack(cut).contiguous(memory_format=torch.channels_last)


def _rectangle(height: int, width: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """A rectangle of 2 to 25% of the area, with sides between 1:3 and 3:1 (Zhong et al. 2020)."""
    area = draw.uniform(0.02, 0.25) * height * width
    aspect = np.exp(draw.uniform(-np.log(3), np.log(3)))
    h = int(min(height, max(1, round((area * aspect) ** 0.5))))
    w = int(min(width, max(1, round((area / aspect) ** 0.5))))
    return int(draw.integers(0, height - h + 1)), int(draw.integers(0, width - w + 1)), h, w
