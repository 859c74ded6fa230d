"""The tensors of a whole video, in as little memory as they need while its clips come in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors

PAIR_MASK = "pair_mask"


class WholeVideo:
    """The tensors of all clips of a video so far.

    Most frames have few pairs, but each has slots for many. Of `pair_fields`, only the slots that hold a pair are kept.
    """

    def __init__(self, expected: int, pair_fields: frozenset[str]) -> None:
        """
        expected: likely number of frames.
        pair_fields: names of tensors (T, P, …) whose slots hold nothing where `pair_mask` (T, P) is false.
        """
        self._expected = expected
        self._pair_fields = pair_fields
        self._frames: dict[str, _Rows] = {}
        self._pairs: dict[str, _Rows] = {}

    def add(self, clip: Tensors) -> None:
        """Appends the tensors of the next clip, (T, …) each."""
        mask = clip.get(PAIR_MASK)
        for name, tensor in clip.items():
            if mask is not None and name in self._pair_fields:
                self._pairs.setdefault(name, _Rows(tensor[0, 0], room=self._expected)).append(tensor[mask])
            else:
                self._frames.setdefault(name, _Rows(tensor[0], room=self._expected)).append(tensor)

    def take_frames(self) -> Tensors:
        """Hands out all tensors that are not among `pair_fields`, (T of all clips, …) each, and keeps none of them."""
        frames = {name: rows.values for name, rows in self._frames.items()}
        self._frames.clear()
        return frames

    def parts(self, made: Tensors, length: int) -> Iterator[tuple[int, Tensors]]:
        """Yields the number of the first frame and all tensors of consecutive frames, (at most `length`, …) each.

        Slots that hold no pair are 0.

        made: the tensors of all frames that are still needed, of those that were handed out or made from them.
        """
        pairs = {name: rows.values for name, rows in self._pairs.items()}
        first_pair = 0
        for first in range(0, len(next(iter(made.values()))), length):
            part = {name: tensor[first : first + length] for name, tensor in made.items()}
            if pairs:
                mask = part[PAIR_MASK].astype(bool)
                end = first_pair + int(mask.sum())
                part |= {name: _spread(values[first_pair:end], mask) for name, values in pairs.items()}
                first_pair = end
            yield first, part


class _Rows:
    """An array that grows along its first axis.

    It has room from the start. Thousands of small arrays that wait between the large ones that a model takes and frees
    would leave the memory in pieces.
    """

    def __init__(self, row: NDArray[np.generic], *, room: int) -> None:
        self._array = np.empty((room, *row.shape), row.dtype)
        self._count = 0

    @property
    def values(self) -> NDArray[np.generic]:
        return self._array[: self._count]

    def append(self, rows: NDArray[np.generic]) -> None:
        end = self._count + len(rows)
        if end > len(self._array):
            larger = np.empty((2 * end, *self._array.shape[1:]), self._array.dtype)
            larger[: self._count] = self.values
            self._array = larger
        self._array[self._count : end] = rows
        self._count = end


def _spread(pairs: NDArray[np.generic], mask: NDArray[np.bool_]) -> NDArray[np.generic]:
    slots = np.zeros((*mask.shape, *pairs.shape[1:]), pairs.dtype)  # (T, P, …)
    slots[mask] = pairs
    return slots
