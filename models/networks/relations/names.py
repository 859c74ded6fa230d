"""Sentence embeddings of the names of things, so that a relation network can read the classes of any detector.

The table beside this module holds the embeddings of all-MiniLM-L6-v2 (Apache-2.0) for the classes of common data sets
and for many words of a household.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import WeightsError

SHIPPED_TABLE = Path(__file__).with_name("names.npz")


class NameTable:
    """Looks up embeddings of names.

    A name in which `/` separates several, such as `cup/glass/bottle`, is the mean of them. A name of several words that
    the table lacks is the mean of its words.
    """

    def __init__(self, path: Path = SHIPPED_TABLE) -> None:
        """Raises WeightsError where the file is not an archive of `names` (M,) and `embeddings` (M, N).

        path: a .npz file.
        """
        try:
            with np.load(path, allow_pickle=False) as table:
                names, embeddings = table["names"].tolist(), table["embeddings"].astype(np.float32)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"{path} cannot be read as a table of names: {error}") from error
        if embeddings.ndim != 2 or len(names) != len(embeddings):
            raise WeightsError(f"{path} has {len(names)} names and embeddings of shape {embeddings.shape}")
        self.path = path
        self._rows: dict[str, NDArray[np.float32]] = dict(zip(names, embeddings, strict=True))

    def embeddings(self, names: Iterable[str]) -> Tensor:
        """Returns the embeddings of names, each of length 1: (M, N) float32. Raises WeightsError for an unknown one."""
        return torch.from_numpy(np.stack([self._of(name) for name in names]))

    def _of(self, name: str) -> NDArray[np.float32]:
        parts = [part for part in (plain_name(part) for part in name.split("/")) if part]
        found = [embedding for part in parts if (embedding := self._of_part(part)) is not None]
        if not found or len(found) < len(parts):
            raise WeightsError(
                f"{self.path} has no embedding of {name!r}: rename it, or make a table with `vsg data names`"
            )
        mean: NDArray[np.float32] = np.mean(found, axis=0)
        return mean / np.linalg.norm(mean)

    def _of_part(self, part: str) -> NDArray[np.float32] | None:
        if part in self._rows:
            return self._rows[part]
        words = part.split(" ")
        if not all(word in self._rows for word in words):
            return None
        mean: NDArray[np.float32] = np.mean([self._rows[word] for word in words], axis=0)
        return mean


def plain_name(name: str) -> str:
    """Returns a name in lower case, with a space for whatever separates its words.

    >>> plain_name("Dining_table")
    'dining table'
    """
    return re.sub(r"[\s_\-.]+", " ", name).strip().lower()
