"""CLIP's frozen image tower, and its embeddings of whole frames, which ARN's mimicry term imitates (eq 14)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.clip.text import CLIP_MODEL, load_clip

SIDE = 224
"""Side in pixels of the squares that the tower reads."""
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipImageTower(nn.Module):
    """open_clip's ViT-B/32 image tower, frozen. Raises WeightsError where its weights cannot be loaded.

    pretrained: if off, the weights are random until a checkpoint is loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        clip = load_clip() if pretrained else _random_clip()
        self.tower: nn.Module = clip.get_submodule("visual").requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1))

    def embed(self, images: Tensor) -> Tensor:
        """Embeds images (N, 3, 224, 224) that `normalised` returned: (N, E) float32, not of unit length."""
        embedded: Tensor = self.tower(images).float()
        return embedded

    def normalised(self, images: Tensor) -> Tensor:
        """Brings images (N, 3, H, W) float32 in [0, 1] to the range that the tower was trained on."""
        return (images - self.mean) / self.std


class ClipImageEncoder(ClipImageTower):
    """Embeds whole frames."""

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Embeds frames (B, T, H, W, 3) uint8 as (B, T, E). It stretches them, so that no side is cut off."""
        images = F.interpolate(as_images(frames), (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        by_clip: Tensor = self.embed(self.normalised(images)).unflatten(0, frames.shape[:2])
        return by_clip


def _random_clip() -> nn.Module:
    # Built from the configuration, because `create_model` warns of missing weights.
    import open_clip

    clip: nn.Module = open_clip.CLIP(**open_clip.get_model_config(CLIP_MODEL))
    return clip


def as_images(frames: Tensor) -> Tensor:
    """Turns frames (B, T, H, W, 3) uint8 into images (B * T, 3, H, W) float32 in [0, 1]."""
    return frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
