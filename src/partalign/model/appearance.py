"""Appearance streams: crop -> maps of what a place looks like (section 3.1, the map extractor A).

Knows nothing of body parts or of how the maps are pooled. GoogLeNet is BVLC's: ceil-mode pooling, Caffe's local
response normalisation, biases and no batch normalisation except in the added layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partalign.model.layers import local_response_norm, max_pool, recomputed

Lrn = Literal["caffe", "released"]
Until = Literal["4e", "5b"]

# 1x1 | 3x3 reduce, 3x3 | 5x5 reduce, 5x5 | pool projection
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class LocalResponseNorm(nn.Module):
    """Caffe's LRN over 5 channels: x / (1 + alpha/5 * sum of 5 squares)^0.75, alpha = 1e-4.

    Written as a 1x1 convolution of the squares with a band matrix: exact, exportable, and faster than the library's.
    `kind="released"` repeats a slip in the forward pass of the operator that the authors' checkpoints were trained
    with: channel 0 is never taken out of the running sum of channels 3 and above.
    """

    band: Tensor
    one: Tensor

    def __init__(self, channels: int, kind: Lrn = "caffe", alpha: float = 1e-4):
        super().__init__()
        place = torch.arange(channels)
        band = ((place[:, None] - place[None]).abs() <= 2).float()
        if kind == "released":
            band[3:, 0] = 1.0
        self.register_buffer("band", band[:, :, None, None] * (alpha / 5), persistent=False)
        self.register_buffer("one", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape, divided by what the neighbouring channels say."""
        # Squares of Caffe's activations reach 1e6: half precision has no room for them.
        with torch.autocast(x.device.type, enabled=False):
            return local_response_norm(x.float(), self.band.float(), self.one.float()).to(x.dtype)


