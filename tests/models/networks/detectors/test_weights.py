"""What a detector's backbone starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import ResNet101_Weights, resnet101

from models.errors import WeightsError
from models.networks.arn import Arn
from models.networks.checkpoint import save_checkpoint
from models.networks.detectors import Detector, DetectorConfig
from models.networks.detectors.weights import load_backbone
from tests.support.networks import tiny, tiny_detector


def test_a_compact_backbone_comes_out_of_another_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source, detector = Arn(tiny()), Detector(tiny_detector())
    save_checkpoint(tmp_path / "arn.pt", source, {})
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    assert load_backbone(detector, str(tmp_path / "arn.pt")) == f"backbone started from {tmp_path / 'arn.pt'}"
    known = {name: value for name, value in source.state_dict().items() if name.startswith("backbone.")}
    for name, value in detector.state_dict().items():
        wanted = known.get(name.removeprefix("body.")) if name.startswith("body.backbone.") else before[name]
        assert wanted is not None, name
        assert torch.equal(value, wanted), name


@pytest.mark.parametrize("changes", [{"compact_widths": (8, 16, 32)}, {"compact_blocks": (1, 1, 2)}])
def test_a_backbone_of_another_shape_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "arn.pt", Arn(tiny()), {})
    with pytest.raises(WeightsError, match=r"arn\.pt: \d+ of the backbone's \d+ tensors fit; .* same compact_widths"):
        load_backbone(Detector(tiny_detector(**changes)), str(tmp_path / "arn.pt"))


def test_imagenets_weights_fit_the_backbone_and_the_regions_head(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        known = resnet101(weights=None).state_dict()
        detector = Detector(DetectorConfig())
    used = set()

    class Spied(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            used.add(name)
            return super().__getitem__(name)

    monkeypatch.setattr(ResNet101_Weights, "get_state_dict", lambda *_, **__: Spied(known))
    assert load_backbone(detector, "imagenet") == "started from ImageNet's ResNet-101"
    left = {name for name in known.keys() - used if not name.endswith("num_batches_tracked")}
    assert left == {"fc.weight", "fc.bias"}


def test_a_compact_backbone_has_no_imagenet_weights() -> None:
    with pytest.raises(
        WeightsError, match="backbone_weights is 'imagenet', a ResNet-101: give the path of a checkpoint"
    ):
        load_backbone(Detector(tiny_detector()), "imagenet")
