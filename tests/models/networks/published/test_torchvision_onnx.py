"""torchvision's Faster R-CNN gives the same detections from ONNX, for any number of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.onnx import export_stages
from models.engines.onnxruntime import open_session
from models.networks.stages import FRAMES, NetworkStage
from tests.support.torchvision_detectors import lively_detector, sample_frames


class Clips(nn.Module):
    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.detector(frames.flatten(0, 1))
        return boxes.unflatten(0, frames.shape[:2]), scores.unflatten(0, frames.shape[:2])


def rows(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first detections of all frames: boxes and scores side by side, (frames, Q, 84)."""
    return np.concatenate((boxes, scores), -1).reshape(-1, boxes.shape[2], 84)


@pytest.mark.bench  # exporting its graph takes minutes on a busy machine
@pytest.mark.timeout(900)
def test_onnx_gives_the_same_detections_for_any_number_of_frames(tmp_path: Path) -> None:
    detector = lively_detector("fasterrcnn_mobilenet_v3_large_320_fpn")
    stage = NetworkStage("detector", Clips(detector).eval(), (FRAMES,), ("boxes", "scores"), "frame")
    traced = {FRAMES: sample_frames(6).unflatten(0, (2, 3)).numpy()}
    (written,) = export_stages([stage], traced, {"boxes", "scores"}, 3, tmp_path)
    session = open_session(tmp_path / written.file, threads=1)
    for batch, time in ((1, 1), (2, 3)):
        frames = sample_frames(batch * time).unflatten(0, (batch, time)).numpy()
        with torch.inference_mode():
            expected = stage.run({FRAMES: frames})
        found = rows(*session.run(["boxes", "scores"], {FRAMES: frames}))
        for own, exported in zip(rows(expected["boxes"], expected["scores"]), found, strict=True):
            best = own[own[:, 4:].max(-1) > 0][:20]
            assert len(best) >= 5
            difference = np.abs(best[:, None] - exported).max(-1).min(1)
            # Regions with nearly equal ranks may change places, and with them what they suppress.
            assert (difference < 1e-3).mean() >= 0.9
