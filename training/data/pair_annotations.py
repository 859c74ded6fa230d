"""Pairs of annotated clips, as a frozen detector finds them: once for all epochs, on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.relations.pairs import Pairs
from training.data.caches import new_array, written_once
from training.data.clips import ClipBatch, ClipDataset, collate, stack_padded
from training.progress import track
from training.targets import Targets

log = logging.getLogger("vsg.train")

FindPairs = Callable[[ClipBatch], Pairs]
"""Frames and what is annotated on them to pairs; no gradients."""

_FRAMES_AT_ONCE = 32
_EXACT = ("mask", "subject_boxes", "subject_scores", "subject_classes", "object_boxes", "timestamps")
"""Fields that are kept as they are; the others, which are most of the volume, in half precision."""


@dataclass(frozen=True)
class PairBatch:
    """Pairs of B clips, and what is annotated on them."""

    pairs: Pairs
    targets: Targets


class PairDataset(Dataset[tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]]):
    """The clips of a `ClipDataset` as pairs, read from memory-mapped arrays; `find` fills them the first time.

    The arrays lie in `cache`, in a folder named after the frames, their annotations and `found_by`: all that decides
    which pairs there are.
    """

    def __init__(self, clips: ClipDataset, find: FindPairs, cache: Path, found_by: str) -> None:
        self.clips = clips
        key = f"{clips.picture_key()} {clips.annotation_key} {found_by}"
        folder = cache / f"pairs_{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if not folder.is_dir():
            with written_once(folder) as own:
                _write(clips, find, own)
        self.arrays: dict[str, NDArray[np.generic]] = {
            path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))
        }

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
        rows = self.clips.clips[index]
        return {name: array[rows] for name, array in self.arrays.items()}, self.clips.targets_of(rows)


def collate_pairs(
    items: list[tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]],
    vocabulary: Vocabulary = ACTION_GENOME,
) -> PairBatch:
    """Items of a `PairDataset` as one batch; `vocabulary` is the data set's."""

    def stacked(parts: list[dict[str, NDArray[np.generic]]]) -> dict[str, Tensor]:
        tensors = {name: stack_padded([part[name] for part in parts]) for name in parts[0]}
        return {name: each.float() if each.dtype == torch.float16 else each for name, each in tensors.items()}

    known = stacked([targets for _, targets in items])
    del known["timestamps"]  # the pairs have them
    return PairBatch(Pairs(**stacked([pairs for pairs, _ in items])), Targets(**known, vocabulary=vocabulary))


def _write(clips: ClipDataset, find: FindPairs, folder: Path) -> None:
    """Runs the detector over every frame once."""
    count = len(clips.paths)
    log.info("looking for the pairs of %d frames; they are kept in %s", count, folder.parent)
    arrays: dict[str, Any] = {}
    for start in track(range(0, count, _FRAMES_AT_ONCE), "finding pairs", total=-(-count // _FRAMES_AT_ONCE)):
        rows = np.arange(start, min(start + _FRAMES_AT_ONCE, count))
        pairs = find(collate([(clips.frames_of(rows), clips.targets_of(rows))]))
        for field in fields(Pairs):
            value: Tensor | None = getattr(pairs, field.name)
            if value is None:
                continue
            values = value[0].cpu().numpy()
            if field.name not in arrays:
                dtype = values.dtype if field.name in _EXACT else np.float16
                path = folder / f"{field.name}.npy"
                arrays[field.name] = new_array(path, dtype, (count, *values.shape[1:]))
            arrays[field.name][rows] = values
    for array in arrays.values():
        array.flush()
