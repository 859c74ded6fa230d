"""The relation network that needs no pixels: it reads where boxes lie, how they move and what they are called.

A pair becomes a token of its geometry relative to the person, its places in the picture, its motion and the sentence
embeddings of both names; two transformer layers let the pairs of a frame see each other. Names are embedded rather than
numbered, so that any detector's names can be used. One sigmoid says how likely each predicate is, and one more whether
the pair has anything to do with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.relations.geometry import GEOMETRY, MOTION, PLACES, pair_geometry, pair_motion, places
from models.networks.relations.temporal import SpatialEncoder

NAME_WIDTH = 384
"""Of a sentence embedding of all-MiniLM-L6-v2."""
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LayoutConfig:
    """The shape of a layout network.

    clip_length: most frames that run at once; motion is seen from the frames before and after.
    complements: a predicate that no data set asks, to the one whose opposite it is.
    """

    network: Literal["layout"] = "layout"
    width: Count = 128
    name_width: Count = 64
    heads: Count = 4
    feed_forward: Count = 256
    layers: Annotated[int, Field(ge=0)] = 2
    dropout: Share = 0.1
    clip_length: Count = 16
    complements: dict[str, str] = Field(default_factory=lambda: {"not_looking_at": "looking_at"})

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigurationError(f"width ({self.width}) must be a multiple of heads ({self.heads})")


@dataclass(frozen=True)
class LayoutPairs:
    """Candidate pairs of B clips of T frames, P a frame, without pixels.

    mask: (B, T, P) bool, true where a slot holds a pair.
    subject_boxes: (B, T, P, 4) float32, corner boxes in units that are the same along both axes.
    object_boxes: (B, T, P, 4) float32.
    before, after: (B, T, P, 2, 4) float32, both boxes of the pair half a second earlier and later, subject first.
    seen: (B, T, P, 2) bool, whether `before` and `after` are known.
    subject_names, object_names: (B, T, P, N) float32, embeddings of the labels.
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
    size: Tensor
    size_known: Tensor


class Layout(nn.Module):
    """Pairs in, logits of predicates and of relatedness out."""

    asked: Tensor

    def __init__(self, config: LayoutConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        """Raises ConfigurationError where `complements` names a predicate that the vocabulary lacks."""
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        width = config.width
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
            nn.Linear(width, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, len(vocabulary.predicates))
        )
        self.relatedness = nn.Linear(width, 1)
        # Predicates that no data set of the training ever asked; their scores are 0.
        self.register_buffer("asked", torch.ones(len(vocabulary.predicates), dtype=torch.bool))
        index = vocabulary.predicate_index
        if unknown := {*config.complements, *config.complements.values()} - index.keys():
            raise ConfigurationError(f"complements names {min(unknown)!r}, which the vocabulary lacks")
        self._complements = [(index[name], index[of]) for name, of in config.complements.items()]

    def represent(self, pairs: LayoutPairs) -> Tensor:
        """The pair's token before it sees the others of its frame: (B, T, P, D) float32."""
        slots = pairs.mask.shape[-1]
        subjects, objects = pairs.subject_boxes, pairs.object_boxes
        tracks = [
            torch.stack((pairs.before[..., which, :], now, pairs.after[..., which, :]), -2)
            for which, now in enumerate((subjects, objects))
        ]
        size = pairs.size[:, :, None].expand(-1, -1, slots, -1)
        known = pairs.size_known[:, :, None].expand(-1, -1, slots, -1)
        parts = (
            pair_geometry(subjects, objects),
            places(subjects, objects, size, known),
            pair_motion(tracks[0], tracks[1], pairs.seen),
            self.subject_name(pairs.subject_names),
            self.object_name(pairs.object_names),
        )
        token: Tensor = self.norm(self.embed(torch.cat(parts, -1)))
        return token * pairs.mask[..., None]

    def forward(self, pairs: LayoutPairs) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of predicates (B, T, P, R), of relatedness (B, T, P), and the representation (B, T, P, D)."""
        represented = self.represent(pairs)
        seen = self.encoder(represented, pairs.mask)
        return self.predicates(seen), self.relatedness(seen)[..., 0], seen

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities (B, T, P, R): 0 for what was never asked, the rest for what is another's opposite."""
        probabilities = logits.sigmoid() * self.asked
        columns = list(probabilities.unbind(-1))
        for column, opposite in self._complements:
            columns[column] = 1 - columns[opposite]
        return torch.stack(columns, -1)
