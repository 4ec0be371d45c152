"""Part streams: crop -> maps of which body part a place belongs to (section 3.1, the map extractor P).

Each stream is a pose network: `stages` gives the joint (and limb) maps of every stage, for pre-training on key points;
`forward` gives the part maps: chosen pose maps, one more 3x3 convolution and batch normalisation. Nothing here knows
of appearance or pooling.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partalign.errors import RecipeError
from partalign.images import MEAN_BGR
from partalign.model.layers import max_pool, recomputed

Maps = Literal["all", "joints", "limbs", "internal"]
Scaling = Literal["openpose", "released"]

OPENPOSE_JOINTS = (
    *(
        "nose",
        "neck",
        "right shoulder",
        "right elbow",
        "right wrist",
        "left shoulder",
        "left elbow",
        "left wrist",
    ),
    *("right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle"),
    *("right eye", "left eye", "right ear", "left ear", "background"),
)
RCPM_JOINTS = (
    *(
        "head",
        "neck",
        "right shoulder",
        "right elbow",
        "right wrist",
        "left shoulder",
        "left elbow",
        "left wrist",
    ),
    *("right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "background"),
)


class PoseMaps(NamedTuple):
    """What one stage of a pose network says: limbs (B, 38, h, w) or None, joints (B, 19 or 15, h, w)."""

    limbs: Tensor | None
    joints: Tensor


class PartStream(nn.Module):
    """What the part streams share: input scaling, choice of maps, the added layer.

    maps: which pose maps feed the added layer (Table 1). dilation: leave the maps at the pose network's stride;
    otherwise they are max-pooled 2x2 to stride 16. nonnegative: ReLU at the end (Table 7).
    scaling: "openpose" undoes the mean and gives value/256 - 0.5, the pose networks' own convention;
    "released" multiplies the mean-subtracted picture by 0.0039, as the authors' code does.
    """

    joint_names: tuple[str, ...]
    widths: dict[str, int]
    stride: int
    mean: Tensor

    def _add_head(self, maps: Maps, pool: bool, channels: int, affine: bool, nonnegative: bool, scaling: Scaling):
        chosen = sum(self.widths.values()) if maps == "all" else self.widths.get(maps)
        if chosen is None:
            known = ", ".join(("all", *self.widths))
            raise RecipeError(f'{type(self).__name__} has no "{maps}" maps: choose one of {known}')
        self.maps, self.pool, self.nonnegative, self.scaling, self.channels = (
            maps,
            pool,
            nonnegative,
            scaling,
            channels,
        )
        self.feature = nn.Conv2d(chosen, channels, 3, padding=1)
        nn.init.xavier_uniform_(self.feature.weight)
        nn.init.zeros_(self.feature.bias)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm2d(channels, affine=affine)
        self.register_buffer("mean", torch.tensor(MEAN_BGR)[:, None, None], persistent=False)

    def stages(self, x: Tensor) -> tuple[list[PoseMaps], Tensor]:
        """(B, 3, H, W) BGR minus mean -> the maps of every stage, first to last, and the internal maps."""
        raise NotImplementedError

    def forward(self, x: Tensor, finish: bool = True) -> Tensor:
        """(B, 3, H, W) BGR minus mean -> (B, C, H/stride, W/stride); finish: with the last batch normalisation."""
        stages, internal = self.stages(x)
        x = self._chosen(stages[-1], internal)
        return self.finish(x) if finish else x

    def finish(self, x: Tensor) -> Tensor:
        """Do what `forward` left out."""
        x = self.norm(x)
        return F.relu(x) if self.nonnegative else x

    def part_maps(self, pose: PoseMaps, internal: Tensor) -> Tensor:
        """Turn the last stage's pose maps and the internal maps into part maps."""
        return self.finish(self._chosen(pose, internal))

    def _chosen(self, pose: PoseMaps, internal: Tensor) -> Tensor:
        """Convolve the pose maps that were chosen."""
        named = {"limbs": pose.limbs, "joints": pose.joints, "internal": internal}
        order = self.widths if self.maps == "all" else (self.maps,)
        x = torch.cat([named[name] for name in order], dim=1)  # type: ignore[misc]
        if self.pool:
            x = max_pool(x, 2, 2, ceil_mode=True)
        return self.feature(x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x * 0.0039 if self.scaling == "released" else (x + self.mean.to(x.dtype)) / 256 - 0.5


class OpenPose(PartStream):
    """The OpenPose COCO body network from the image to the end of stage 2; layers carry Caffe's names. Stride 8."""

    joint_names = OPENPOSE_JOINTS
    POOLED_AFTER = ("conv1_2", "conv2_2", "conv3_4")

    def __init__(
        self,
        maps: Maps = "all",
        dilation: bool = False,
        channels: int = 128,
        affine: bool = True,
        nonnegative: bool = False,
        scaling: Scaling = "openpose",
    ):
        super().__init__()
        self.widths = {"limbs": 38, "joints": 19, "internal": 128}
        trunk = {
            "conv1_1": (3, 64), "conv1_2": (64, 64), "conv2_1": (64, 128), "conv2_2": (128, 128),
            "conv3_1": (128, 256), "conv3_2": (256, 256), "conv3_3": (256, 256), "conv3_4": (256, 256),
            "conv4_1": (256, 512), "conv4_2": (512, 512), "conv4_3_CPM": (512, 256), "conv4_4_CPM": (256, 128),
        }  # fmt: skip
        for name, (inputs, outputs) in trunk.items():
            self.add_module(name, _conv(inputs, outputs, 3))
        self.trunk = tuple(trunk)
        self.branches: dict[tuple[int, str], list[str]] = {}
        for branch, outputs in (("L1", 38), ("L2", 19)):
            shapes = [(128, 128, 3)] * 3 + [(128, 512, 1), (512, outputs, 1)]
            self._add_branch(1, branch, [f"conv5_{i}_CPM_{branch}" for i in range(1, 6)], shapes)
            shapes = [(185, 128, 7)] + [(128, 128, 7)] * 4 + [(128, 128, 1), (128, outputs, 1)]
            self._add_branch(2, branch, [f"Mconv{i}_stage2_{branch}" for i in range(1, 8)], shapes)
        self.stride = 8 if dilation else 16
        self._add_head(maps, not dilation, channels, affine, nonnegative, scaling)

    def _add_branch(self, stage: int, branch: str, names: list[str], shapes: list[tuple[int, int, int]]):
        for name, shape in zip(names, shapes, strict=True):
            self.add_module(name, _conv(*shape))
        self.branches[stage, branch] = names

    def stages(self, x: Tensor) -> tuple[list[PoseMaps], Tensor]:  # noqa: D102
        x = recomputed(self._first_two, x)
        for name in self.trunk[1:]:
            x = x if name == "conv1_2" else self.get_submodule(name)(x)
            x = max_pool(x, 2, 2, ceil_mode=True, relu=True) if name in self.POOLED_AFTER else F.relu(x)
        pose = PoseMaps(self._branch(1, "L1", x), self._branch(1, "L2", x))
        joined = torch.cat((pose.limbs, pose.joints, x), dim=1)  # type: ignore[arg-type]
        return [pose, PoseMaps(self._branch(2, "L1", joined), self._branch(2, "L2", joined))], x

    def _first_two(self, x: Tensor) -> Tensor:
        """The result of the first convolution is the largest of all, and takes a hundredth of the work."""
        first, second = (self.get_submodule(name) for name in self.trunk[:2])
        return second(F.relu(first(self._scaled(x))))

    def _branch(self, stage: int, branch: str, x: Tensor) -> Tensor:
        return _chain(self, self.branches[stage, branch], x)


class ReducedPose(PartStream):
    """R-CPM, the reduced pose network of Spindle Net (2,969,310 parameters without the added layer). Stride 16.

    The centre map, a Gaussian in the middle of the picture, tells the stages which person is meant.
    The internal maps are the 128 channels before the last stage's output. dilation: the last pooling keeps the
    resolution and everything after it is dilated, so that the maps have stride 8.
    """

    joint_names = RCPM_JOINTS
    CENTRE_SIGMA = 21.0  # pixels, for a picture 256 high

    def __init__(
        self,
        maps: Maps = "all",
        dilation: bool = False,
        channels: int = 128,
        affine: bool = True,
        nonnegative: bool = False,
        scaling: Scaling = "openpose",
    ):
        super().__init__()
        self.widths = {"joints": 15, "internal": 128}
        self.dilation = 2 if dilation else 1
        self.conv1_stage1 = _conv(3, 128, 5, stride=2)
        self.conv2_stage1 = _conv(128, 128, 5, stride=2)
        self.conv3_stage1 = _conv(128, 128, 5)
        self.conv4_stage1 = _conv(128, 32, 5, dilation=self.dilation)
        self.conv1_stage3 = _conv(128, 32, 5, dilation=self.dilation)
        self.stage_names: dict[int, list[str]] = {}
        for stage, inputs in ((2, 33), (3, 48)):
            names = [f"Mconv{i}_stage{stage}" for i in range(1, 6)]
            shapes = [(inputs, 128, 5), (128, 128, 5), (128, 128, 5), (128, 128, 1), (128, 15, 1)]
            for name, shape in zip(names, shapes, strict=True):
                self.add_module(name, _conv(*shape, dilation=self.dilation))
            self.stage_names[stage] = names
        self.stride = 8 if dilation else 16
        self._add_head(maps, False, channels, affine, nonnegative, scaling)

    def stages(self, x: Tensor) -> tuple[list[PoseMaps], Tensor]:  # noqa: D102
        centre = self._centre(x)
        x = max_pool(self.conv1_stage1(self._scaled(x)), 3, 2, ceil_mode=True, relu=True)
        x = self.conv3_stage1(F.relu(self.conv2_stage1(x)))
        stride, padding = (2, 0) if self.dilation == 1 else (1, 1)
        x = max_pool(x, 3, stride, padding, ceil_mode=self.dilation == 1, relu=True)
        first = torch.cat((F.relu(self.conv4_stage1(x)), centre), dim=1)
        joints = _chain(self, self.stage_names[2], first)
        again = torch.cat((F.relu(self.conv1_stage3(x)), joints, centre), dim=1)
        *hidden, last = self.stage_names[3]
        internal = F.relu(_chain(self, hidden, again))
        return [PoseMaps(None, joints), PoseMaps(None, self.get_submodule(last)(internal))], internal

    def _centre(self, x: Tensor) -> Tensor:
        """(B, 1, h, w): the centre map at the maps' resolution."""
        batch, _, height, width = x.shape
        sigma, window = self.CENTRE_SIGMA * height / 256, 17 if self.stride == 16 else 9
        sides = [_pooled_gaussian(length, sigma, window, self.stride) for length in (height, width)]
        return x.new_tensor(np.outer(*sides).tolist()).expand(batch, 1, -1, -1)


def _pooled_gaussian(length: int, sigma: float, window: int, stride: int) -> np.ndarray:
    """Means of a Gaussian in the middle of `length` pixels over windows, the last of which may reach beyond the end.

    A number for the exporters, where pooling a map of numbers would be a layer that not every engine knows.
    """
    values = np.exp(-((np.arange(length) - (length - 1) / 2) ** 2) / (2 * sigma**2))
    count = -(-(length - window) // stride) + 1
    return np.array([values[i * stride : i * stride + window].mean() for i in range(count)])


class LightParts(PartStream):
    """A small two-stage pose network for generated people: batch normalisation everywhere, stride 8 (dilated: 4).

    dilation: the last stride is dropped and what follows is dilated, so that the same weights give maps twice as fine.
    """

    joint_names = OPENPOSE_JOINTS

    def __init__(
        self,
        maps: Maps = "all",
        channels: int = 32,
        nonnegative: bool = False,
        width: int = 64,
        dilation: bool = False,
    ):
        super().__init__()
        self.widths = {"limbs": 38, "joints": 19, "internal": width}
        d = 2 if dilation else 1
        self.body = nn.Sequential(
            _block(3, 24, 3, 2), _block(24, 48, 3, 2), _block(48, width, 3, 2 // d), _block(width, width, 3, 1, d)
        )
        self.stage1 = nn.Sequential(_block(width, width, 3, 1, d), _conv(width, 57, 1))
        self.stage2 = nn.Sequential(
            _block(width + 57, width, 5, 1, d), _block(width, width, 5, 1, d), _conv(width, 57, 1)
        )
        with torch.no_grad():
            for stage in (self.stage1, self.stage2):
                stage[-1].weight.mul_(0.05)  # type: ignore[operator]  # most of a pose map is 0: start near that
        self.stride = 8 // d
        self._add_head(maps, False, channels, True, nonnegative, "openpose")

    def stages(self, x: Tensor) -> tuple[list[PoseMaps], Tensor]:  # noqa: D102
        internal = self.body(self._scaled(x) * 4)
        first = self.stage1(internal)
        second = self.stage2(torch.cat((first, internal), dim=1))
        return [PoseMaps(stage[:, :38], stage[:, 38:]) for stage in (first, second)], internal


def _chain(stream: nn.Module, names: list[str], x: Tensor) -> Tensor:
    """Convolutions with ReLU between them, none after the last."""
    for name in names[:-1]:
        x = F.relu(stream.get_submodule(name)(x))
    return stream.get_submodule(names[-1])(x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
