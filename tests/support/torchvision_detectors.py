"""Detectors of torchvision with weights that react to frames, and frames for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FrozenBatchNorm2d

from models.networks.detectors.torchvision_detectors import Architecture, TorchvisionConfig, TorchvisionDetector

HEIGHT, WIDTH = 96, 144


def sample_frames(count: int) -> Tensor:
    """Returns frames (count, HEIGHT, WIDTH, 3) uint8 of rectangles on noise."""
    random = np.random.default_rng(3)
    frames = random.integers(0, 40, (count, HEIGHT, WIDTH, 3), np.uint8)
    for frame in frames:
        for _ in range(5):
            top, left = random.integers(HEIGHT - 30), random.integers(WIDTH - 40)
            frame[top : top + 30, left : left + 40] = random.integers(60, 256, 3)
    return torch.from_numpy(frames)


def lively_detector(architecture: Architecture) -> TorchvisionDetector:
    """Returns a detector whose maps keep their scale and whose heads react to them."""
    torch.manual_seed(0)
    detector = TorchvisionDetector(
        TorchvisionConfig(architecture=architecture, frame_height=HEIGHT, frame_width=WIDTH)
    ).eval()
    model, frames = detector.model, sample_frames(2)

    def fit_norm(module: FrozenBatchNorm2d, inputs: tuple[Tensor]) -> None:
        module.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        module.running_var.copy_(inputs[0].var((0, 2, 3)) + 1e-3)

    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [module.register_forward_pre_hook(fit_norm) for module in norms]
    with torch.no_grad():
        detector(frames)
    for hook in hooks:
        hook.remove()
    if isinstance(model, FasterRCNN):
        predictor = model.roi_heads.box_predictor
        for layer, spread in ((model.rpn.head.cls_logits, 2.0), (predictor.cls_score, 3.0), (predictor.bbox_pred, 1.0)):
            _spread_out(detector, layer, frames, spread)
    else:
        _spread_out(detector, model.head.classification_head.cls_logits, frames, 1.5)
        _spread_out(detector, model.head.regression_head.bbox_reg, frames, 0.2)
    return detector


@torch.no_grad()
def _spread_out(detector: nn.Module, layer: nn.Conv2d | nn.Linear, frames: Tensor, spread: float) -> None:
    """Scales a layer so that its largest outputs have a deviation of `spread` around 0."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    detector(frames)
    hook.remove()
    largest = max(float(output.std()) for output in seen)
    layer.weight.mul_(spread / largest)
    assert layer.bias is not None
    layer.bias.zero_()
