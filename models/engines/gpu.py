"""CUDA without torch: a GPU, its memory and one stream, for engines that work on addresses."""

from __future__ import annotations

import ctypes
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from models.engines.batches import Piece, buckets_of, pieces, shape_of
from models.engines.engine import Arrays, Tensors
from models.errors import EngineError
from models.graph.bundle import Stage, Tensor


def _checked(result: tuple[Any, ...]) -> Any:
    """Returns the result of a CUDA function. Raises EngineError with CUDA's message where its status is an error."""
    status, *values = result
    if status != cuda.cudaError_t.cudaSuccess:
        _, text = cuda.cudaGetErrorString(status)
        raise EngineError(f"CUDA: {text.decode()} ({status.name})")
    return values[0] if values else None


class Gpu:
    """A working GPU, with one stream that runs everything of a bundle in order."""

    def __init__(self, device: int) -> None:
        """Raises EngineError where there is no such GPU or no driver for it."""
        try:
            count = _checked(cuda.cudaGetDeviceCount())
        except EngineError as error:
            raise EngineError(f"there is no usable NVIDIA GPU here: {error}; choose a CPU engine") from error
        if device >= count:
            raise EngineError(f"there is no GPU {device}; this machine has {count}, numbered from 0")
        self.device = device
        self.activate()
        self.name: str = _checked(cuda.cudaGetDeviceProperties(device)).name.decode().rstrip("\0")
        self.driver: int = _checked(cuda.cudaDriverGetVersion())
        self.stream = int(_checked(cuda.cudaStreamCreate()))

    @property
    def file_name(self) -> str:
        """The GPU's name for use in file names, such as `nvidia-h200`."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def activate(self) -> None:
        """Makes this the GPU of the calling thread."""
        _checked(cuda.cudaSetDevice(self.device))

    def wait(self) -> None:
        """Waits until the stream has done all its work."""
        _checked(cuda.cudaStreamSynchronize(self.stream))


@dataclass(frozen=True)
class Binding:
    """A tensor on the GPU."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    address: int


class _Buffer:
    """Pinned memory, and as much memory on the GPU, for one tensor; it grows as needed."""

    def __init__(self, tensor: Tensor, gpu: Gpu) -> None:
        self.tensor, self.gpu = tensor, gpu
        self.dtype = np.dtype(tensor.dtype)
        self.size = self.pinned = self.address = 0

    def reserve(self, batch: int, time: int) -> NDArray[np.generic]:
        """Returns the pinned memory as an array (batch, time, …)."""
        shape = shape_of(self.tensor, batch, time)
        count = math.prod(shape)
        if (needed := count * self.dtype.itemsize) > self.size:
            self.free()
            self.pinned, self.address = _checked(cuda.cudaMallocHost(needed)), _checked(cuda.cudaMalloc(needed))
            self.size = needed
        memory = memoryview((ctypes.c_ubyte * needed).from_address(self.pinned))
        array: NDArray[np.generic] = np.frombuffer(memory, self.dtype, count).reshape(shape)
        return array

    def bound(self, batch: int, time: int) -> Binding:
        return Binding(self.dtype, shape_of(self.tensor, batch, time), self.address)

    def upload(self, array: NDArray[np.generic]) -> None:
        self._copy(self.address, self.pinned, array.nbytes, cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, array: NDArray[np.generic]) -> None:
        self._copy(self.pinned, self.address, array.nbytes, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, target: int, source: int, count: int, kind: cuda.cudaMemcpyKind) -> None:
        _checked(cuda.cudaMemcpyAsync(target, source, count, kind, self.gpu.stream))

    def free(self) -> None:
        if self.size:
            self.gpu.wait()
            _checked(cuda.cudaFreeHost(self.pinned))
            _checked(cuda.cudaFree(self.address))
            self.size = 0


class GpuStage(ABC):
    """One stage on a GPU: pads batches to buckets, copies in, computes, copies out."""

    def __init__(self, stage: Stage, buckets: tuple[int, ...], gpu: Gpu) -> None:
        self.gpu = gpu
        self.inputs = tuple(tensor.name for tensor in stage.inputs)
        self.span = stage.span
        self._buckets = buckets_of(stage, buckets)
        self._inputs = {tensor.name: _Buffer(tensor, gpu) for tensor in stage.inputs}
        self._outputs = {tensor.name: _Buffer(tensor, gpu) for tensor in stage.outputs}

    @abstractmethod
    def compute(self, inputs: Mapping[str, Binding], outputs: Mapping[str, Binding]) -> None:
        """Enqueues the computation of the outputs on the stream."""

    def run(self, tensors: Arrays) -> Tensors:
        """Returns the stage's outputs by name, (B, T, …) each."""
        self.gpu.activate()
        batch, time = tensors[self.inputs[0]].shape[:2]
        parts = [self._run(tensors, piece, time) for piece in pieces(batch, self._buckets)]
        if self.span == "video":
            for buffer in (*self._inputs.values(), *self._outputs.values()):
                buffer.free()
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _run(self, tensors: Arrays, piece: Piece, time: int) -> Tensors:
        count = piece.stop - piece.start
        for name, buffer in self._inputs.items():
            array = buffer.reserve(piece.size, time)
            array[:count] = tensors[name][piece.start : piece.stop]
            # Not zeros: frames without a pair may take another path through a network.
            array[count:] = array[0]
            buffer.upload(array)
        arrays = {name: buffer.reserve(piece.size, time) for name, buffer in self._outputs.items()}
        self.compute(
            {name: buffer.bound(piece.size, time) for name, buffer in self._inputs.items()},
            {name: buffer.bound(piece.size, time) for name, buffer in self._outputs.items()},
        )
        for name, array in arrays.items():
            self._outputs[name].download(array)
        self.gpu.wait()
        # The next run writes into the same memory.
        return {name: array[:count].copy() for name, array in arrays.items()}
