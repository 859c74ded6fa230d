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
    """Options for opening stages.

    threads: number of threads inside one operator on CPUs, 0 for one per core.
    device: number of the GPU.
    max_batch: largest batch that stages run. GPU engines pad batches to `buckets`.
    cache: folder for TensorRT's engines; None for a folder in the user's cache.
    checkpoint: file with the weights of the torch engines; None for random weights, which only serve to measure speed.
    graphs: mode of the torch engines: operator by operator, one CUDA graph for each shape, or compiled.
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
        """The folder for TensorRT's engines."""
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return self.cache or users / "video-scene-graph"


class StageEngine(Protocol):
    """A loaded stage of a bundle. Only one thread at a time may run it; a stage may be opened several times."""

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
        """The part of a video that the stage must see at once."""
        ...

    def run(self, tensors: Arrays) -> Tensors:
        """Returns the stage's outputs by name from its inputs by name, (B, T, …) each; other names are ignored.

        The arrays belong to the caller: no later run writes into them.
        """
        ...
