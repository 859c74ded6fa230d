"""Tells what a file is by how it begins, for errors about files of another kind."""

from __future__ import annotations

import io
import zipfile

TFLITE, ARCHIVE = "a TensorFlow Lite file", "a zip archive"
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"TFL3", TFLITE),
    (0, b"\x80", "a pickle"),
    (0, b"\x89HDF", "an HDF5 file"),
    (8, b"{", "a safetensors file"),
    (0, b"\x08", "probably an ONNX file"),
    (0, b"<", "a page of HTML or XML"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
)
"""Beginnings of files: place, bytes, and the kind that they tell."""


def kind_of(data: bytes) -> str:
    """Tells in words what a file is."""
    for place, mark, kind in _MARKS:
        if data[place : place + len(mark)] == mark:
            return kind
    # Last: a TensorFlow Lite file may end with an archive of its own, and an archive may begin with padding.
    if zipfile.is_zipfile(io.BytesIO(data)):
        return ARCHIVE
    return f"of an unknown kind (it begins with {data[:8]!r})" if data else "empty"
