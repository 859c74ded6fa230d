"""The three output contracts of ONNX detectors, and how to tell by a detector's outputs which one it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from export.detectors.readings import cells_of
from export.errors import ExportError

Contract = Literal["rows", "queries", "grid"]
Outputs = Mapping[str, NDArray[Any]]

BOX, SCORE, LABEL, OTHER = "box", "score", "label", "other"
COLUMNS = (BOX, BOX, BOX, BOX, SCORE, LABEL)
"""The columns of a detector whose only output has six: a box, its score, the number of its class."""
CONTRACTS: Mapping[Contract, str] = {
    "rows": "one row a box: boxes (N, M, 4), scores (N, M), numbers of classes (N, M); or boxes with the score as the "
    "fifth column, and numbers of classes; or one output (N, M, 6) of box, score and class; each also without N",
    "queries": "DETR's: boxes (N, Q, 4) and scores or logits of every class (N, Q, C)",
    "grid": "YOLOX's: one output (N, A, 5 + C) with box, objectness and class scores of the cells of strides 8, 16, 32",
}


@dataclass(frozen=True)
class Source:
    """The place of a value: an output of the detector, or some columns of its last axis.

    columns: None for all of the output.
    """

    output: str
    columns: tuple[int, ...] | None = None

    def of(self, outputs: Outputs) -> NDArray[Any]:
        """Returns the value; a single column loses its axis."""
        array = outputs[self.output]
        if self.columns is None:
            return array
        picked = array[..., list(self.columns)]
        return picked[..., 0] if len(self.columns) == 1 else picked


def recognise(
    outputs: Outputs, frame_size: tuple[int, int], asked: Contract | None = None, columns: Sequence[str] = ()
) -> tuple[Contract, dict[str, Source]]:
    """Returns the contract that outputs keep, and where its values are.

    `rows` have boxes, scores and labels; `queries` boxes and scores; `grid` a grid. Raises ExportError, which lists the
    outputs and the contracts, where they keep none, or not the one that is asked for.

    outputs: from a run on frames of `frame_size` (height, width).
    columns: names of the columns of a single output of rows, as for `COLUMNS`.
    """
    for contract in get_args(Contract) if asked is None else [asked]:
        found = _FINDERS[contract](outputs, frame_size, tuple(columns))
        if found is not None:
            return contract, found
    wanted = "no contract" if asked is None else f"not the contract {asked!r}"
    listed = "\n".join(f"  {name}: {array.dtype} {list(array.shape)}" for name, array in outputs.items())
    known = "\n".join(f"  {name}: {meaning}" for name, meaning in CONTRACTS.items())
    raise ExportError(
        f"the detector's outputs on a frame of {frame_size[1]}x{frame_size[0]} pixels keep {wanted}:\n{listed}\n"
        f"The contracts are:\n{known}\nExport the detector again so that it keeps one of them."
    )


def _find_rows(outputs: Outputs, frame_size: tuple[int, int], columns: tuple[str, ...]) -> dict[str, Source] | None:
    names = columns or COLUMNS
    tables = [name for name, array in outputs.items() if array.ndim in (2, 3) and array.shape[-1] == len(names)]
    if len(tables) == 1 and (columns or (len(outputs) == 1 and not _is_grid(outputs[tables[0]], frame_size))):

        def places(kind: str) -> tuple[int, ...]:
            return tuple(place for place, name in enumerate(names) if name == kind)

        return {kind: Source(tables[0], places(kind)) for kind in (BOX, SCORE, LABEL)}
    for boxes in _boxes(outputs, (4, 5)):
        shape = outputs[boxes].shape
        beside = [name for name, array in outputs.items() if name != boxes and array.shape == shape[:-1]]
        label = _best(beside, ("label", "class", "cls"), [each for each in beside if outputs[each].dtype.kind in "iu"])
        if label is None:
            continue
        if shape[-1] == 5:
            return {BOX: Source(boxes, (0, 1, 2, 3)), SCORE: Source(boxes, (4,)), LABEL: Source(label)}
        rest = [name for name in beside if name != label and outputs[name].dtype.kind == "f"]
        score = _best(rest, ("score", "conf", "prob"), rest)
        if score is not None:
            return {BOX: Source(boxes), SCORE: Source(score), LABEL: Source(label)}
    return None


def _find_queries(outputs: Outputs, frame_size: tuple[int, int], columns: tuple[str, ...]) -> dict[str, Source] | None:
    for boxes in _boxes(outputs, (4,)):
        shape = outputs[boxes].shape
        beside = [
            name
            for name, array in outputs.items()
            if name != boxes and array.dtype.kind == "f" and array.ndim == len(shape) and array.shape[:-1] == shape[:-1]
        ]
        score = _best(beside, ("logit", "score", "label", "class", "cls", "prob", "conf"), beside)
        if score is not None:
            return {BOX: Source(boxes), SCORE: Source(score)}
    return None


def _find_grid(outputs: Outputs, frame_size: tuple[int, int], columns: tuple[str, ...]) -> dict[str, Source] | None:
    grids = [name for name, array in outputs.items() if _is_grid(array, frame_size)]
    return {"grid": Source(grids[0])} if len(grids) == 1 else None


_FINDERS = {"rows": _find_rows, "queries": _find_queries, "grid": _find_grid}


def _is_grid(array: NDArray[Any], frame_size: tuple[int, int]) -> bool:
    return array.ndim in (2, 3) and array.shape[-1] > 5 and array.shape[-2] == cells_of(frame_size)


def _boxes(outputs: Outputs, widths: tuple[int, ...]) -> list[str]:
    """Returns the outputs that may hold boxes, those that are named so first."""
    fitting = [
        name
        for name, array in outputs.items()
        if array.dtype.kind == "f" and array.ndim in (2, 3) and array.shape[-1] in widths
    ]
    return sorted(fitting, key=lambda name: not any(word in name.lower() for word in ("box", "det")))


def _best(names: Iterable[str], words: tuple[str, ...], otherwise: list[str]) -> str | None:
    """Returns the one name that has one of the words, or else the only one of the others."""
    named = [name for name in names if any(word in name.lower() for word in words)]
    if len(named) == 1:
        return named[0]
    return otherwise[0] if len(otherwise) == 1 else None


def largest(array: NDArray[Any]) -> float:
    """Returns the largest magnitude of an array, 0 where it is empty."""
    return float(np.abs(array).max(initial=0.0))
