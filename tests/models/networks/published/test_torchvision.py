"""torchvision's detectors: the weights tell which one, and frames give what torchvision itself gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from models.errors import WeightsError
from models.networks.detectors import coco
from models.networks.detectors.torchvision_detectors import TorchvisionConfig, TorchvisionDetector, make_model
from models.networks.published.torchvision import import_torchvision, read_torchvision
from tests.support.torchvision_detectors import HEIGHT, WIDTH, lively_detector, sample_frames

SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"


def expected(detector: TorchvisionDetector, frames: Tensor) -> list[dict[str, Tensor]]:
    """Runs torchvision's own forward, told to keep the size of the frames."""
    model = detector.model
    model.transform.min_size, model.transform.max_size = (HEIGHT,), 10 * WIDTH
    found: list[dict[str, Tensor]] = model([frame.permute(2, 0, 1).float() / 255 for frame in frames])
    return found


@pytest.mark.parametrize("architecture", [SMALL, "retinanet_resnet50_fpn"])
def test_frames_give_what_torchvision_gives(architecture: str) -> None:
    detector, frames = lively_detector(architecture), sample_frames(2)
    with torch.inference_mode():
        boxes, scores = detector(frames)
        truths = expected(detector, frames)
    assert boxes.shape == (2, 100, 4)
    assert scores.shape == (2, 100, 80)
    ids = torch.tensor(coco.IDS)
    for own_boxes, own_scores, truth in zip(boxes, scores, truths, strict=True):
        named = torch.isin(truth["labels"], ids)
        best = truth["scores"][named][:20]
        assert len(best) >= 5
        labels = ids[own_scores.argmax(-1)]
        overlaps = box_iou(own_boxes * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]), truth["boxes"][named][:20])
        same = (labels[:, None] == truth["labels"][named][:20]) & (overlaps > 0.99)
        same &= (own_scores.amax(-1)[:, None] - best).abs() < 1e-3
        # The order of scores that are nearly equal, and what it suppresses, may differ.
        assert same.any(0).float().mean() >= 0.9


def test_a_detection_has_a_score_for_its_own_class_only() -> None:
    with torch.inference_mode():
        _, scores = lively_detector("retinanet_resnet50_fpn")(sample_frames(1))
    assert (scores > 0).sum(-1).max() == 1
    best = scores.amax(-1)[0]
    assert torch.equal(best, best.sort(descending=True).values)


def test_weights_tell_which_detector_they_are_for(tmp_path: Path) -> None:
    torch.save(make_model(SMALL).state_dict(), tmp_path / "weights.pth")
    architecture, state = read_torchvision(tmp_path / "weights.pth")
    # The two MobileNet detectors have the same tensors.
    assert architecture == "fasterrcnn_mobilenet_v3_large_fpn"
    detector = import_torchvision(state, TorchvisionConfig(architecture=architecture, frame_height=64, frame_width=64))
    assert not detector.training
    assert all(torch.equal(value, state[name]) for name, value in detector.model.state_dict().items())


def test_weights_with_the_names_of_older_files_load(tmp_path: Path) -> None:
    state = make_model(SMALL).state_dict()
    older = {
        name.replace("rpn.head.conv.0.0.", "rpn.head.conv.").replace(".0.0.", ".0.").replace(".1.0.", ".1.")
        if name.startswith(("rpn.head.conv", "backbone.fpn"))
        else name: value
        for name, value in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "older.pth")
    architecture, read = read_torchvision(tmp_path / "older.pth")
    detector = import_torchvision(read, TorchvisionConfig(architecture=architecture, frame_height=64, frame_width=64))
    assert all(torch.equal(value, state[name]) for name, value in detector.model.state_dict().items())


def test_weights_of_another_network_are_refused_with_the_closest(tmp_path: Path) -> None:
    state = make_model("retinanet_resnet50_fpn").state_dict()
    del state["head.classification_head.cls_logits.bias"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth holds \d+ tensors .* closest is retinanet_resnet50_fpn,"):
        read_torchvision(tmp_path / "other.pth")
    torch.save({"state": state}, tmp_path / "nested.pth")
    with pytest.raises(WeightsError, match=r"nested\.pth is not a file of torchvision's weights"):
        read_torchvision(tmp_path / "nested.pth")
