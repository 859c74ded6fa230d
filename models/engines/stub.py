"""An engine of fixed latency, to measure the code around an engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Final, Literal

import numpy as np

from models.engines.engine import Arrays, Tensors
from models.graph.bundle import FRAMES, Manifest, Span, Stage, Tensor
from models.graph.predictions import PERSON_FIELDS, prediction_depths
from models.graph.vocabulary import Vocabulary

_PAIRS = 4
_DTYPES: Final[Mapping[str, Literal["bool", "int64"]]] = {"pair_mask": "bool", "subject_classes": "int64"}
_NOT_MADE = ("relation_scores", "epistemic", "aleatoric", *PERSON_FIELDS)


def stub_manifest(manifest: Manifest) -> Manifest:
    """Returns the manifest with a single stage in place of all, for clips of one frame."""
    size = manifest.frame_size
    frames = Tensor(name=FRAMES, dtype="uint8", shape=("batch", "time", size.height, size.width, 3))
    outputs = [
        Tensor(name=name, dtype=_DTYPES.get(name, "float32"), shape=("batch", "time", _PAIRS, *depth))
        for name, depth in _depths(manifest.vocabulary).items()
    ]
    stage = Stage(name="stub", file=manifest.stages[0].file, inputs=[frames], outputs=outputs)
    return manifest.model_copy(update={"stages": [stage], "clip_length": 1, "relation_scoring": False})


class StubStage:
    """Sleeps for `seconds` for any batch, then makes up the same pairs of one subject and four things."""

    name = "stub"
    inputs = (FRAMES,)
    span: Span = "clip"

    def __init__(self, seconds: float, vocabulary: Vocabulary) -> None:
        self._seconds = seconds
        self._outputs = _made_up(vocabulary)

    def run(self, tensors: Arrays) -> Tensors:
        """Returns the same outputs for every frame, (B, T, …) each."""
        time.sleep(self._seconds)
        batch, length = tensors[FRAMES].shape[:2]
        return {name: np.tile(values, (batch, length) + (1,) * values.ndim) for name, values in self._outputs.items()}


def _depths(vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    return {name: depth for name, depth in prediction_depths(vocabulary).items() if name not in _NOT_MADE}


def _made_up(vocabulary: Vocabulary) -> Tensors:
    random = np.random.default_rng(0)
    outputs: Tensors = {
        name: random.uniform(0, 0.3, (_PAIRS, *depth)).astype(np.float32) for name, depth in _depths(vocabulary).items()
    }
    for group in vocabulary.group_names:
        outputs[group][:, 0] = 0.8
    subjects = vocabulary.subject_indices
    things = vocabulary.thing_indices or subjects
    corner = np.linspace(0.1, 0.6, _PAIRS, dtype=np.float32)
    return outputs | {
        "pair_mask": np.ones(_PAIRS, np.bool_),
        "subject_boxes": np.tile(np.array([0.2, 0.2, 0.6, 0.9], np.float32), (_PAIRS, 1)),
        "subject_scores": np.full(_PAIRS, 0.9, np.float32),
        "subject_classes": np.full(_PAIRS, subjects[0], np.int64),
        "object_boxes": np.stack([corner, corner, corner + np.float32(0.3), corner + np.float32(0.3)], axis=1),
        "object_scores": np.eye(len(vocabulary.objects), dtype=np.float32)[list(islice(cycle(things), _PAIRS))],
    }
