"""Runs the relation stages of a bundle on annotated relations, as if its detector had found their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.engines import EngineName, EngineOptions, Tensors, open_stages, run_stages
from models.graph.bundle import FRAMES, PICTURE_SIZE, RELATION_SCORES, TIMESTAMPS, Bundle, Tensor
from models.graph.vocabulary import Vocabulary
from training.data.relations.examples import Example
from training.errors import EvaluationError
from training.relation_figures import Floats, JudgedPairs


def judge_bundle(
    bundle: Bundle, sequences: Sequence[Sequence[Example]], names: Sequence[str], engine: EngineName
) -> tuple[JudgedPairs, int]:
    """Returns the judged pairs that the bundle's vocabulary can name, and the number of all others.

    A picture of unknown size is taken to end where its boxes do. A picture with more pairs than the bundle has slots is
    shown several times.

    names: the names that the examples number.

    Raises EvaluationError where the bundle's relation stages read its frames.
    """
    manifest = bundle.manifest
    stages = open_stages(bundle, engine, EngineOptions())
    behind = [stage for stage in stages if FRAMES not in stage.inputs]
    read = {tensor.name: tensor for stage in manifest.stages for tensor in stage.inputs}
    slots = next(int(each.shape[2]) for each in manifest.stages[0].outputs if each.name == "pair_mask")
    if not any(PICTURE_SIZE in stage.inputs for stage in behind):
        raise EvaluationError(f"{bundle.folder} reads pixels for its relations: evaluate it with --data")
    index = np.array([_place(name, manifest.vocabulary) for name in names])
    parts, left_out = [], 0
    for sequence in sequences:
        known = [_known(example, index, manifest.vocabulary) for example in sequence]
        left_out += sum(int((~which).sum()) for which in known)
        most = max(int(which.sum()) for which in known)
        for first in range(0, most, slots):
            rows = [np.flatnonzero(which)[first : first + slots] for which in known]
            arrays = _found(sequence, rows, index, slots, manifest.vocabulary)
            if "keypoints" in read:
                # Nobody's pose is known: points that are not visible change no score.
                arrays["keypoints"] = np.zeros((1, len(sequence), *_fixed(read["keypoints"])), np.float32)
                arrays["person_of_pair"] = np.zeros(arrays["pair_mask"].shape, np.int64)
            said = run_stages(behind, arrays, clip_length=manifest.clip_length)
            parts += [
                _judged(example, own, said, time, manifest.vocabulary)
                for time, (example, own) in enumerate(zip(sequence, rows, strict=True))
                if len(own)
            ]
    if not parts:
        raise EvaluationError(f"{bundle.folder} can name none of the pairs")
    return JudgedPairs.joined(parts), left_out


def _fixed(tensor: Tensor) -> tuple[int, ...]:
    """Returns the axes after batch and time."""
    return tuple(axis for axis in tensor.shape[2:] if isinstance(axis, int))


def _place(name: str, vocabulary: Vocabulary) -> int:
    return vocabulary.objects.index(name) if name in vocabulary.objects else -1


def _known(example: Example, index: NDArray[np.int64], vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Returns which pairs the vocabulary can name: (P,) bool."""
    subjects, objects = index[example.names[:, 0]], index[example.names[:, 1]]
    return np.isin(subjects, vocabulary.subject_indices) & np.isin(objects, vocabulary.thing_indices)


def _found(
    sequence: Sequence[Example],
    rows: Sequence[NDArray[np.intp]],
    index: NDArray[np.int64],
    slots: int,
    vocabulary: Vocabulary,
) -> Tensors:
    """Returns a detector stage's outputs for the chosen pairs of each moment, sure of everything."""
    time, classes = len(sequence), len(vocabulary.objects)
    mask = np.zeros((1, time, slots), np.bool_)
    boxes = np.zeros((2, 1, time, slots, 4), np.float32)
    kinds = np.zeros((2, 1, time, slots), np.int64)
    sizes = np.ones((1, time, 2), np.float32)
    for step, (example, own) in enumerate(zip(sequence, rows, strict=True)):
        now = example.moments[own, 1]  # (P, 2, 4)
        whole = example.moments[:, 1].reshape(-1, 4)
        size = example.size if example.size.all() else np.maximum(whole[:, 2:].max(0), 1.0)
        sizes[0, step] = size
        mask[0, step, : len(own)] = True
        boxes[:, 0, step, : len(own)] = (now / np.tile(size, 2)).transpose(1, 0, 2)
        kinds[:, 0, step, : len(own)] = index[example.names[own]].T
    certain = mask.astype(np.float32)
    return {
        TIMESTAMPS: np.array([[example.time for example in sequence]], np.float32),
        PICTURE_SIZE: sizes,
        "pair_mask": mask,
        "subject_boxes": boxes[0],
        "subject_scores": certain,
        "subject_classes": kinds[0],
        "object_boxes": boxes[1],
        "object_scores": np.eye(classes, dtype=np.float32)[kinds[1]] * certain[..., None],
    }


def _judged(example: Example, rows: NDArray[np.intp], said: Tensors, time: int, vocabulary: Vocabulary) -> JudgedPairs:
    count = len(rows)
    scores: Floats = np.concatenate([said[name][0, time, :count] for name in vocabulary.group_names], axis=-1)
    return JudgedPairs(
        scores=scores,
        relatedness=said[RELATION_SCORES][0, time, :count].astype(np.float32) if RELATION_SCORES in said else None,
        holds=example.holds[rows],
        asked=example.weights[rows] == 1,
        annotated=example.annotated[rows],
        related=example.related[rows],
        of_subject=np.ones(count, np.bool_),
    )
