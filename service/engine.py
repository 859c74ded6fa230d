"""Runs the networks of a bundle with ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, Manifest, Stage
from models.onnx_session import open_session
from service.errors import EngineError, NoModels

FRAMES = "frames"
_ENGINE_OF_PROVIDER = {
    "CPUExecutionProvider": "onnxruntime-cpu",
    "CUDAExecutionProvider": "onnxruntime-cuda",
    "TensorrtExecutionProvider": "onnxruntime-tensorrt",
}


class Engine:
    """One bundle, loaded and ready to run.

    `run` may be called from several threads; the calls take turns, because one session fed by several threads at once
    is no faster on a CPU and grows without bound on a GPU.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Loads every stage; `threads` is the number inside one operator, 0 for one per core.

        Raises EngineError when ONNX Runtime is not installed or does not take a stage, or when the stages do not fit.
        """
        _check_stages(bundle.manifest.stages)
        self._bundle = bundle
        self._lock = threading.Lock()
        self._stages = [(stage, _open_session(bundle.path_of(stage), threads)) for stage in bundle.manifest.stages]

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._bundle.manifest

    @property
    def name(self) -> str:
        """The engine that really runs, such as `onnxruntime-cpu`: read from the session, not from what is installed."""
        provider = str(self._stages[0][1].get_providers()[0])
        return _ENGINE_OF_PROVIDER.get(provider, provider)

    def run(self, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        """Runs the stages one after the other, each taking its inputs by name from what came before.

        frames: (B, T, height, width, 3) uint8 RGB, of the manifest's frame size, T at most the clip length.
        Returns the outputs of all stages by name, each (B, T, …).
        """
        tensors: dict[str, NDArray[np.generic]] = {FRAMES: frames}
        with self._lock:
            for stage, session in self._stages:
                names = [output.name for output in stage.outputs]
                values = session.run(names, {tensor.name: tensors[tensor.name] for tensor in stage.inputs})
                tensors.update(zip(names, values, strict=True))
        del tensors[FRAMES]
        return tensors


def load_engines(folders: Sequence[Path], *, threads: int = 0) -> Mapping[str, Engine]:
    """Verifies and loads bundles, by name of the model, in order: the first is the default.

    Raises BundleError when a bundle is damaged, EngineError when it cannot run here, NoModels when there is none.
    """
    if not folders:
        raise NoModels("there is no bundle to serve; name one with --bundle PATH")
    engines: dict[str, Engine] = {}
    for folder in folders:
        engine = Engine(Bundle.load(folder), threads=threads)
        name = engine.manifest.name
        if name in engines:
            raise EngineError(f"{folder} holds a second model named {name!r}; serve one of the two")
        engines[name] = engine
    return engines


def _check_stages(stages: Sequence[Stage]) -> None:
    known = {FRAMES}
    for stage in stages:
        for tensor in stage.inputs:
            if tensor.name not in known:
                raise EngineError(
                    f"stage {stage.name!r} needs {tensor.name!r}, which no stage before it makes; export it again"
                )
        known |= {tensor.name for tensor in stage.outputs}


def _open_session(path: Path, threads: int) -> Any:
    try:
        return open_session(path, threads)
    except ModuleNotFoundError as error:
        remedy = "install it with: pip install 'video-scene-graph[cpu]'"
        raise EngineError(f"onnxruntime is not installed; {remedy}") from error
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this one
        raise EngineError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
