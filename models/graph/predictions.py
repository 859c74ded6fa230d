"""What the last stage of every bundle says: dense arrays, one slot per candidate pair of a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.graph.vocabulary import ATTENTION, CONTACTING, OBJECT_CLASSES, PREDICATES, SPATIAL

Array = NDArray[np.float32]


@dataclass(frozen=True)
class PairPredictions:
    """Predictions for T frames with P pair slots each; fields carry the names of the bundle's output tensors.

    Every score is a probability in [0, 1] and every box is xyxy as a fraction of the displayed frame's width and
    height. Slots where `pair_mask` is false hold nothing and must be ignored. Raises ValueError naming the array whose
    shape does not fit, or where only one kind of uncertainty is given.

    pair_mask        (T, P)      bool
    subject_boxes    (T, P, 4)   float32, the person
    subject_scores   (T, P)      float32
    object_boxes     (T, P, 4)   float32
    object_scores    (T, P, 36)  float32, per class of `OBJECT_CLASSES`; the person column is 0
    attention        (T, P, 3)   float32
    spatial          (T, P, 6)   float32
    contacting       (T, P, 17)  float32
    relation_scores  (T, P)      float32, P(this pair is related); None where the model has no relation scorer
    epistemic        (T, P, 26)  float32 from 0 up, what the model does not know of each of `PREDICATES`; None where it
                                 knows no uncertainty
    aleatoric        (T, P, 26)  float32 from 0 up, what the video leaves open of each of `PREDICATES`; None as above
    """

    pair_mask: NDArray[np.bool_]
    subject_boxes: Array
    subject_scores: Array
    object_boxes: Array
    object_scores: Array
    attention: Array
    spatial: Array
    contacting: Array
    relation_scores: Array | None = None
    epistemic: Array | None = None
    aleatoric: Array | None = None

    def __post_init__(self) -> None:
        if self.pair_mask.ndim != 2:
            raise ValueError(f"pair_mask must have shape (T, P), not {self.pair_mask.shape}")
        for name, depth in _DEPTHS.items():
            array = getattr(self, name)
            if array is None and name in _OPTIONAL:
                continue
            expected = self.pair_mask.shape + depth
            if array.shape != expected:
                raise ValueError(f"{name} must have shape {expected}, not {array.shape}")
        if (self.epistemic is None) != (self.aleatoric is None):
            raise ValueError("epistemic and aleatoric go together; give both or neither")

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, NDArray[np.generic]], batch_index: int = 0) -> PairPredictions:
        """Takes one video or clip out of a bundle's named outputs, each (B, T, P, …); unknown names are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: array[batch_index] for name, array in outputs.items() if name in known})

    @classmethod
    def concatenate(cls, clips: Sequence[PairPredictions]) -> PairPredictions:
        """Joins consecutive clips of one video along time."""

        def join(name: str) -> NDArray[np.generic] | None:
            parts = [getattr(clip, name) for clip in clips]
            return None if parts[0] is None else np.concatenate(parts)

        return cls(**{field.name: join(field.name) for field in fields(cls)})  # type: ignore[arg-type]

    def __len__(self) -> int:
        return int(self.pair_mask.shape[0])


PREDICTION_NAMES = frozenset(field.name for field in fields(PairPredictions))
"""Of the tensors that the stages of a bundle make together."""

_DEPTHS: dict[str, tuple[int, ...]] = {
    "subject_boxes": (4,),
    "subject_scores": (),
    "object_boxes": (4,),
    "object_scores": (len(OBJECT_CLASSES),),
    "attention": (len(ATTENTION),),
    "spatial": (len(SPATIAL),),
    "contacting": (len(CONTACTING),),
    "relation_scores": (),
    "epistemic": (len(PREDICATES),),
    "aleatoric": (len(PREDICATES),),
}
_OPTIONAL = ("relation_scores", "epistemic", "aleatoric")
