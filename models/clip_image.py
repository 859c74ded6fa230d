"""CLIP image embeddings of whole frames: what the mimicry term of ARN's loss imitates (eq 14)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.clip_text import load_clip

_SIDE = 224
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipImageEncoder(nn.Module):
    """open_clip's ViT-B/32 image tower, frozen; raises WeightsError where its weights cannot be had."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.clip = load_clip().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, T, E); frames are stretched, so that nothing at the sides is cut off."""
        batch, time = frames.shape[:2]
        images = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        images = F.interpolate(images, (_SIDE, _SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        embedded = self.clip.encode_image((images - self.mean) / self.std)  # type: ignore[operator]
        by_clip: Tensor = embedded.unflatten(0, (batch, time))
        return by_clip
