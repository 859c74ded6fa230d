"""Choice of candidate pairs among the boxes and class scores of any object detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import Vocabulary
from models.networks.detectors.pairing import pair_up
from models.networks.detectors.suppression import suppress
from models.networks.stages import PAIR_MASK

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ChoosingConfig:
    """Numbers that decide which detections become pairs.

    Raises ConfigurationError where there are fewer pairs than things, or more than persons and things can make.

    pairs: P, number of pairs of a frame.
    persons: K, most subjects of a frame. Each is paired with the things near it; a single one is paired with all.
    things: most things of a frame.
    candidates: most boxes of a frame that suppression chooses from, those with the highest scores.
    least_score: score below which subjects and things are dropped.
    object_iou: IoU over which a box is dropped beside a better one of its class.
    clip_length: most frames that run at once.
    """

    pairs: Count = 96
    persons: Count = 10
    things: Count = 32
    candidates: Count = 512
    least_score: Share = 0.1
    object_iou: Share = 0.5
    clip_length: Annotated[int, Field(ge=2)] = 16

    def __post_init__(self) -> None:
        if not self.things <= self.pairs <= self.things * self.persons:
            raise ConfigurationError(
                f"pairs is {self.pairs}: give at least as many as things ({self.things}), and at most "
                f"things x persons ({self.things * self.persons})"
            )


class Choosing(nn.Module):
    """Turns boxes and class scores into P pairs of a subject and a thing near it, in dense tensors with a mask.

    The detector's classes become the vocabulary's objects, boxes of one object that overlap are suppressed, and the
    best subjects and things are paired. A subject is never the thing of a pair. Raises ConfigurationError where no
    class means a subject, or where the vocabulary or the detector has no things.

    names: the detector's classes, in the order of its columns.
    table: class to the object of the vocabulary that it means. Classes that it leaves out are dropped. Where several
        mean one object, the highest score counts.
    frame_size: height and width of the frame, which distances between boxes are measured on.
    """

    columns: Tensor
    scale: Tensor
    subject_columns: Tensor
    thing_columns: Tensor

    def __init__(
        self,
        config: ChoosingConfig,
        names: tuple[str, ...],
        table: Mapping[str, str],
        vocabulary: Vocabulary,
        frame_size: tuple[int, int],
    ) -> None:
        super().__init__()
        known = [[place for place, name in enumerate(names) if table.get(name) == each] for each in vocabulary.objects]
        for kind, indices in (("subjects", vocabulary.subject_indices), ("things", vocabulary.thing_indices)):
            if not any(known[index] for index in indices):
                raise ConfigurationError(
                    f"none of the detector's {len(names)} classes means one of the vocabulary's {kind}: "
                    "name those that do in the table"
                )
        self.config = config
        self.has_kinds = len(vocabulary.subjects) > 1
        most = max(map(len, known))
        # Column `len(names)` is one of zeros.
        padded = [[*each, *[len(names)] * (most - len(each))] for each in known]
        self.register_buffer("columns", torch.tensor(padded), persistent=False)  # (C', M)
        self.register_buffer(
            "scale", torch.tensor([frame_size[1], frame_size[0]] * 2, dtype=torch.float32), persistent=False
        )
        self.register_buffer("subject_columns", torch.tensor(vocabulary.subject_indices), persistent=False)
        self.register_buffer("thing_columns", torch.tensor(vocabulary.thing_indices), persistent=False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that `forward` returns, in order."""
        names = (
            PAIR_MASK, "subject_boxes", "subject_scores", "object_boxes", "object_scores", "person_boxes",
            "person_scores", "person_of_pair",
        )  # fmt: skip
        return (*names, "subject_classes", "person_classes") if self.has_kinds else names

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        """Returns the tensors that `outputs` names. Slots without a pair are 0 in all of them.

        - pair_mask: (N, P) bool, true where a slot holds a pair.
        - subject_boxes, object_boxes: (N, P, 4) corner boxes as fractions of the frame.
        - subject_scores: (N, P).
        - object_scores: (N, P, C'), where classes that are likelier than the slot's own are 0.
        - person_boxes: (N, K, 4) of the frame's subjects, the best first, in a pair or not; 0 where there is none.
        - person_scores: (N, K).
        - person_of_pair: (N, P) int64, the place of a pair's subject among them.
        - subject_classes: (N, P) int64, indices into the vocabulary's objects.
        - person_classes: (N, K) int64, likewise.

        boxes: (N, Q, 4) corner boxes as fractions of the frame.
        scores: (N, Q, C) of the detector's classes.
        """
        boxes, known = self._candidates(boxes.clamp(0.0, 1.0), scores)  # (N, S, 4), (N, S, C')
        persons, person_scores, person_classes = self._best_subjects(boxes, known)
        found = person_scores > self.config.least_score  # (N, K)
        things, thing_scores, real = self._best_things(boxes, known)
        whose, which, near = pair_up(persons * self.scale, found, things * self.scale, self.config.pairs)
        mask = near & real.gather(1, which) & found.gather(1, whose)  # (N, P)
        tensors = (
            mask,
            _pick(persons, whose) * mask[..., None],
            person_scores.gather(1, whose) * mask,
            _pick(things, which) * mask[..., None],
            _pick(thing_scores, which) * mask[..., None],
            persons * found[..., None],
            person_scores * found,
            whose * mask,
        )
        if not self.has_kinds:
            return tensors
        return (*tensors, person_classes.gather(1, whose) * mask, person_classes * found)

    def _candidates(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the boxes (N, S, 4) with the highest scores, and these by the vocabulary's objects (N, S, C')."""
        with_nothing = F.pad(scores, (0, 1))
        known = with_nothing[..., self.columns.flatten()].unflatten(-1, self.columns.shape).amax(-1)  # (N, Q, C')
        least = max(self.config.persons, -(-self.config.things // len(self.thing_columns)))
        if (missing := least - boxes.shape[1]) > 0:
            boxes, known = F.pad(boxes, (0, 0, 0, missing)), F.pad(known, (0, 0, 0, missing))
        _, best = known.amax(-1).topk(min(max(self.config.candidates, least), boxes.shape[1]), dim=1)
        return _pick(boxes, best), _pick(known, best)

    def _best_subjects(self, boxes: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns boxes (N, K, 4), scores (N, K) and classes (N, K) of the best subjects."""
        scores, kind = known[..., self.subject_columns].max(-1)  # (N, S)
        scores = scores * suppress(boxes, scores, self.config.object_iou, self.config.least_score)
        scores, best = scores.topk(self.config.persons, dim=1)
        return _pick(boxes, best), scores, self.subject_columns[kind.gather(1, best)]

    def _best_things(self, boxes: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns boxes (N, H, 4), scores of all objects (N, H, C') and a mask (N, H) of the best things.

        A box may be several things, each in a slot of its own.
        """
        kinds, size = len(self.thing_columns), boxes.shape[1]
        scores = known[..., self.thing_columns].transpose(1, 2)  # (N, kinds, S)
        keep = suppress(
            boxes[:, None].expand(-1, kinds, -1, -1).flatten(0, 1),
            scores.flatten(0, 1), self.config.object_iou, self.config.least_score,
        ).unflatten(0, (-1, kinds))  # fmt: skip
        best, order = torch.where(keep, scores, -1.0).flatten(1).topk(self.config.things, dim=1)  # (N, H)
        is_thing = (torch.arange(known.shape[-1], device=known.device)[:, None] == self.thing_columns).any(-1)
        own = _pick(known, order % size)
        own = torch.where(own <= best[..., None], own, 0.0) * is_thing
        return _pick(boxes, order % size), own, best > 0


def _pick(values: Tensor, indices: Tensor) -> Tensor:
    """Picks rows (N, K, D) of values (N, R, D) by indices (N, K) int64."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))
