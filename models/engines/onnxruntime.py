"""ONNX Runtime: sessions on any provider, and stages on the CPU."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from models.engines.engine import Arrays, EngineName, EngineOptions, Tensors
from models.engines.messages import native_messages, read_messages
from models.errors import EngineError
from models.graph.bundle import Bundle, Stage

_ENGINE_OF_PROVIDER: dict[str, EngineName] = {
    "CPUExecutionProvider": "onnxruntime-cpu",
    "CUDAExecutionProvider": "onnxruntime-cuda",
    "TensorrtExecutionProvider": "onnxruntime-tensorrt",
}

Provider = tuple[str, Mapping[str, str]]
_CPU: Provider = ("CPUExecutionProvider", {})


def open_session(path: Path, threads: int = 0, providers: Sequence[Provider] = (_CPU,)) -> Any:
    """Opens an `onnxruntime.InferenceSession`; `threads` is the number inside one operator, 0 for one per core.

    Raises EngineError where ONNX Runtime does not take the graph, or where the first provider did not take the session.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Native code prints warnings, such as of constant folding, to stderr; errors are raised anyway.
    options.log_severity_level = 3
    asked = _ENGINE_OF_PROVIDER[providers[0][0]]
    # Where a provider cannot be loaded, ONNX Runtime prints the reason and uses the CPU.
    with native_messages() as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            session = onnxruntime.InferenceSession(
                path, options, providers=[(name, dict(values)) for name, values in providers], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but this one
            raise EngineError(f"{asked} cannot load {path}: {error} {read_messages(printed)}") from error
        reason = " ".join([*(str(warning.message) for warning in warned), read_messages(printed)]).strip()
    if (taken := name_of(session)) != asked:
        raise EngineError(
            f"{asked} was asked for, but {taken} took {path}: {reason}; "
            "install what is missing, or choose another engine"
        )
    if reason:
        print(reason, file=sys.stderr)
    return session


def name_of(session: Any) -> str:
    """Returns the engine that a session really runs on."""
    provider = str(session.get_providers()[0])
    return _ENGINE_OF_PROVIDER.get(provider, provider)


class OnnxRuntimeCpu:
    """One stage on the CPU."""

    def __init__(self, bundle: Bundle, stage: Stage, options: EngineOptions) -> None:
        self._session = open_session(bundle.path_of(stage), options.threads)
        self.inputs = tuple(tensor.name for tensor in stage.inputs)
        self.span = stage.span
        self._outputs = [tensor.name for tensor in stage.outputs]
        self._run_options = _giving_memory_back() if stage.span == "video" else None
        self.name = name_of(self._session)

    def run(self, tensors: Arrays) -> Tensors:
        """Returns the stage's outputs by name, (B, T, …) each."""
        values = self._session.run(self._outputs, {name: tensors[name] for name in self.inputs}, self._run_options)
        return dict(zip(self._outputs, values, strict=True))


def _giving_memory_back() -> Any:
    """Returns options with which ONNX Runtime frees its memory after a run; by default it keeps the peak.

    Clips need the same amount again and again; whole videos need much more, and rarely.
    """
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
