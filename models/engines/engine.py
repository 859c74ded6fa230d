"""The interface of all engines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Span

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

    threads: threads inside one operator, 0 for one per core; CPUs only.
    device: number of the GPU.
    max_batch: largest batch that will be asked for; on a GPU batches are padded to `buckets`.
    cache: folder that TensorRT keeps its engines in; None for a folder of the user's cache.
    checkpoint: file that the torch engines take their weights from; None for random weights, which only serve to
        measure speed.
    graphs: how torch runs: operator by operator, as one CUDA graph for each shape, or compiled.
    """

    threads: int = 0
    device: int = 0
    max_batch: int = 16
    cache: Path | None = None
    checkpoint: Path | None = None
    graphs: Literal["none", "cuda-graphs", "compile"] = "none"

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes that GPU engines prepare for: powers of two up to `max_batch`, and `max_batch` itself."""
        sizes = {1 << power for power in range(self.max_batch.bit_length())} | {self.max_batch}
        return tuple(sorted(size for size in sizes if size <= self.max_batch))

    @property
    def cache_folder(self) -> Path:
        """Where TensorRT keeps its engines."""
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return self.cache or users / "video-scene-graph"


class StageEngine(Protocol):
    """One stage of a bundle, loaded. One thread at a time runs it; a stage may be opened several times."""

    @property
    def name(self) -> str:
        """The engine that really runs, such as `onnxruntime-cpu`, read from the runtime where it can tell."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays that the stage takes."""
        ...

    @property
    def span(self) -> Span:
        """How much of a video the stage sees at once."""
        ...

    def run(self, tensors: Arrays) -> Tensors:
        """Returns the stage's outputs by name from its inputs by name, (B, T, …) each; other names are ignored.

        The arrays belong to the caller: no later run writes into them.
        """
        ...
