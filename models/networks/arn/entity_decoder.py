"""ARN's entity decoder: two sets of queries, whose slots pair a subject with an object (eq 1-2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.arn.config import ArnConfig
from models.networks.arn.proposals import BoxPosition, Proposals, RegionSampler
from models.networks.layers import DecoderLayer, Perceptron


@dataclass(frozen=True)
class EntityLayerOutput:
    """Output of one decoder layer for N pairs.

    subject_boxes: (B, N, 4) centre boxes.
    object_boxes: (B, N, 4) centre boxes.
    object_features: (B, N, D).
    """

    subject_boxes: Tensor
    object_boxes: Tensor
    object_features: Tensor


@dataclass(frozen=True)
class Entities:
    """Outputs of all layers, and the features of the last one that the predicate decoder reads.

    subject_features: (B, N, D).
    object_features: (B, N, D).
    object_position: (B, N, D), the position embedding e^o.
    """

    layers: list[EntityLayerOutput]
    subject_features: Tensor
    object_features: Tensor
    object_position: Tensor


class EntityDecoder(nn.Module):
    """Runs Q^E = concat[Q^s + e^s, Q^o + e^o] through self-attention, cross-attention and feed-forward.

    Without proposals Q and e are learned, one for each slot, and every layer predicts its boxes from scratch, as in the
    paper. With proposals they come from the dense head's peaks, and each layer refines the boxes of the one before.
    """

    def __init__(self, config: ArnConfig) -> None:
        super().__init__()
        width, slots = config.width, 1 if config.dense_proposals else config.queries
        self.refine = config.dense_proposals
        self.subject_query = nn.Parameter(torch.zeros(slots, width))
        self.object_query = nn.Parameter(torch.zeros(slots, width))
        self.subject_position = nn.Parameter(torch.randn(slots, width))
        self.object_position = nn.Parameter(torch.randn(slots, width))
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.heads, config.feed_forward, config.dropout) for _ in range(config.entity_layers)
        )
        self.norm = nn.LayerNorm(width) if config.entity_norm else None
        self.subject_box = Perceptron(width, width, 4, 3)
        self.object_box = Perceptron(width, width, 4, 3)
        self.box_position = BoxPosition(width) if config.dense_proposals else None
        self.regions = nn.ModuleList(
            RegionSampler(width, config.region_grid) for _ in range(config.entity_layers if config.region_grid else 0)
        )
        if self.refine:
            for head in (self.subject_box, self.object_box):
                for parameter in head.layers[-1].parameters():
                    nn.init.zeros_(parameter)

    def forward(self, keys: Tensor, values: Tensor, fine: Tensor | None, proposals: Proposals | None) -> Entities:
        """Decodes the entities of each frame. B counts frames here, since entities are decoded frame by frame.

        keys: (B, S, D), the encoder's tokens with their position code.
        values: (B, S, D), the encoder's tokens without it.
        fine: (B, D, h, w), the map that regions are sampled from; None without a dense head.
        proposals: queries and boxes to start from; None for learned ones.
        """
        batch = values.shape[0]
        subject_boxes = object_boxes = None
        if proposals is None:
            query = torch.cat((self.subject_query, self.object_query)).expand(batch, -1, -1)  # (B, 2N, D)
        else:
            query = torch.cat(
                (proposals.subject_features + self.subject_query, proposals.object_features + self.object_query), 1
            )
            subject_boxes, object_boxes = proposals.subject_boxes, proposals.object_boxes
        outputs: list[EntityLayerOutput] = []
        position = self._position(subject_boxes, object_boxes, batch)
        for index, layer in enumerate(self.layers):
            extra = None
            if self.regions and fine is not None and object_boxes is not None:
                sampled = self.regions[index](fine, object_boxes)
                extra = torch.cat((torch.zeros_like(sampled), sampled), 1)
            query = layer(query, position, keys, values, extra)
            seen = query if self.norm is None else self.norm(query)
            subject_features, object_features = seen.chunk(2, dim=1)  # (B, N, D) x 2
            boxes = (
                self._box(self.subject_box(subject_features), subject_boxes),
                self._box(self.object_box(object_features), object_boxes),
            )
            outputs.append(EntityLayerOutput(*boxes, object_features))
            if self.refine:
                subject_boxes, object_boxes = boxes[0].detach(), boxes[1].detach()
                position = self._position(subject_boxes, object_boxes, batch)
        return Entities(outputs, subject_features, object_features, position.chunk(2, dim=1)[1])

    def _position(self, subject_boxes: Tensor | None, object_boxes: Tensor | None, batch: int) -> Tensor:
        """Returns e^s and e^o, concatenated: (B, 2N, D)."""
        if self.box_position is None or subject_boxes is None or object_boxes is None:
            return torch.cat((self.subject_position, self.object_position)).expand(batch, -1, -1)
        return torch.cat(
            (
                self.box_position(subject_boxes) + self.subject_position,
                self.box_position(object_boxes) + self.object_position,
            ),
            1,
        )

    def _box(self, offset: Tensor, reference: Tensor | None) -> Tensor:
        """Turns the output of a box head into a centre box, relative to a reference box where there is one."""
        offset = offset.float()
        return (offset if reference is None else offset + torch.logit(reference, eps=1e-4)).sigmoid()
