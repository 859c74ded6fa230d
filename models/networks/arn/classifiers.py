"""Classifiers whose weights are text embeddings (ARN eq 6 and 15), and the plain ones they replace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.graph.vocabulary import GROUP_SLICE, OBJECT_CLASSES, PREDICATES_OF_GROUP, GroupName

THINGS = OBJECT_CLASSES[1:]
"""The 35 classes an object query can have: a person is never the object of a pair in Action Genome."""


@dataclass(frozen=True)
class TextEmbeddings:
    """CLIP text embeddings of the prompts, not normalised: objects (35, E) and triplets (35, 26, E)."""

    objects: Tensor
    triplets: Tensor

    def __post_init__(self) -> None:
        width = self.objects.shape[-1]
        if self.objects.shape != (35, width) or self.triplets.shape != (35, 26, width):
            raise ValueError(
                "text embeddings must be (35, E) and (35, 26, E), "
                f"not {tuple(self.objects.shape)} and {tuple(self.triplets.shape)}"
            )


class TextClassifier(nn.Module):
    """Scaled cosine similarity to one learned embedding per class, started from text (eq 6)."""

    def __init__(self, width: int, text_width: int, classes: int, prior: float) -> None:
        super().__init__()
        self.project = nn.Linear(width, text_width)
        self.text = nn.Parameter(F.normalize(torch.randn(classes, text_width), dim=-1))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.bias = nn.Parameter(torch.full((classes,), -math.log((1 - prior) / prior)))

    @torch.no_grad()
    def initialise(self, text: Tensor, *, centred: bool) -> None:
        """Copies text embeddings (classes, E) into the weights; `centred` takes their mean out first."""
        text = F.normalize(text.float(), dim=-1)
        self.text.copy_(F.normalize(text - text.mean(0), dim=-1) if centred else text)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> logits (..., classes)."""
        similarity = F.normalize(self.project(features).float(), dim=-1) @ F.normalize(self.text, dim=-1).T
        return similarity * self.log_scale.exp() + self.bias


class ObjectClassifier(nn.Module):
    """Logits of the 35 object classes, and of no-object where classes compete in a softmax."""

    def __init__(self, width: int, text_width: int, *, text: bool, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        prior = 0.02 if sigmoid else 0.5
        self.known: nn.Module = (
            TextClassifier(width, text_width, len(THINGS), prior) if text else nn.Linear(width, len(THINGS))
        )
        self.nothing = None if sigmoid else nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., 35) with a sigmoid, (..., 36) with a softmax; no-object comes last."""
        logits: Tensor = self.known(features).float()
        return logits if self.nothing is None else torch.cat((logits, self.nothing(features).float()), -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits -> (..., 36) per class of the vocabulary; the person column is 0."""
        known = logits.sigmoid() if self.nothing is None else logits.softmax(-1)[..., :-1]
        return F.pad(known, (1, 0))


class PredicateClassifier(nn.Module):
    """Logits of one predicate group: of triplets against text, or of the predicates themselves."""

    def __init__(self, group: GroupName, width: int, text_width: int, *, triplets: bool) -> None:
        super().__init__()
        self.group = group
        self.predicates = len(PREDICATES_OF_GROUP[group])
        self.triplets = triplets
        prior = 0.02
        self.head: nn.Module
        if triplets:
            self.head = TextClassifier(width, text_width, len(THINGS) * self.predicates, prior)
        else:
            self.head = nn.Linear(width, self.predicates)
            nn.init.constant_(self.head.bias, -math.log((1 - prior) / prior))

    def initialise(self, embeddings: TextEmbeddings, *, centred: bool) -> None:
        """Starts the triplet classes from text; does nothing where predicates are predicted directly."""
        if isinstance(self.head, TextClassifier):
            self.head.initialise(embeddings.triplets[:, GROUP_SLICE[self.group]].flatten(0, 1), centred=centred)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., 35, predicates) of triplets, or (..., 1, predicates) of the predicates themselves."""
        logits: Tensor = self.head(features).float().unflatten(-1, (-1, self.predicates))
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., 35 or 1, predicates) -> (..., predicates): the best triplet that has the predicate (eq 15)."""
        return logits.sigmoid().amax(-2)
