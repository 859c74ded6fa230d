"""The detector's bodies, which make the map to pool regions from, and heads, which turn pooled regions into vectors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet101
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d

from models.networks.backbone import CompactBackbone
from models.networks.detectors.config import DetectorConfig


class ResNet101C4(nn.Module):
    """torchvision's ResNet-101 up to layer3, stride 16, with frozen batch norm. The region head is its layer4."""

    def __init__(self) -> None:
        super().__init__()
        body = resnet101(weights=None, norm_layer=FrozenBatchNorm2d)
        del body.fc, body.avgpool, body.layer4
        self.backbone = body
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name.startswith(("layer2", "layer3")))

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to (N, 1024, ceil(H / 16), ceil(W / 16))."""
        backbone = self.backbone
        features = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(images))))
        mapped: Tensor = backbone.layer3(backbone.layer2(backbone.layer1(features)))
        return mapped


class CompactBody(nn.Module):
    """The compact backbone with its coarse level added to the fine one, stride 8."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.map_channels
        self.backbone = CompactBackbone(config.compact_widths, config.compact_blocks)
        self.fine_projection = nn.Conv2d(self.backbone.fine_channels, channels, 1, bias=False)
        self.coarse_projection = nn.Conv2d(self.backbone.channels, channels, 1, bias=False)
        self.fuse = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to (N, C, H / 8, W / 8)."""
        fine, coarse = self.backbone(images)
        context = F.interpolate(self.coarse_projection(coarse), scale_factor=2.0, mode="nearest")
        fused: Tensor = self.fuse(self.fine_projection(fine) + context)
        return fused


def make_region_head(config: DetectorConfig) -> nn.Module:
    """Builds the head from pooled regions (N, C, S, S) to vectors (N, F): ResNet-101's layer4 or two linear layers."""
    if config.backbone == "resnet101":
        body = resnet101(weights=None, norm_layer=FrozenBatchNorm2d)
        return nn.Sequential(body.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head: nn.Module = TwoMLPHead(config.map_channels * config.region_size**2, config.feature_width)
    return head
