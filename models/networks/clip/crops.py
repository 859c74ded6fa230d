"""CLIP image embeddings of the regions around pairs, by which TR² represents a pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from models.networks.clip.image import SIDE, ClipImageTower, as_images


class ClipCropEncoder(ClipImageTower):
    """Embeds the region of each box. With the boxes around both of a pair, these are the `crop_features` of `Pairs`.

    TR²'s code cuts each region out of the picture at whole pixels, scales its shorter side to 224 pixels (bicubic) and
    keeps the square in the middle. Here all regions are sampled at once, from corners at fractions of pixels, each
    pixel as a mean of 2 x 2 bilinear samples. They are stretched to the square, so that no end of a long one is cut
    off.
    """

    @torch.no_grad()
    def forward(self, frames: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
        """Returns embeddings, (B, T, P, E) float32, not normalised, zero where `mask` is false.

        Empty slots are embedded too, so give no more slots than the fullest frame needs.

        frames: (B, T, H, W, 3) uint8 RGB.
        boxes: (B, T, P, 4) float32 corner boxes as fractions of the frame. A box without area gives the embedding of
            the colour there.
        mask: (B, T, P) bool, true where a slot holds a box. Other slots' boxes are not read.
        """
        images = self.normalised(as_images(frames))
        height, width = images.shape[-2:]
        slots = mask.shape[2]
        scale = boxes.new_tensor((width, height, width, height))
        # Leftovers in a slot without a pair may be NaN, which RoIAlign would take for an address.
        corners = torch.where(mask[..., None], boxes * scale, 0.0).flatten(0, 2)  # (B * T * P, 4) in pixels
        frame_of = torch.arange(images.shape[0], device=boxes.device).repeat_interleave(slots)
        regions = torch.cat((frame_of[:, None].to(boxes.dtype), corners), -1)
        crops = roi_align(images, regions, (SIDE, SIDE), sampling_ratio=2, aligned=True)  # (B * T * P, 3, 224, 224)
        embedded = self.embed(crops).unflatten(0, mask.shape)
        return torch.where(mask[..., None], embedded, 0.0)
