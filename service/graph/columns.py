"""Dataclasses of columns: arrays with a row for each detection, pair or triplet, or None where a column is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Table = TypeVar("Table")
Rows = slice | NDArray[np.bool_] | NDArray[np.intp]


def joined(parts: Sequence[Table]) -> Table:
    """Joins at least one table. A column that the first has not is unknown."""

    def join(name: str) -> NDArray[Any] | None:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    return type(parts[0])(**{name: join(name) for name in _names(parts[0])})


def rows_of(table: Table, rows: Rows) -> Table:
    """Takes some rows of a table."""

    def take(name: str) -> NDArray[Any] | None:
        column = getattr(table, name)
        return None if column is None else column[rows]

    return type(table)(**{name: take(name) for name in _names(table)})


def _names(table: Any) -> list[str]:
    return [field.name for field in fields(table)]
