"""The classifier of given boxes (SGCls), after STTran's `object_classifier`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.graph.vocabulary import OBJECT_CLASSES
from models.networks.boxes import to_centres
from models.networks.relations.config import RelationConfig

_POSITION_WIDTH = 128


class ObjectClassifier(nn.Module):
    """Region feature, the detector's class probabilities and the box's place to one of the 35 object classes."""

    def __init__(self, config: RelationConfig) -> None:
        super().__init__()
        classes, hidden = len(OBJECT_CLASSES), config.feature_width // 2
        self.obj_embed = nn.Embedding(classes, config.word_width)
        self.position = nn.Sequential(nn.Linear(4, _POSITION_WIDTH), nn.ReLU(), nn.Dropout(config.dropout))
        self.decoder_lin = nn.Sequential(
            nn.Linear(config.feature_width + config.word_width + _POSITION_WIDTH, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, features: Tensor, scores: Tensor, boxes: Tensor) -> Tensor:
        """Logits (..., 36), of which the person's is never the largest.

        features (..., F); scores (..., 36), the detector's class probabilities; boxes (..., 4), corners as fractions.
        """
        words = scores @ self.obj_embed.weight
        logits: Tensor = self.decoder_lin(torch.cat((features, words, self.position(to_centres(boxes))), -1))
        person = torch.arange(logits.shape[-1], device=logits.device) == 0
        return logits.masked_fill(person, -1e4)
