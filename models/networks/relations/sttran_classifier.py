"""STTran's published classifier of given boxes (SGCls), and its rules for the labels of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.relations.config import RelationConfig

_POSITION_WIDTH, _HIDDEN = 128, 1024


@dataclass(frozen=True)
class Labelled:
    """K boxes of N frames with their classes.

    subject: (N, 1) int64, the box of the person.
    probabilities: (N, K, C); a person's is 0 but for the subject, and so is a class that a surer box has.
    things: (N, K) bool, true for boxes that are things.
    """

    subject: Tensor
    probabilities: Tensor
    things: Tensor


class SttranObjectClassifier(nn.Module):
    """Classifies boxes by their region, the detector's probabilities and their place. Names are the published ones.

    `ObjectClassifier`, which is trained here, normalises otherwise and has other rules.
    """

    def __init__(self, config: RelationConfig, classes: int) -> None:
        super().__init__()
        self.obj_embed = nn.Embedding(classes, config.word_width)
        self.pos_embed = nn.Sequential(
            nn.BatchNorm1d(4), nn.Linear(4, _POSITION_WIDTH), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.decoder_lin = nn.Sequential(
            nn.Linear(config.feature_width + config.word_width + _POSITION_WIDTH, _HIDDEN),
            nn.BatchNorm1d(_HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1 + classes),
        )

    def forward(self, features: Tensor, probabilities: Tensor, boxes: Tensor) -> Tensor:
        """Returns probabilities (N, K, C).

        features: (N, K, F), the detector's.
        probabilities: (N, K, C), the detector's.
        boxes: (N, K, 4) corner boxes in pixels of the picture, whose last pixels count to their sides.
        """
        shape = boxes.shape[:2]
        size = boxes[..., 2:] - boxes[..., :2] + 1
        place = self.pos_embed(torch.cat((boxes[..., :2] + 0.5 * size, size), -1).flatten(0, 1))
        words = (probabilities @ self.obj_embed.weight).flatten(0, 1)
        logits = self.decoder_lin(torch.cat((features.flatten(0, 1), words, place), -1))
        known: Tensor = logits[:, 1:].softmax(-1).unflatten(0, shape)
        return known


def label(probabilities: Tensor, real: Tensor) -> Labelled:
    """Labels the boxes of each frame.

    The box that is a person most is the subject, all others are things. Of the class that most boxes have, the surest
    box keeps it; the others take their next best class, and where that is a person, they are no things.

    probabilities: (N, K, C), persons in the first column.
    real: (N, K) bool, true where there is a box.
    """
    classes = probabilities.shape[-1]
    subject = torch.where(real, probabilities[..., 0], -1.0).argmax(1, keepdim=True)  # (N, 1)
    slots = torch.arange(real.shape[1], device=real.device)
    is_subject = slots == subject
    labels = torch.where(is_subject, 0, probabilities[..., 1:].argmax(-1) + 1)
    common = (F.one_hot(labels, classes) * real[..., None]).sum(1).argmax(-1, keepdim=True)  # (N, 1)
    has_it = real & (labels == common)
    score = probabilities.gather(-1, common[:, None].expand(-1, real.shape[1], -1))[..., 0]
    surest = torch.where(has_it, score, -1.0).argmax(1, keepdim=True)
    changed = has_it & (slots != surest)
    is_common = torch.arange(classes, device=real.device) == common[..., None]  # (N, 1, C)
    left = torch.where(changed[..., None] & is_common, 0.0, probabilities)
    labels = torch.where(changed, left.argmax(-1), labels)
    person = torch.zeros(classes, dtype=torch.bool, device=real.device)
    person[0] = True
    return Labelled(
        subject, torch.where(person & ~is_subject[..., None], 0.0, left), real & ~is_subject & (labels != 0)
    )
