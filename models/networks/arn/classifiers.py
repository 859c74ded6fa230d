"""Classifiers whose weights are text embeddings (ARN eq 6 and 15), and the plain ones they replace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import PredicateGroup, Vocabulary


@dataclass(frozen=True)
class TextEmbeddings:
    """CLIP text embeddings of the prompts of H things and R predicates, not normalised.

    Raises ValueError where the shapes do not fit each other.

    objects: (H, E), one prompt for each thing.
    triplets: (H, R, E), one prompt for each thing and predicate.
    """

    objects: Tensor
    triplets: Tensor

    def __post_init__(self) -> None:
        objects, triplets = tuple(self.objects.shape), tuple(self.triplets.shape)
        if len(objects) != 2 or len(triplets) != 3 or objects != (triplets[0], triplets[2]):
            raise ValueError(
                f"text embeddings must be (things, E) and (things, predicates, E), not {objects} and {triplets}"
            )

    def require(self, vocabulary: Vocabulary) -> None:
        """Raises ConfigurationError where the numbers of things and predicates are not those of a vocabulary."""
        wanted = len(vocabulary.things), len(vocabulary.predicates)
        if self.triplets.shape[:2] != wanted:
            raise ConfigurationError(
                f"the text embeddings are of {self.triplets.shape[0]} things and {self.triplets.shape[1]} predicates, "
                f"but the vocabulary has {wanted[0]} and {wanted[1]}; make them of its words"
            )


class TextClassifier(nn.Module):
    """Classifies by scaled cosine similarity to a learned embedding of each class, which starts from text (eq 6).

    prior: probability that every class starts from.
    """

    def __init__(self, width: int, text_width: int, classes: int, prior: float) -> None:
        super().__init__()
        self.project = nn.Linear(width, text_width)
        self.text = nn.Parameter(F.normalize(torch.randn(classes, text_width), dim=-1))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.bias = nn.Parameter(torch.full((classes,), -math.log((1 - prior) / prior)))

    @torch.no_grad()
    def initialise(self, text: Tensor, *, centred: bool) -> None:
        """Copies text embeddings (classes, E) into the weights; `centred` subtracts their mean first."""
        text = F.normalize(text.float(), dim=-1)
        self.text.copy_(F.normalize(text - text.mean(0), dim=-1) if centred else text)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (..., classes) of features (..., D)."""
        similarity = F.normalize(self.project(features).float(), dim=-1) @ F.normalize(self.text, dim=-1).T
        return similarity * self.log_scale.exp() + self.bias


class ThingClassifier(nn.Module):
    """Classifies objects as one of the H things, or as no object where classes compete in a softmax.

    A subject is never an object.

    text: uses a `TextClassifier` instead of a linear layer.
    sigmoid: scores each class with a sigmoid of its own instead of all with a softmax.
    """

    columns: Tensor

    def __init__(self, width: int, text_width: int, vocabulary: Vocabulary, *, text: bool, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        prior = 0.02 if sigmoid else 0.5
        things = len(vocabulary.things)
        self.known: nn.Module = TextClassifier(width, text_width, things, prior) if text else nn.Linear(width, things)
        self.nothing = None if sigmoid else nn.Linear(width, 1)
        # The place of each of the vocabulary's objects among the things. Subjects have that of the zero after them.
        place_of = {column: place for place, column in enumerate(vocabulary.thing_indices)}
        columns = [place_of.get(column, things) for column in range(len(vocabulary.objects))]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (..., H) with a sigmoid, (..., H + 1) with a softmax; no-object comes last."""
        logits: Tensor = self.known(features).float()
        return logits if self.nothing is None else torch.cat((logits, self.nothing(features).float()), -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turns logits into probabilities (..., C) of the vocabulary's objects; those of subjects are 0."""
        known = logits.sigmoid() if self.nothing is None else logits.softmax(-1)[..., :-1]
        return F.pad(known, (0, 1))[..., self.columns]


class PredicateClassifier(nn.Module):
    """Classifies the predicates of one group: as triplets against text, or directly.

    Each has a sigmoid of its own, in exclusive groups too: there the triplets compete by their likeness to text.

    triplets: compares triplets with text instead of classifying predicates directly.
    """

    def __init__(
        self, group: PredicateGroup, vocabulary: Vocabulary, width: int, text_width: int, *, triplets: bool
    ) -> None:
        super().__init__()
        self.predicates = len(group.predicates)
        self.slice = vocabulary.group_slices[group.name]
        self.triplets = triplets
        prior = 0.02
        self.head: nn.Module
        if triplets:
            self.head = TextClassifier(width, text_width, len(vocabulary.things) * self.predicates, prior)
        else:
            self.head = nn.Linear(width, self.predicates)
            nn.init.constant_(self.head.bias, -math.log((1 - prior) / prior))

    def initialise(self, embeddings: TextEmbeddings, *, centred: bool) -> None:
        """Copies text embeddings into the triplet classes; does nothing where predicates are classified directly."""
        if isinstance(self.head, TextClassifier):
            self.head.initialise(embeddings.triplets[:, self.slice].flatten(0, 1), centred=centred)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits of triplets (..., H, predicates), or of the predicates themselves (..., 1, predicates)."""
        logits: Tensor = self.head(features).float().unflatten(-1, (-1, self.predicates))
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns the probability of each predicate's best triplet (eq 15): (..., predicates).

        logits: (..., H or 1, predicates).
        """
        return logits.sigmoid().amax(-2)
