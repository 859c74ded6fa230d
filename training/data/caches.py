"""Caches beside a data folder. Each is named by what it holds, and appears only when it is whole."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from models.graph.bundle import sha256_of
from training.data.action_genome import AnnotatedVideo
from training.errors import DataError


def annotation_key(videos: Iterable[AnnotatedVideo]) -> str:
    """Hex digest of what is annotated: names, times, sizes, boxes, labels and predicates, in order."""
    digest = hashlib.sha256()
    for video in videos:
        for frame in video.frames:
            digest.update(
                f"{video.name}/{frame.number}/{frame.size}/{frame.person_label}/{frame.predicates.shape}\n".encode()
            )
            for array in (frame.person_box, frame.boxes, frame.labels, frame.predicates):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def picture_key(paths: Iterable[Path], *options: object) -> str:
    """Hex digest of pictures by name, size in bytes and time of change, and of how they are read.

    Raises DataError where one is missing.
    """
    digest = hashlib.sha256(repr(options).encode())
    for path in paths:
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; run `vsg data check` on the folder") from error
        digest.update(f"{path.parent.name}/{path.name}/{facts.st_size}/{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@contextmanager
def written_once(path: Path) -> Iterator[Path]:
    """Gives a new folder beside `path` to write into, and moves it there when the block ends.

    The first writer to end wins. A folder that comes later, or whose block raises, is deleted. A writer that is killed
    leaves its own folder behind, which nothing reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = Path(mkdtemp(prefix=f"{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield own
        try:
            os.rename(own, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        rmtree(own, ignore_errors=True)


def file_key(files: Iterable[Path]) -> str:
    """Hex digest of files by what they hold, in order."""
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Makes a .npy file of zeros and returns it as a memory-mapped array to write into.

    Its room on the disk is taken at once, because a process that writes to a mapped file on a full disk is killed.
    Raises DataError where there is no room.
    """
    try:
        array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        size = math.prod(shape) * np.dtype(dtype).itemsize / 1e6
        raise DataError(
            f"{path.parent.parent} cannot hold a cache of {size:.0f} MB: {error.strerror}; make room, or set "
            "cache_frames and cache_pairs to false"
        ) from error
    return array
