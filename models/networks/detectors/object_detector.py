"""Object detectors of any architecture, and the stage that turns their boxes into pairs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from models.networks.detectors.choosing import Choosing
from models.networks.detectors.network import Detector
from models.networks.stages import FRAMES, NetworkStage


class ObjectDetector(Protocol):
    """Interface of an object detector in torch, whatever its architecture and classes. It is an `nn.Module` too."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its C classes, in the order of the columns of its scores."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        ...

    def __call__(self, frames: Tensor, /) -> tuple[Tensor, Tensor]:
        """Returns corner boxes (N, Q, 4) float32 as fractions of the frame, and scores (N, Q, C) float32 in 0..1.

        frames: (N, H, W, 3) uint8.
        """
        ...


class _FramesToPairs(nn.Module):
    """Runs a detector and the choice among its boxes on clips."""

    def __init__(self, detector: ObjectDetector, choosing: Choosing) -> None:
        super().__init__()
        self.detector = detector
        self.choosing = choosing

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        chosen = self.choosing(*self.detector(frames.flatten(0, 1)))
        return tuple(tensor.unflatten(0, frames.shape[:2]) for tensor in chosen)


def detector_stage(detector: ObjectDetector, choosing: Choosing) -> NetworkStage:
    """Returns the stage from `frames` (B, T, H, W, 3) uint8 to the tensors of `Choosing.outputs`, (B, T, …) each."""
    return NetworkStage("detector", _FramesToPairs(detector, choosing), (FRAMES,), choosing.outputs, "frame")


class RegionDetector(nn.Module):
    """Faster R-CNN of this project as an object detector: its regions, each with the box of its likeliest object."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    @property
    def names(self) -> tuple[str, ...]:
        """The objects of its vocabulary."""
        return self.detector.vocabulary.objects

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.detector.config.frame_height, self.detector.config.frame_width

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, R, 4) and scores (N, R, C); see `ObjectDetector`."""
        detector = self.detector
        maps = detector.feature_map(detector.normalise(frames))
        regions = detector.classify(maps, *detector.propose(maps))
        scores = regions.probabilities[..., 1:]  # the background comes first
        return detector.boxes_of(regions, scores.argmax(-1)) / detector.scale, scores * regions.mask[..., None]
