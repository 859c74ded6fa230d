"""Runs the networks of a bundle with ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import FRAMES, TIMESTAMPS, Bundle, Manifest, Stage
from models.onnx_session import open_session
from models.predictions import PairPredictions
from service.errors import EngineError, NoModels

Tensors = dict[str, NDArray[np.generic]]
"""Arrays by name, each (B, T, …)."""

_PREDICTIONS = frozenset(field.name for field in fields(PairPredictions))
_ENGINE_OF_PROVIDER = {
    "CPUExecutionProvider": "onnxruntime-cpu",
    "CUDAExecutionProvider": "onnxruntime-cuda",
    "TensorrtExecutionProvider": "onnxruntime-tensorrt",
}


@dataclass(frozen=True)
class _Step:
    """A loaded stage; `kept` names the tensors that somebody still needs when it has run."""

    stage: Stage
    session: Any
    kept: frozenset[str]


class Engine:
    """One bundle, loaded and ready to run: `run` on every clip of a video, then `finish` on what they gave.

    Both may be called from several threads; the calls take turns, because one session fed by several threads at once
    is no faster on a CPU and grows without bound on a GPU.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Loads every stage; `threads` is the number inside one operator, 0 for one per core.

        Raises EngineError when ONNX Runtime is not installed or does not take a stage, or when the stages do not fit.
        """
        _check_stages(bundle.manifest.stages)
        self._bundle = bundle
        self._lock = threading.Lock()
        needed = _PREDICTIONS
        steps: list[_Step] = []
        for stage in reversed(bundle.manifest.stages):
            steps.insert(0, _Step(stage, _open_session(bundle.path_of(stage), threads), needed))
            needed |= {tensor.name for tensor in stage.inputs}
        self._clip_steps = [step for step in steps if step.stage.span == "clip"]
        self._video_steps = [step for step in steps if step.stage.span == "video"]

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._bundle.manifest

    @property
    def name(self) -> str:
        """The engine that really runs, such as `onnxruntime-cpu`: read from the session, not from what is installed."""
        provider = str((self._clip_steps + self._video_steps)[0].session.get_providers()[0])
        return _ENGINE_OF_PROVIDER.get(provider, provider)

    def run(self, frames: NDArray[np.uint8], timestamps: NDArray[np.float32]) -> Tensors:
        """Runs the stages of span `clip`, one after the other, each taking its inputs by name from what came before.

        frames      (B, T, height, width, 3) uint8 RGB, of the manifest's frame size, T at most the clip length
        timestamps  (B, T) float32, presentation times in seconds
        Returns what `finish` needs of them, each (B, T, …): never the frames, so that a long video stays small.
        """
        return self._run(self._clip_steps, {FRAMES: frames, TIMESTAMPS: timestamps})

    def finish(self, clips: Sequence[Tensors]) -> Tensors:
        """Joins consecutive clips of B videos along time, then runs the stages of span `video` on the whole.

        clips: what `run` gave for each, in order and at least one. They are emptied while they are joined, so that no
        tensor lies in memory twice.
        Returns the arrays of `PairPredictions` by name, each (B, T of all clips, …).
        """
        return self._run(
            self._video_steps,
            {name: np.concatenate([clip.pop(name) for clip in clips], axis=1) for name in list(clips[0])},
            _giving_memory_back() if self._video_steps else None,
        )

    def _run(self, steps: Iterable[_Step], tensors: Tensors, options: Any = None) -> Tensors:
        with self._lock:
            for step in steps:
                names = [output.name for output in step.stage.outputs]
                values = step.session.run(names, {each.name: tensors[each.name] for each in step.stage.inputs}, options)
                tensors |= zip(names, values, strict=True)
                tensors = {name: tensor for name, tensor in tensors.items() if name in step.kept}
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
    known = {FRAMES, TIMESTAMPS}
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


def _giving_memory_back() -> Any:
    """Options of a run after which ONNX Runtime frees what it allocated; by itself it keeps the most it ever needed.

    Clips need the same amount again and again, whole videos much more, and rarely.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
