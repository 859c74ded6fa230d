"""Predictions: the dense arrays that the stages of a bundle make together, one slot per candidate pair of a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from models.graph.vocabulary import Vocabulary

Array = NDArray[np.float32]
Tensors = Mapping[str, NDArray[np.generic]]

PREDICATE_SCORES = "predicate_scores"
PERSON_FIELDS = ("person_boxes", "person_scores", "person_classes")
"""Fields with a slot for each subject of a frame. All others have one for each pair."""


@dataclass(frozen=True)
class PairPredictions:
    """Predictions for T frames with P pair slots each, of a vocabulary of C objects and R predicates.

    Models that know subjects without a pair have K slots for subjects, too.

    Every score is a probability in [0, 1]. Every box is xyxy as a fraction of the frame's width and height.
    Slots where `pair_mask` is false hold nothing and must be ignored. Raises ValueError, naming the array, where a
    shape does not fit, where only one kind of uncertainty is given, or boxes of subjects without scores.

    pair_mask: (T, P) bool.
    subject_boxes: (T, P, 4) float32.
    subject_scores: (T, P) float32.
    object_boxes: (T, P, 4) float32.
    object_scores: (T, P, C) float32, in the vocabulary's order of objects.
    predicate_scores: (T, P, R) float32, in the vocabulary's order of predicates.
    relation_scores: (T, P) float32, the probability that the pair is related. None without a relation scorer.
    subject_classes: (T, P) int64, indices into the vocabulary's objects. None where it has only one subject.
    epistemic: (T, P, R) float32 from 0 up, what the model does not know of each predicate. None where it does not say.
    aleatoric: (T, P, R) float32 from 0 up, what the video leaves open of each predicate. None where `epistemic` is.
    person_boxes: (T, K, 4) float32, the subjects of each frame, whether a pair has them or not. None where the model
        knows those of pairs only.
    person_scores: (T, K) float32, 0 in empty slots. None where `person_boxes` is.
    person_classes: (T, K) int64, indices into the vocabulary's objects. None where it has only one subject.
    """

    pair_mask: NDArray[np.bool_]
    subject_boxes: Array
    subject_scores: Array
    object_boxes: Array
    object_scores: Array
    predicate_scores: Array
    relation_scores: Array | None = None
    subject_classes: NDArray[np.int64] | None = None
    epistemic: Array | None = None
    aleatoric: Array | None = None
    person_boxes: Array | None = None
    person_scores: Array | None = None
    person_classes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.pair_mask.ndim != 2:
            raise ValueError(f"pair_mask must have shape (T, P), not {self.pair_mask.shape}")
        if (self.epistemic is None) != (self.aleatoric is None):
            raise ValueError("epistemic and aleatoric go together; give both or neither")
        if (self.person_boxes is None) != (self.person_scores is None):
            raise ValueError("person_boxes and person_scores go together; give both or neither")
        pairs = self.pair_mask.shape
        persons = pairs[:1] if self.person_scores is None else (*pairs[:1], *self.person_scores.shape[-1:])
        objects, predicates = self.object_scores.shape[-1], self.predicate_scores.shape[-1]
        for name, depth in _depths(objects, predicates).items():
            array = getattr(self, name)
            expected = (persons if name in PERSON_FIELDS else pairs) + depth
            if array is not None and array.shape != expected:
                raise ValueError(f"{name} must have shape {expected}, not {array.shape}")

    @classmethod
    def from_tensors(cls, tensors: Tensors, vocabulary: Vocabulary) -> PairPredictions:
        """Joins the named tensors of one video or clip, each (T, P, …) or (T, K, …); see `prediction_names`.

        Tensors of other names are ignored, and so are boxes of subjects without scores, which older bundles make for
        their stage `pose`. Raises ValueError where one is missing or its shape does not fit the vocabulary.
        """
        if "person_scores" not in tensors:
            tensors = {name: tensor for name, tensor in tensors.items() if name not in PERSON_FIELDS}
        required = _required(vocabulary, has_persons="person_scores" in tensors)
        missing = [name for name in required if name not in tensors]
        if missing:
            raise ValueError(f"the stages make no tensor {missing[0]!r}; they must make all of {required}")
        for name, count in {"object_scores": len(vocabulary.objects), **_group_sizes(vocabulary)}.items():
            if tensors[name].shape[-1] != count:
                raise ValueError(f"{name} must have {count} columns as the vocabulary says, not {tensors[name].shape}")
        groups = [tensors[name] for name in vocabulary.group_names]
        predicate_scores = groups[0] if len(groups) == 1 else np.concatenate(groups, axis=-1)
        arrays = {field.name: tensors[field.name] for field in fields(cls) if field.name in tensors}
        return cls(**{**arrays, PREDICATE_SCORES: predicate_scores})  # type: ignore[arg-type]

    @classmethod
    def from_outputs(cls, outputs: Tensors, vocabulary: Vocabulary, batch_index: int = 0) -> PairPredictions:
        """Does as `from_tensors` for one video or clip of a bundle's named outputs, each (B, T, P or K, …)."""
        names = prediction_names(vocabulary) & outputs.keys()
        return cls.from_tensors({name: outputs[name][batch_index] for name in names}, vocabulary)

    @classmethod
    def concatenate(cls, clips: Sequence[PairPredictions]) -> PairPredictions:
        """Joins consecutive clips of one video along time."""

        def join(name: str) -> NDArray[np.generic] | None:
            parts = [getattr(clip, name) for clip in clips]
            return None if parts[0] is None else np.concatenate(parts)

        return cls(**{field.name: join(field.name) for field in fields(cls)})  # type: ignore[arg-type]

    def with_boxes_scaled(self, x: float, y: float) -> PairPredictions:
        """Returns these predictions with boxes in another unit: coordinates are multiplied by `x` and `y`.

        Turns fractions of a frame into fractions of the picture that fills its upper left corner.
        """
        if x == y == 1:
            return self
        scale = np.array((x, y, x, y), np.float32)
        return replace(
            self,
            subject_boxes=self.subject_boxes * scale,
            object_boxes=self.object_boxes * scale,
            person_boxes=None if self.person_boxes is None else self.person_boxes * scale,
        )

    def __len__(self) -> int:
        return int(self.pair_mask.shape[0])


