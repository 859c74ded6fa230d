"""The vector of a pair (STTran §3.2): both regions, the region around both with the boxes' masks, both classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.graph.vocabulary import Vocabulary
from models.networks.relations.config import RelationConfig
from models.networks.relations.pairs import Pairs


class PairRepresentation(nn.Module):
    """Computes concat(subject, object, union, subject word, object word). Parameters have the published names."""

    def __init__(self, config: RelationConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        visual, words = config.visual_width, config.word_width
        self.only_subject = vocabulary.subject_indices[0]
        self.subj_fc = nn.Linear(config.feature_width, visual)
        self.obj_fc = nn.Linear(config.feature_width, visual)
        self.obj_embed = nn.Embedding(len(vocabulary.objects), words)
        self.obj_embed2 = nn.Embedding(len(vocabulary.objects), words)
        self.union = nn.Linear(config.clip_width, visual) if config.clip_features else UnionRepresentation(config)

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the pairs' vectors, (B, T, P, D). Slots without a pair are zero.

        Raises ValueError where the network reads CLIP features and the pairs carry none.
        """
        if isinstance(self.union, UnionRepresentation):
            union = self.union(pairs)
        elif pairs.crop_features is not None:
            union = self.union(pairs.crop_features)
        else:
            raise ValueError("this network reads CLIP features of the pairs' regions: give crop_features")
        if pairs.subject_classes is None:
            subject_word = self.obj_embed.weight[self.only_subject].expand(*pairs.mask.shape, -1)
        else:
            subject_word = self.obj_embed(pairs.subject_classes)
        parts = (
            self.subj_fc(pairs.subject_features),
            self.obj_fc(pairs.object_features),
            union,
            subject_word,
            self.obj_embed2(pairs.labels),
        )
        return torch.cat(parts, -1) * pairs.mask[..., None]


class UnionRepresentation(nn.Module):
    """Adds the detector's map of the region around both boxes and the output of a small network on the box masks."""

    cells: Tensor

    def __init__(self, config: RelationConfig) -> None:
        super().__init__()
        hidden = config.visual_width // 2
        self.size = config.union_size
        self.union_func1 = nn.Conv2d(config.union_channels, hidden, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(2, hidden // 2, 7, 2, 3),
            nn.ReLU(),
            nn.BatchNorm2d(hidden // 2, momentum=0.01),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(hidden // 2, hidden, 3, 1, 1),
            nn.ReLU(),
            nn.BatchNorm2d(hidden, momentum=0.01),
        )
        self.vr_fc = nn.Linear(hidden * self.size * self.size, config.visual_width)
        # Two strides of 2 bring a mask of this side to the size of the feature map.
        self.register_buffer("cells", torch.arange(4 * self.size - 1, dtype=torch.float32), persistent=False)

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns union features, (B, T, P, visual width)."""
        batch, time, slots = pairs.mask.shape
        masks = box_masks(pairs.subject_boxes, pairs.object_boxes, self.cells)
        regions, masks = pairs.union_features.flatten(0, 2), masks.flatten(0, 2)  # (B * T * P, ...)
        if self.training:
            # Empty slots would otherwise count in the batch norms' statistics.
            real = pairs.mask.flatten().nonzero().squeeze(1)
            mixed = self._mix(regions[real], masks[real])
            flat = mixed.new_zeros(len(masks), mixed.shape[1]).index_copy(0, real, mixed)
        else:
            flat = self._mix(regions, masks)
        by_slot: Tensor = flat.unflatten(0, (batch, time, slots))
        return by_slot

    def _mix(self, regions: Tensor, masks: Tensor) -> Tensor:
        """Mixes regions (N, C, S, S) and box masks (N, 2, M, M) into (N, visual width)."""
        mixed = self.union_func1(regions) + self.conv(masks)
        flat: Tensor = self.vr_fc(mixed.flatten(1))
        return flat


def union_boxes(first: Tensor, second: Tensor) -> Tensor:
    """Returns the smallest corner boxes (..., 4) around both of two corner boxes (..., 4)."""
    return torch.cat(
        (torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])), -1
    )


def box_masks(subject_boxes: Tensor, object_boxes: Tensor, cells: Tensor) -> Tensor:
    """Returns the share of each cell of the region around both boxes that a box covers, minus 0.5.

    The shape is (..., 2, M, M), subject first. A region without area gives uncovered cells.

    subject_boxes: (..., 4) corner boxes.
    object_boxes: (..., 4) corner boxes.
    cells: (M,), indices of the cells.
    """
    around = union_boxes(subject_boxes, object_boxes)[..., None, :]  # (..., 1, 4)
    boxes = torch.stack((subject_boxes, object_boxes), -2)  # (..., 2, 4)
    size = (around[..., 2:] - around[..., :2]).clamp(min=1e-6)
    low = (boxes[..., :2] - around[..., :2]) / size * len(cells)  # (..., 2, 2)
    high = (boxes[..., 2:] - around[..., :2]) / size * len(cells)
    # Share of each column and row that lies between the box's edges: (..., 2, 2, M).
    covered = (cells + 1 - low[..., None]).clamp(0, 1) * (high[..., None] - cells).clamp(0, 1)
    across, down = covered.unbind(-2)
    return down[..., :, None] * across[..., None, :] - 0.5
