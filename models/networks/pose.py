"""BlazePose's landmark network (Bazarevsky et al., 2020) on the crops of persons."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from models.networks.stages import FRAMES, PICTURE_SIZE, NetworkStage

SIDE = 256
"""Height and width of a crop in pixels."""
KEYPOINTS: tuple[str, ...] = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb",
    "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""The J = 33 points of a person; left and right are the person's own."""
PUBLISHED_POINTS = 39
"""Points of the published network. The last six, which describe the crop, are not used here."""
VALUES = 5
"""Values of a point: x, y and z in pixels of the crop, and logits of being visible and of being in the crop."""
_BLOCKS = (
    (64, 24, 3, 2, 1),
    (144, 24, 3, 1, 1),
    (144, 32, 5, 2, 1),
    (192, 32, 5, 1, 1),
    (192, 64, 3, 2, 1),
    (384, 64, 3, 1, 2),
    (384, 88, 5, 1, 1),
    (528, 88, 5, 1, 2),
    (528, 144, 5, 2, 1),
    (864, 144, 5, 1, 3),
)
"""The body's blocks: expanded channels, channels, kernel, stride, repetitions."""
_STEM, _FIRST, _WIDEST, _HEAD = 24, 16, 864, 288
_REPEATS = (4, 5)
"""Blocks of the head after its first and its second halving of the map."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PoseConfig:
    """How persons are cropped.

    margin: side of the square crop as a multiple of the longer side of the person's box, as displayed.
    """

    network: Literal["pose"] = "pose"
    margin: Annotated[float, Field(ge=1, le=3)] = 1.25


class PoseNetwork(nn.Module):
    """Finds the 33 points of BlazePose on each person: face (0 to 10), arms and hands (11 to 22), hips, legs, feet.

    `KEYPOINTS` names them in order. Left and right are the person's own.
    """

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        self.landmarks = LandmarkNetwork()

    def forward(self, frames: Tensor, persons: Tensor, picture_size: Tensor) -> Tensor:
        """Returns (B, T, K, J, 3) float32: x and y in fractions of the frame, and visibility in 0..1.

        Visibility is the network's for the point times its confidence that the crop shows a person. All three are 0
        for a box without an area; the network runs on the other boxes only.

        frames: (B, T, H, W, 3) uint8 RGB.
        persons: (B, T, K, 4) float32 corner boxes in fractions of the frame.
        picture_size: (B, T, 2) float32, width and height of a whole frame in pixels of the displayed picture. Where
            frames are stretched, a square crop of the picture is no square of the frame.
        """
        squares = crop_squares(persons, picture_size, self.config.margin)  # (B, T, K, 4)
        slots = squares.flatten(0, 2)
        frame = torch.arange(frames.shape[0] * frames.shape[1], device=frames.device, dtype=slots.dtype)
        frame = frame.repeat_interleave(persons.shape[2])
        there = (persons[..., 2:] > persons[..., :2]).all(-1).flatten()
        chosen = torch.nonzero(there).squeeze(1)  # (M,)
        boxes = slots[chosen]
        images = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        points, presence = self.landmarks(crop(images, boxes, frame[chosen]))
        places = boxes[:, None, :2] + points[..., :2] / SIDE * (boxes[:, None, 2:] - boxes[:, None, :2])
        visible = points[..., 3:4].sigmoid() * presence[:, None]
        found = torch.cat((places, visible), -1)  # (M, J, 3)
        keypoints = found.new_zeros(slots.shape[0], *found.shape[1:]).index_put((chosen,), found)
        return keypoints.view(*persons.shape[:3], *found.shape[1:])


class _Keypoints(nn.Module):
    """Returns the keypoints as a tuple."""

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, persons: Tensor, picture_size: Tensor) -> tuple[Tensor, ...]:
        return (self.network(frames, persons, picture_size),)


def pose_stage(network: PoseNetwork) -> NetworkStage:
    """Returns the stage from frames and a detector stage's `person_boxes` to `keypoints`, frame by frame."""
    inputs = (FRAMES, "person_boxes", PICTURE_SIZE)
    return NetworkStage("pose", _Keypoints(network), inputs, ("keypoints",), "frame")


