"""The classifier of given boxes (SGCls), after STTran's `object_classifier`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.graph.vocabulary import Vocabulary
from models.networks.boxes import to_centres
from models.networks.relations.config import RelationConfig

_POSITION_WIDTH = 128


class ObjectClassifier(nn.Module):
    """Classifies a box as one of the vocabulary's things by its region, the detector's scores and its position."""

    subject_columns: Tensor

    def __init__(self, config: RelationConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        classes, hidden = len(vocabulary.objects), config.feature_width // 2
        self.register_buffer("subject_columns", torch.tensor(vocabulary.subject_indices), persistent=False)
        self.obj_embed = nn.Embedding(classes, config.word_width)
        self.position = nn.Sequential(nn.Linear(4, _POSITION_WIDTH), nn.ReLU(), nn.Dropout(config.dropout))
        self.decoder_lin = nn.Sequential(
            nn.Linear(config.feature_width + config.word_width + _POSITION_WIDTH, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, features: Tensor, scores: Tensor, boxes: Tensor) -> Tensor:
        """Returns logits (..., C). A subject's logit is never the largest.

        features: (..., F), the detector's features of the boxes.
        scores: (..., C), the detector's class probabilities.
        boxes: (..., 4), corner boxes as fractions of the frame.
        """
        words = scores @ self.obj_embed.weight
        logits: Tensor = self.decoder_lin(torch.cat((features, words, self.position(to_centres(boxes))), -1))
        columns = torch.arange(logits.shape[-1], device=logits.device)
        return logits.masked_fill((columns[:, None] == self.subject_columns).any(-1), -1e4)
