"""Backbones, which turn frames into feature maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """Turns uint8 RGB frames into ImageNet-normalised images; part of the exported graph."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(3, 1, 1) * 255, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, H, W, 3) uint8 to (N, 3, H, W) float32."""
        return (frames.permute(0, 3, 1, 2).float() - self.mean) / self.std


class ResNet(nn.Module):
    """torchvision's ResNet up to C5, with frozen batch norm as in DETR.

    name: one of torchvision's, such as `resnet50`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        body = get_model(name, weights=None, norm_layer=FrozenBatchNorm2d)
        self.channels = body.fc.in_features
        del body.fc, body.avgpool
        self.body = body
        for name, parameter in body.named_parameters():
            # DETR trains layer2 to layer4 only.
            parameter.requires_grad_(name.startswith(("layer2", "layer3", "layer4")))

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to (N, channels, ceil(H / 32), ceil(W / 32))."""
        body = self.body
        features = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        return body.layer4(body.layer3(body.layer2(body.layer1(features))))  # type: ignore[no-any-return]


class ResNet50(ResNet):
    """The ResNet of DETR."""

    def __init__(self) -> None:
        super().__init__("resnet50")


class CompactBackbone(nn.Module):
    """A stem of 4 x 4 patches and residual blocks at strides 4, 8 and 16.

    widths: channels at the three strides.
    blocks: number of residual blocks at the three strides.
    """

    def __init__(self, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.stages = nn.ModuleList()
        incoming = widths[0]
        for level, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            stride = 1 if level == 0 else 2
            stage = [
                _ResidualBlock(incoming if block == 0 else width, width, stride if block == 0 else 1)
                for block in range(depth)
            ]
            self.stages.append(nn.Sequential(*stage))
            incoming = width
        self.channels = widths[2]
        self.fine_channels = widths[1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, 3, H, W) to (N, C8, H / 8, W / 8) and (N, C16, H / 16, W / 16)."""
        fine = self.stages[1](self.stages[0](self.stem(images)))
        coarse: Tensor = self.stages[2](fine)
        return fine, coarse


class _ResidualBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        keeps_shape = stride == 1 and width_in == width
        self.shortcut = (
            nn.Identity()
            if keeps_shape
            else nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, features: Tensor) -> Tensor:
        mixed: Tensor = self.body(features) + self.shortcut(features)
        return mixed.relu()
