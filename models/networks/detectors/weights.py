"""Initial weights of a detector's backbone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torchvision.models import ResNet101_Weights

from models.errors import WeightsError
from models.networks.detectors.backbones import ResNet101C4
from models.networks.detectors.network import Detector
from models.networks.tensor_file import read_tensor_file, require_finite

IMAGENET = "imagenet"


def load_backbone(detector: Detector, source: str) -> str:
    """Loads weights into the backbone. Returns a sentence about it, for the log.

    Raises WeightsError where the source does not fit.

    source: `imagenet` for torchvision's ResNet-101, which is downloaded once, or the path of a checkpoint of this
        project, which must hold every tensor of a compact backbone.
    """
    if source == IMAGENET:
        if not isinstance(detector.body, ResNet101C4):
            raise WeightsError(
                "backbone_weights is 'imagenet', a ResNet-101: give the path of a checkpoint for a compact backbone"
            )
        known = ResNet101_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        body, head = detector.body.backbone, detector.roi_heads.box_head[0]
        head.load_state_dict(
            {name.removeprefix("layer4."): known[name] for name in known if name.startswith("layer4.")}
        )
        own = body.state_dict()
        body.load_state_dict({name: known[name] for name in own})
        return "started from ImageNet's ResNet-101"
    content = read_tensor_file(Path(source), "a checkpoint of this project")
    state = content.get("state") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{source} is not a checkpoint of this project: its state is not tensors by name")
    known = {name.rpartition("backbone.")[2]: value for name, value in state.items() if "backbone." in name}
    backbone = detector.body.backbone if not isinstance(detector.body, ResNet101C4) else None
    own = {} if backbone is None else backbone.state_dict()
    fitting = {name: known[name] for name in own if name in known and known[name].shape == own[name].shape}
    if backbone is None or len(fitting) < len(own):
        raise WeightsError(
            f"{source}: {len(fitting)} of the backbone's {len(own)} tensors fit; it must hold a compact backbone of "
            "the same compact_widths and compact_blocks"
        )
    require_finite(fitting, source)
    backbone.load_state_dict(fitting)
    return f"backbone started from {source}"
