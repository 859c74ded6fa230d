"""Blocks of mobile convolutional networks, padded as TensorFlow pads them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.tflite.graph import pad_same


class SameConv(nn.Conv2d):
    """A convolution with a bias that pads as TensorFlow's SAME does."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, ceil(H / stride), ceil(W / stride))."""
        padded = pad_same(images, self.kernel_size, self.stride)
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """A block of MobileNetV2 and EfficientNet-Lite: expand, filter each channel, project.

    The result is added to the input where shapes allow.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = SameConv(inputs, width) if expansion > 1 else None
        self.filter = SameConv(width, width, kernel, stride, groups=width)
        self.project = SameConv(width, outputs)
        self.added = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, H / stride, W / stride), rounded up."""
        projected = self.reduce(self.widen(images))
        return projected + images if self.added else projected

    def widen(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the block's widest maps (N, W, H, W)."""
        return images if self.expand is None else F.relu6(self.expand(images))

    def reduce(self, wide: Tensor) -> Tensor:
        """Maps the widest maps (N, W, H, W) to (N, D, H / stride, W / stride)."""
        projected: Tensor = self.project(F.relu6(self.filter(wide)))
        return projected
