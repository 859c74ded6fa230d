"""An engine of fixed latency, to measure what is around an engine."""

from __future__ import annotations

import time

import numpy as np

from models.engines.engine import Arrays, Tensors
from models.graph.bundle import FRAMES, Manifest, Span, Stage, Tensor
from models.graph.vocabulary import ATTENTION, CONTACTING, OBJECT_CLASSES, OBJECT_INDEX, SPATIAL

_PAIRS = 4
_THINGS = ("chair", "table", "book", "laptop")
_DEPTHS: dict[str, tuple[int, ...]] = {
    "pair_mask": (),
    "subject_boxes": (4,),
    "subject_scores": (),
    "object_boxes": (4,),
    "object_scores": (len(OBJECT_CLASSES),),
    "attention": (len(ATTENTION),),
    "spatial": (len(SPATIAL),),
    "contacting": (len(CONTACTING),),
}


def stub_manifest(manifest: Manifest) -> Manifest:
    """The manifest with one stage instead of all, of clips of one frame."""
    size = manifest.frame_size
    frames = Tensor(name=FRAMES, dtype="uint8", shape=("batch", "time", size.height, size.width, 3))
    outputs = [
        Tensor(name=name, dtype="bool" if name == "pair_mask" else "float32", shape=("batch", "time", _PAIRS, *depth))
        for name, depth in _DEPTHS.items()
    ]
    stage = Stage(name="stub", file=manifest.stages[0].file, inputs=[frames], outputs=outputs)
    return manifest.model_copy(update={"stages": [stage], "clip_length": 1, "relation_scoring": False})


class StubStage:
    """Sleeps for `seconds` whatever the batch, then says that a person does the same with four things as always."""

    name = "stub"
    inputs = (FRAMES,)
    span: Span = "clip"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        random = np.random.default_rng(0)
        self._outputs: Tensors = {
            name: random.uniform(0, 0.3, (_PAIRS, *depth)).astype(np.float32) for name, depth in _DEPTHS.items()
        }
        for group in ("attention", "spatial", "contacting"):
            self._outputs[group][:, 0] = 0.8
        corner = np.linspace(0.1, 0.6, _PAIRS, dtype=np.float32)
        self._outputs |= {
            "pair_mask": np.ones(_PAIRS, np.bool_),
            "subject_boxes": np.tile(np.array([0.2, 0.2, 0.6, 0.9], np.float32), (_PAIRS, 1)),
            "subject_scores": np.full(_PAIRS, 0.9, np.float32),
            "object_boxes": np.stack([corner, corner, corner + np.float32(0.3), corner + np.float32(0.3)], axis=1),
            "object_scores": np.eye(len(OBJECT_CLASSES), dtype=np.float32)[[OBJECT_INDEX[thing] for thing in _THINGS]],
        }

    def run(self, tensors: Arrays) -> Tensors:
        """The same for every frame: (B, T, …) each."""
        time.sleep(self._seconds)
        batch, length = tensors[FRAMES].shape[:2]
        return {name: np.tile(values, (batch, length) + (1,) * values.ndim) for name, values in self._outputs.items()}