def crop_squares(persons: Tensor, picture_size: Tensor, margin: float) -> Tensor:
    """Returns the crops (B, T, K, 4), squares of the displayed picture around persons' boxes, in fractions of it.

    persons: (B, T, K, 4) corner boxes in fractions of the picture.
    picture_size: (B, T, 2) width and height in pixels.
    margin: side of a square as a multiple of the longer side of the box.
    """
    size = picture_size[:, :, None]  # (B, T, 1, 2)
    centres = (persons[..., :2] + persons[..., 2:]) / 2
    side = ((persons[..., 2:] - persons[..., :2]) * size).amax(-1, keepdim=True) * margin
    half = side / size / 2
    return torch.cat((centres - half, centres + half), -1)


def crop(images: Tensor, boxes: Tensor, frame: Tensor) -> Tensor:
    """Cuts boxes out of images and scales them to (M, 3, S, S), black outside of the image.

    images: (N, 3, H, W).
    boxes: (M, 4) corner boxes in fractions of the image.
    frame: (M,) float32, the image of each box, as a place in N.
    """
    height, width = images.shape[2:]
    rows = torch.cat((frame[:, None], boxes * boxes.new_tensor((width, height, width, height))), 1)
    crops: Tensor = roi_align(images, rows, SIDE, sampling_ratio=1, aligned=True)
    return crops


class LandmarkNetwork(nn.Module):
    """BlazePose GHUM's landmark network ("full") without its heat maps, segmentation and points in metres."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, padding=1)
        self.first_filter = nn.Conv2d(_STEM, _STEM, 3, padding=1, groups=_STEM)
        self.first_project = nn.Conv2d(_STEM, _FIRST, 1)
        blocks, channels = [], _FIRST
        for expanded, outputs, kernel, stride, repetitions in _BLOCKS:
            for _ in range(repetitions):
                blocks.append(InvertedResidual(channels, expanded, outputs, kernel, stride))
                channels = outputs
        self.body = nn.Sequential(*blocks)
        self.widen = nn.Conv2d(channels, _WIDEST, 1)
        self.widest_filter = nn.Conv2d(_WIDEST, _WIDEST, 3, padding=1, groups=_WIDEST)
        self.head_filter = nn.Conv2d(_WIDEST, _WIDEST, 3, padding=1, groups=_WIDEST)
        self.head_project = nn.Conv2d(_WIDEST, _HEAD, 1)
        self.head = nn.Sequential(
            *(ResidualBlock(_HEAD, stride) for repeats in _REPEATS for stride in (2, *[1] * repeats))
        )
        self.points = nn.Conv2d(_HEAD, len(KEYPOINTS) * VALUES, 2)
        self.presence = nn.Conv2d(_HEAD, 1, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Returns points (M, J, 5), values as `VALUES` names them, and the confidence (M, 1) that there is a person.

        crops: (M, 3, 256, 256) float32 RGB in 0..1.
        """
        values = self.first_project(F.relu6(self.first_filter(F.relu6(self.stem(crops)))))
        values = F.relu6(self.widen(self.body(values)))
        values = F.relu6(self.head_filter(F.relu6(self.widest_filter(values))))
        values = self.head(F.relu6(self.head_project(values)))
        points = self.points(values).flatten(1).unflatten(1, (len(KEYPOINTS), VALUES))
        return points, self.presence(values).flatten(1).sigmoid()


class InvertedResidual(nn.Module):
    """Expands, filters each channel and projects; added to its input where shapes allow."""

    def __init__(self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, expanded, 1)
        self.filter = nn.Conv2d(expanded, expanded, kernel, stride, kernel // 2, groups=expanded)
        self.project = nn.Conv2d(expanded, outputs, 1)
        self.added = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        """Maps (M, C, H, W) to (M, D, H / stride, W / stride)."""
        projected: Tensor = self.project(F.relu6(self.filter(F.relu6(self.expand(images)))))
        return projected + images if self.added else projected


class ResidualBlock(nn.Module):
    """BlazePose's block: a separable convolution added to its input, which is pooled where the stride is 2."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # With stride 2, TensorFlow pads at the bottom and on the right only.
        self.filter = nn.Conv2d(channels, channels, 3, stride, 1 if stride == 1 else 0, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (M, C, H, W) to (M, C, H / stride, W / stride)."""
        if self.stride == 1:
            return F.relu6(images + self.mix(F.relu6(self.filter(images))))
        filtered = F.relu6(self.filter(F.pad(images, (0, 1, 0, 1))))
        return F.relu6(F.max_pool2d(images, 2) + self.mix(filtered))
