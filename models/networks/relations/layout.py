"""The relation network that needs no pixels: it reads where boxes lie, how they move and what they are called.

A pair becomes a token of its geometry relative to the subject, its places in the picture, its motion and the sentence
embeddings of both names. Two transformer layers let the pairs of a frame see each other. Names are embedded rather than
numbered, so that any detector's names can be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.relations.geometry import GEOMETRY, MOTION, PLACES, pair_geometry, pair_motion, places
from models.networks.relations.pairs import Relations
from models.networks.relations.temporal import SpatialEncoder

NAME_WIDTH = 384
"""Width of a sentence embedding of all-MiniLM-L6-v2."""
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LayoutConfig:
    """Shape of a layout network. Raises ConfigurationError where `width` is not a multiple of `heads`.

    width: D, width of a pair.
    name_width: width that the embedding of a name is projected to.
    motion_scale: factor on the motion. A thing in a hand moves a few hundredths of a person's height in half a second,
        so at 1 the network learns little from it.
    complements: a predicate that no data set asks, to the one whose opposite it is.
    """

    network: Literal["layout"] = "layout"
    width: Count = 128
    name_width: Count = 64
    heads: Count = 4
    feed_forward: Count = 256
    layers: Annotated[int, Field(ge=0)] = 2
    dropout: Share = 0.1
    motion_scale: Annotated[float, Field(gt=0)] = 1.0
    complements: dict[str, str] = Field(default_factory=lambda: {"not_looking_at": "looking_at"})

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigurationError(f"width is {self.width}: give a multiple of heads ({self.heads})")


@dataclass(frozen=True)
class LayoutPairs:
    """Candidate pairs of B clips of T frames, P a frame, without pixels.

    Boxes are corner boxes in any unit that is the same along both axes, such as pixels. Those of empty slots have an
    area too, so that nothing divides by zero.

    mask: (B, T, P) bool, true where a slot holds a pair.
    subject_boxes: (B, T, P, 4) float32.
    object_boxes: (B, T, P, 4) float32.
    before: (B, T, P, 2, 4) float32, boxes of the subject and the object half a second earlier.
    after: (B, T, P, 2, 4) float32, half a second later.
    seen: (B, T, P, 2) bool, whether `before` and `after` are known.
    subject_names: (B, T, P, N) float32, embeddings of the subjects' names.
    object_names: (B, T, P, N) float32.
    subject_scores: (B, T, P) float32, probability that the subject is there.
    object_scores: (B, T, P) float32.
    size: (B, T, 2) float32, width and height of the picture in the boxes' unit.
    size_known: (B, T, 1) bool.
    """

    mask: Tensor
    subject_boxes: Tensor
    object_boxes: Tensor
    before: Tensor
    after: Tensor
    seen: Tensor
    subject_names: Tensor
    object_names: Tensor
    subject_scores: Tensor
    object_scores: Tensor
    size: Tensor
    size_known: Tensor

    @property
    def confidence(self) -> Tensor:
        """Probabilities that the subject and the object are there: (B, T, P, 2) float32."""
        return torch.stack((self.subject_scores, self.object_scores), -1)


class Layout(nn.Module):
    """Scores the predicates of pairs from their boxes and names alone.

    object_embeddings: (C, N) float32, embeddings of the vocabulary's objects, for pairs that a detector finds.
    affordances: (C, R) float32, 0 where the training data shows many of the object and hardly ever says the predicate
        of it, else 1. The stage behind a detector multiplies scores by it, so that nobody sits on a cup.
    asked: (R,) float32, 0 for predicates that no training data ever asked, else 1. Their scores are 0.
    """

    object_embeddings: Tensor
    affordances: Tensor
    asked: Tensor

    def __init__(self, config: LayoutConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        """Raises ConfigurationError where `complements` names a predicate that the vocabulary lacks."""
        super().__init__()
        index = vocabulary.predicate_index
        if unknown := {*config.complements, *config.complements.values()} - index.keys():
            raise ConfigurationError(f"complements has {min(unknown)!r}, which is no predicate of the vocabulary")
        self.config = config
        self.vocabulary = vocabulary
        width, predicates = config.width, len(vocabulary.predicates)
        self.subject_name = nn.Linear(NAME_WIDTH, config.name_width)
        self.object_name = nn.Linear(NAME_WIDTH, config.name_width)
        self.embed = nn.Sequential(
            nn.Linear(GEOMETRY + PLACES + MOTION + 2 * config.name_width, 2 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * width, width),
        )
        self.norm = nn.LayerNorm(width)
        self.encoder = SpatialEncoder(width, config.heads, config.feed_forward, config.dropout, config.layers)
        self.predicates = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, predicates)
        )
        self.register_buffer("object_embeddings", torch.zeros(len(vocabulary.objects), NAME_WIDTH))
        self.register_buffer("affordances", torch.ones(len(vocabulary.objects), predicates))
        self.register_buffer("asked", torch.ones(predicates))
        self._complements = [(index[name], index[opposite]) for name, opposite in config.complements.items()]

    @property
    def representation_width(self) -> int:
        """D, width of the representation that a relation scorer reads."""
        return self.config.width

    def forward(self, pairs: LayoutPairs) -> Relations:
        """Scores the predicates of pairs, each frame by itself. A frame may have no pair."""
        represented = self.represent(pairs)
        decoded = self.encoder(represented, pairs.mask)
        scores = self.predicates(decoded).float().sigmoid() * self.asked
        columns = list(scores.unbind(-1))
        for column, opposite in self._complements:
            columns[column] = 1 - columns[opposite]
        scores = torch.stack(columns, -1)  # (B, T, P, R)
        groups = self.vocabulary.group_slices
        return Relations({name: scores[..., columns] for name, columns in groups.items()}, represented, decoded)

    def never_say(self, objects: Mapping[str, Sequence[str]]) -> None:
        """Sets the affordances of a predicate's objects to 0, for what a detector's boxes and the data do not tell.

        Raises ConfigurationError where the vocabulary lacks a predicate or an object.

        objects: predicate to the objects that it is never said of.
        """
        columns, rows = self.vocabulary.predicate_index, self.vocabulary.object_index
        for predicate, names in objects.items():
            if predicate not in columns:
                raise ConfigurationError(f"never_said has {predicate!r}, which is no predicate of the vocabulary")
            if unknown := set(names) - rows.keys():
                raise ConfigurationError(
                    f"never_said: {predicate} has {min(unknown)!r}, which is no object of the vocabulary"
                )
            self.affordances[[rows[name] for name in names], columns[predicate]] = 0

    def represent(self, pairs: LayoutPairs) -> Tensor:
        """Returns each pair before it sees the others of its frame: (B, T, P, D) float32, zeros in empty slots."""
        slots = pairs.mask.shape[-1]
        subjects, objects = pairs.subject_boxes, pairs.object_boxes
        of_subject, of_object = (
            torch.stack((pairs.before[..., which, :], now, pairs.after[..., which, :]), -2)  # (B, T, P, 3, 4)
            for which, now in enumerate((subjects, objects))
        )
        size = pairs.size[:, :, None].expand(-1, -1, slots, -1)
        known = pairs.size_known[:, :, None].expand(-1, -1, slots, -1)
        parts = (
            pair_geometry(subjects, objects),
            places(subjects, objects, size, known),
            pair_motion(of_subject, of_object, pairs.seen, self.config.motion_scale),
            self.subject_name(pairs.subject_names),
            self.object_name(pairs.object_names),
        )
        token: Tensor = self.norm(self.embed(torch.cat(parts, -1)))
        return token * pairs.mask[..., None]
