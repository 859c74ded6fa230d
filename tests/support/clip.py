"""A CLIP of open_clip's own parts with random weights, small enough to make in a test."""

from __future__ import annotations

import open_clip
import torch


def tiny_clip() -> torch.nn.Module:
    """Reads pictures of 224 x 224 in patches of 32 and gives 512 numbers, as ViT-B/32 does."""
    torch.manual_seed(0)
    vision = open_clip.CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=32, image_size=224)
    text = open_clip.CLIPTextCfg(context_length=8, vocab_size=16, width=32, heads=2, layers=1)
    model: torch.nn.Module = open_clip.CLIP(512, vision, text)
    return model.eval()
