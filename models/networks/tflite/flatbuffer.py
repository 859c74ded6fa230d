"""Reads tables of a FlatBuffers file with `struct`, as far as TensorFlow Lite's schema needs it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Table:
    """One table of a FlatBuffers file. Its fields are numbered in the order of the schema.

    A field that the file leaves out has its default. All methods raise struct.error or ValueError where an offset leads
    out of the file.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._fields = position - self._unpack("<i", position)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that the file begins with."""
        return cls(data, int(struct.unpack_from("<I", data, 0)[0]))

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """A number. kind: its `struct` letter, such as `i` for int32."""
        place = self._place(field)
        return self._unpack(f"<{kind}", place) if place else default

    def array(self, field: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers, empty where the file has none. dtype: as NumPy writes it, such as `<i4`."""
        start = self._target(field)
        if not start:
            return np.zeros(0, dtype)
        return np.frombuffer(self._data, dtype, self._unpack("<I", start), start + 4)

    def text(self, field: int) -> str:
        """A string, empty where the file has none."""
        return bytes(self.array(field, "u1")).decode("utf-8", "replace")

    def table(self, field: int) -> Table | None:
        """A table within this one, None where the file has none."""
        start = self._target(field)
        return Table(self._data, start) if start else None

    def tables(self, field: int) -> list[Table]:
        """A vector of tables, empty where the file has none."""
        start = self._target(field)
        places = [start + 4 + 4 * index for index in range(self._unpack("<I", start))] if start else []
        return [Table(self._data, place + self._unpack("<I", place)) for place in places]

    def _place(self, field: int) -> int:
        """Position of a field's value, 0 where the file leaves the field out."""
        entry = 4 + 2 * field
        if entry >= self._unpack("<H", self._fields):
            return 0
        offset = self._unpack("<H", self._fields + entry)
        return self._position + offset if offset else 0

    def _target(self, field: int) -> int:
        """Position that a field points to, 0 where the file leaves the field out."""
        place = self._place(field)
        return place + self._unpack("<I", place) if place else 0

    def _unpack(self, kind: str, position: int) -> int:
        if position < 0:
            raise ValueError("an offset leads before the file's beginning")
        return int(struct.unpack_from(kind, self._data, position)[0])
