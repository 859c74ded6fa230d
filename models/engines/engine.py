"""The interface that every engine has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]
Tensors = dict[str, NDArray[np.generic]]
"""Arrays by name, each (B, T, …)."""

EngineName = Literal[
    "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "tensorrt", "torch-cpu", "torch-cuda"
]
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)


@dataclass(frozen=True)
class EngineOptions:
    """How stages are opened.

    threads      inside one operator, 0 for one per core; CPUs only
    device       number of the GPU
    max_batch    largest batch that will be asked for; on a GPU batches are padded to `buckets`
    cache        folder that TensorRT keeps its engines in; None: a folder of the user's cache
    checkpoint   whose weights the torch engines take; None: weights at random, which is good for measuring speed only
    graphs       how torch runs: operator by operator, as a CUDA graph for each shape, or compiled
    """

    threads: int = 0
    device: int = 0
    max_batch: int = 16
    cache: Path | None = None
    checkpoint: Path | None = None
    graphs: Literal["none", "cuda-graphs", "compile"] = "none"

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes that GPU engines are prepared for: powers of two up to `max_batch`, and that itself."""
        sizes = {1 << power for power in range(self.max_batch.bit_length())} | {self.max_batch}
        return tuple(sorted(size for size in sizes if size <= self.max_batch))

    @property
    def cache_folder(self) -> Path:
        """Where TensorRT keeps its engines."""
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return self.cache or users / "video-scene-graph"


class StageEngine(Protocol):
    """One stage of a bundle, loaded. Each is run by one thread at a time; a stage may be opened several times."""

    @property
    def name(self) -> str:
        """The engine that really runs, such as `onnxruntime-cpu`, read from the runtime where it can tell."""
        ...

    def run(self, tensors: Arrays) -> Tensors:
        """The stage's outputs by name, (B, T, …) each, from its inputs by name; other names are ignored.

        The arrays are the caller's: no later run writes into them.
        """
        ...
