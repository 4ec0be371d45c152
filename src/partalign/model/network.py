"""The two-stream network: streams are built, then joined (Fig. 2). Tensors only; files and pixels are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from partalign.errors import RecipeError, ShapeError
from partalign.model.appearance import GoogLeNet, LightAppearance, LightResidual
from partalign.model.bilinear import AverageLinear, CompactBilinear, ConcatLinear, FullBilinear, StripeLinear
from partalign.model.parts import LightParts, OpenPose, PartStream, ReducedPose


class NetworkSettings(BaseModel):
    """Which network: every variant and baseline of the paper is a choice of these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    appearance: Literal["googlenet", "light", "light-residual"] = "googlenet"
    until: Literal["4e", "5b"] = "4e"
    lrn: Literal["caffe", "released"] = "caffe"
    appearance_channels: int = Field(512, ge=1)
    parts: Literal["openpose", "rcpm", "light", "none"] = "openpose"
    maps: Literal["all", "joints", "limbs", "internal"] = "all"
    part_channels: int = Field(128, ge=1)
    nonnegative: bool = False
    part_input: Literal["openpose", "released"] = "openpose"
    dilation: bool = False
    affine: bool = True
    pooling: Literal["compact", "full", "concat", "average", "stripes"] = "compact"
    dimension: int = Field(512, ge=1)
    hashes: Literal["released"] | int = "released"
    stripes: int = Field(6, ge=1)
    height: int = Field(160, ge=16)
    width: int = Field(80, ge=16)

    @property
    def two_streams(self) -> bool:
        """Whether the pooling looks at part maps at all."""
        return self.pooling in ("compact", "full", "concat")


class PartAlignedNetwork(nn.Module):
    """Crop -> descriptor of unit length.

    appearance, parts, pooling: built modules; parts may be None where the pooling does not use it.
    input_size: (height, width) that crops are resized to.
    """

    def __init__(
        self,
        appearance: nn.Module,
        parts: PartStream | None,
        pooling: nn.Module,
        input_size: tuple[int, int] = (160, 80),
    ):
        super().__init__()
        self.appearance, self.parts, self.pooling = appearance, parts, pooling
        self.input_size = input_size
        self.stride: int = appearance.stride  # type: ignore[assignment]
        self.channels: int = pooling.channels  # type: ignore[assignment]

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) float, BGR minus mean -> (B, D) float32 of unit length (eq. 3-4). Raises ShapeError."""
        return self.join(*self.maps(pictures))

    def maps(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the appearance maps and the part maps (None for a network without a part stream)."""
        _check_pictures(pictures, self.stride)
        return self.appearance(pictures), None if self.parts is None else self.parts(pictures)

    def features(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """As `maps`, before the last batch normalisation of each stream, which `finish` adds; without None."""
        _check_pictures(pictures, self.stride)
        return tuple(stream(pictures, finish=False) for stream in self._streams)

    def finish(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Turn what `features` gave into maps; batch normalisation looks at all crops that are given."""
        maps = [stream.finish(x) for stream, x in zip(self._streams, features, strict=True)]  # type: ignore[operator]
        return maps[0], None if self.parts is None else maps[1]

    @property
    def _streams(self) -> list[nn.Module]:
        return [self.appearance] if self.parts is None else [self.appearance, self.parts]

    def join(self, appearance: Tensor, parts: Tensor | None) -> Tensor:
        """Maps of both streams -> (B, D) float32 of unit length."""
        return F.normalize(self.pooling(appearance, parts).float())


def _check_pictures(pictures: Tensor, stride: int) -> None:
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point():
        raise ShapeError(
            f"expected float pictures (B, 3, height, width), found {pictures.dtype} {tuple(pictures.shape)}: "
            "make the batch with partalign.images.network_input"
        )
    height, width = pictures.shape[2:]
    if height % min(stride, 16) or width % min(stride, 16):
        raise ShapeError(
            f"expected pictures whose sides are multiples of {min(stride, 16)}, found {height} x {width}: resize them, "
            "the paper's size is 160 x 80"
        )


def build_network(settings: NetworkSettings) -> PartAlignedNetwork:
    """Build the network that `settings` describes; added layers are initialised, the others await their weights.

    Raises RecipeError where the choices do not fit each other.
    """
    _check_choices(settings)
    appearance = _build_appearance(settings)
    parts = _build_parts(settings) if settings.two_streams else None
    pooling = _build_pooling(settings, appearance.channels)
    return PartAlignedNetwork(appearance, parts, pooling, (settings.height, settings.width))


def _check_choices(s: NetworkSettings) -> None:
    if s.two_streams and s.parts == "none":
        raise RecipeError(f'pooling "{s.pooling}" needs a part stream: set network.parts, or pooling = "average"')
    if s.two_streams and s.until == "5b":
        raise RecipeError(
            'until = "5b" (stride 32) is for pooling = "average" or "stripes": use until = "4e" with parts'
        )
    if s.appearance.startswith("light") != (s.parts == "light") and s.two_streams:
        raise RecipeError('the "light" streams have stride 8 and go together: set both appearance and parts to "light"')


def _build_appearance(s: NetworkSettings) -> GoogLeNet | LightAppearance:
    if s.appearance != "googlenet":
        light = LightAppearance if s.appearance == "light" else LightResidual
        return light(s.appearance_channels, s.dilation)
    # The baselines pool the bare maps: their linear layer is the added one.
    return GoogLeNet(s.until, s.dilation, s.appearance_channels if s.two_streams else None, s.affine, s.lrn)


def _build_parts(s: NetworkSettings) -> PartStream:
    if s.parts == "light":
        return LightParts(s.maps, s.part_channels, s.nonnegative, dilation=s.dilation)
    stream = OpenPose if s.parts == "openpose" else ReducedPose
    return stream(s.maps, s.dilation, s.part_channels, s.affine, s.nonnegative, s.part_input)


def _build_pooling(s: NetworkSettings, channels: int) -> nn.Module:
    match s.pooling:
        case "compact":
            return CompactBilinear(channels, s.part_channels, s.dimension, s.hashes)
        case "full":
            return FullBilinear(channels, s.part_channels)
        case "concat":
            return ConcatLinear(channels, s.part_channels, s.dimension)
        case "stripes":
            return StripeLinear(channels, s.stripes, s.dimension)
        case _:
            return AverageLinear(channels, s.dimension)