FIELD_NAMES = frozenset(field.name for field in fields(PairPredictions))


def prediction_names(vocabulary: Vocabulary) -> frozenset[str]:
    """Returns the names of the tensors that a bundle's stages make together.

    They are the fields of `PairPredictions`, but in place of `predicate_scores` each group has a tensor (B, T, P,
    predicates of the group) of its own name.
    """
    return FIELD_NAMES - {PREDICATE_SCORES} | set(vocabulary.group_names)


def prediction_depths(vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Returns the axes after (B, T, P) of each of `prediction_names`, after (B, T, K) of those in `PERSON_FIELDS`."""
    depths = {"pair_mask": (), **_depths(len(vocabulary.objects), len(vocabulary.predicates))}
    del depths[PREDICATE_SCORES]
    return depths | {name: (count,) for name, count in _group_sizes(vocabulary).items()}


def _depths(objects: int, predicates: int) -> dict[str, tuple[int, ...]]:
    return {
        "subject_boxes": (4,),
        "subject_scores": (),
        "object_boxes": (4,),
        "object_scores": (objects,),
        PREDICATE_SCORES: (predicates,),
        "relation_scores": (),
        "subject_classes": (),
        "epistemic": (predicates,),
        "aleatoric": (predicates,),
        "person_boxes": (4,),
        "person_scores": (),
        "person_classes": (),
    }


def _group_sizes(vocabulary: Vocabulary) -> dict[str, int]:
    return {group.name: len(group.predicates) for group in vocabulary.groups}


def _required(vocabulary: Vocabulary, *, has_persons: bool) -> list[str]:
    """Returns the tensors that must be there. With several subjects, one of them says which subject a slot has."""
    boxes_and_scores = ["pair_mask", "subject_boxes", "subject_scores", "object_boxes", "object_scores"]
    persons = ["person_boxes", "person_scores"] if has_persons else []
    classes = ["subject_classes"] if len(vocabulary.subjects) > 1 else []
    if has_persons and classes:
        classes.append("person_classes")
    return [*boxes_and_scores, *persons, *classes, *vocabulary.group_names]
