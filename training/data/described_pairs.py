"""What a frozen host says of the pairs of annotated clips: once for all epochs, on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.networks.scored import DescribedPairs
from training.data.caches import new_array, written_once
from training.data.clips import stack_padded
from training.progress import track

log = logging.getLogger("vsg.train")

_CLIPS_AT_ONCE = 16
_HALVED = "representation"
"""Most of the volume; kept in half precision."""

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class ScorerBatch:
    """Pairs of B clips as a scorer reads them, and which of them are related.

    related: (B, T, P) bool.
    """

    pairs: DescribedPairs
    related: Tensor

    def to(self, device: torch.device) -> ScorerBatch:
        """Returns the same batch on another device."""
        return _batch({name: each.to(device) for name, each in _tensors(self).items()})


Describe = Callable[[list[Any]], ScorerBatch]
"""Items of a data set to what the host says of them; no gradients."""


class DescribedDataset(Dataset[Arrays]):
    """The items of another data set, as a frozen host describes them; `describe` fills the arrays the first time.

    The arrays are memory-mapped and lie in `cache`, in a folder named after `key`: all that decides what they hold.
    """

    def __init__(self, items: Dataset[Any], lengths: Sequence[int], describe: Describe, cache: Path, key: str) -> None:
        """`lengths`: number of frames of each item."""
        self._starts = np.concatenate(([0], np.cumsum(lengths)))
        folder = cache / f"described_{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if not folder.is_dir():
            with written_once(folder) as own:
                _write(items, self._starts, describe, own)
        self._arrays: Arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Arrays:
        rows = slice(self._starts[index], self._starts[index + 1])
        return {name: array[rows] for name, array in self._arrays.items()}


def collate_described(items: list[Arrays]) -> ScorerBatch:
    """Items of a `DescribedDataset` as one batch."""
    tensors = {name: stack_padded([item[name] for item in items]) for name in items[0]}
    return _batch(tensors | {_HALVED: tensors[_HALVED].float()})


def _write(items: Dataset[Any], starts: NDArray[np.intp], describe: Describe, folder: Path) -> None:
    """Runs the host over every item once."""
    count = len(starts) - 1
    log.info("the host describes %d clips; what it says is kept in %s", count, folder.parent)
    arrays: dict[str, Any] = {}
    for first in track(range(0, count, _CLIPS_AT_ONCE), "describing", total=-(-count // _CLIPS_AT_ONCE)):
        chosen = range(first, min(first + _CLIPS_AT_ONCE, count))
        tensors = _tensors(describe([items[index] for index in chosen]))
        for name, tensor in tensors.items():
            values = tensor.cpu().numpy()
            if name not in arrays:
                dtype = np.float16 if name == _HALVED else values.dtype
                arrays[name] = new_array(folder / f"{name}.npy", dtype, (int(starts[-1]), *values.shape[2:]))
            for place, index in enumerate(chosen):
                arrays[name][starts[index] : starts[index + 1]] = values[place, : starts[index + 1] - starts[index]]
    for array in arrays.values():
        array.flush()


def _tensors(batch: ScorerBatch) -> dict[str, Tensor]:
    return {"related": batch.related} | {
        field.name: getattr(batch.pairs, field.name) for field in fields(DescribedPairs)
    }


def _batch(tensors: dict[str, Tensor]) -> ScorerBatch:
    return ScorerBatch(
        DescribedPairs(**{name: each for name, each in tensors.items() if name != "related"}), tensors["related"]
    )