class Inception(nn.Module):
    """Four branches side by side; with dilation 2 every branch sees twice as far at the same resolution."""

    def __init__(self, inputs: int, widths: Sequence[int], dilation: int = 1):
        super().__init__()
        one, three_reduce, three, five_reduce, five, pool = widths
        self.one = nn.Conv2d(inputs, one, 1)
        self.three_reduce = nn.Conv2d(inputs, three_reduce, 1)
        self.three = nn.Conv2d(three_reduce, three, 3, padding=dilation, dilation=dilation)
        self.five_reduce = nn.Conv2d(inputs, five_reduce, 1)
        self.five = nn.Conv2d(five_reduce, five, 5, padding=2 * dilation, dilation=dilation)
        # The released code widens the pooling window instead of dilating it.
        self.window = 2 * dilation + 1
        self.pool_proj = nn.Conv2d(inputs, pool, 1)
        self.channels = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H, W)."""
        three = self.three(F.relu(self.three_reduce(x)))
        five = self.five(F.relu(self.five_reduce(x)))
        pooled = recomputed(lambda x: self.pool_proj(max_pool(x, self.window, 1, self.window // 2)), x)
        return F.relu(torch.cat((self.one(x), three, five, pooled), dim=1))


class GoogLeNet(nn.Module):
    """BVLC GoogLeNet up to inception 4e (or 5b), then an optional 1x1 convolution and batch normalisation.

    until: last inception module. dilation: keep 1/8 of the input's resolution by dropping pool3 and dilating 4a-4e.
    channels: width of the added layer, or None for the bare maps (832 channels at 4e, 1024 at 5b).
    affine: whether the added batch normalisation learns a scale (the released code's does not).
    """

    def __init__(
        self,
        until: Until = "4e",
        dilation: bool = False,
        channels: int | None = 512,
        affine: bool = True,
        lrn: Lrn = "caffe",
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.lrn1 = LocalResponseNorm(64, lrn)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.lrn2 = LocalResponseNorm(192, lrn)
        width = 192
        self.modules_in_order: list[str] = []
        for name, widths in INCEPTIONS.items():
            module = Inception(width, widths, dilation=2 if dilation and name.startswith("4") else 1)
            self.add_module(f"inception_{name}", module)
            self.modules_in_order.append(name)
            width = module.channels
            if name == until:
                break
        self.pooled_before = {"5a"} if dilation else {"4a", "5a"}
        self.stride = (8 if dilation else 16) * (2 if until == "5b" else 1)
        self.channels = width if channels is None else channels
        self.feature, self.norm = _added_layer(width, channels, affine)

    def forward(self, x: Tensor, finish: bool = True) -> Tensor:
        """(B, 3, H, W) BGR minus mean -> (B, C, H/stride, W/stride); finish: with the last batch normalisation."""
        x = self.lrn1(max_pool(self.conv1(x), 3, 2, ceil_mode=True, relu=True))
        x = F.relu(self.conv2_reduce(x))
        x = max_pool(self.lrn2(F.relu(self.conv2(x))), 3, 2, ceil_mode=True)
        for name in self.modules_in_order:
            if name in self.pooled_before:
                x = max_pool(x, 3, 2, ceil_mode=True)
            x = self.get_submodule(f"inception_{name}")(x)
        x = self.feature(x)
        return self.finish(x) if finish else x

    def finish(self, x: Tensor) -> Tensor:
        """Do what `forward` left out."""
        return self.norm(x)


class LightAppearance(nn.Module):
    """A small stream for generated people: six 3x3 convolutions with batch normalisation, stride 8 (dilated: 4).

    dilation: the last stride is dropped and what follows is dilated, so that the same weights give maps twice as fine.
    """

    def __init__(self, channels: int = 128, dilation: bool = False):
        super().__init__()
        apart = 2 if dilation else 1
        self.body = nn.Sequential(
            _block(3, 24, 2),
            _block(24, 48, 2),
            _block(48, 64),
            _block(64, 96, 2 // apart),
            _block(96, 96, dilation=apart),
            _block(96, 128, dilation=apart),
        )
        self.stride, self.channels = 8 // apart, channels
        self.feature, self.norm = _added_layer(128, channels, affine=True)

    def forward(self, x: Tensor, finish: bool = True) -> Tensor:
        """(B, 3, H, W) BGR minus mean -> (B, C, H/stride, W/stride); finish: with the last batch normalisation."""
        x = self.feature(self.body(x / 64))
        return self.finish(x) if finish else x

    def finish(self, x: Tensor) -> Tensor:
        """Do what `forward` left out."""
        return self.norm(x)


class LightResidual(LightAppearance):
    """Another small stream, of residual blocks: what holds for one architecture should hold for a second (Fig. 6b)."""

    def __init__(self, channels: int = 128, dilation: bool = False):
        super().__init__(channels, dilation)
        apart = 2 if dilation else 1
        self.body = nn.Sequential(
            _block(3, 24, 2),
            _Residual(24, 48, 2),
            _Residual(48, 96, 2 // apart, (1, apart)),
            _Residual(96, 128, 1, (apart, apart)),
        )


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilations: tuple[int, int] = (1, 1)):
        super().__init__()
        first, second = dilations
        # The second ReLU comes after the sum.
        self.body = nn.Sequential(_block(inputs, outputs, stride, first), _block(outputs, outputs, 1, second)[:-1])
        self.shortcut = _block(inputs, outputs, stride, kernel=1)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _added_layer(width: int, channels: int | None, affine: bool) -> tuple[nn.Module, nn.Module]:
    """The new 1x1 convolution (Glorot, zero bias) and its batch normalisation; identities where there is none."""
    if channels is None:
        return nn.Identity(), nn.Identity()
    feature = nn.Conv2d(width, channels, 1)
    nn.init.xavier_uniform_(feature.weight)
    nn.init.zeros_(feature.bias)  # type: ignore[arg-type]
    return feature, nn.BatchNorm2d(channels, affine=affine)


def _block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1, kernel: int = 3) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
