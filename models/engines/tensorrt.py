"""Runs native TensorRT engines, which `vsg export --tensorrt` builds for one GPU and one version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.engines.batches import engine_file
from models.engines.engine import EngineOptions
from models.engines.gpu import Binding, Gpu, GpuStage
from models.engines.messages import native_messages, read_messages
from models.errors import EngineError
from models.graph.bundle import Bundle, Stage


def open_tensorrt(bundle: Bundle, options: EngineOptions) -> Sequence[TensorRt]:
    """Opens all stages. Raises EngineError where TensorRT, a GPU or an engine file is missing or does not fit."""
    try:
        import tensorrt
    except ImportError as error:
        raise EngineError(
            f"TensorRT cannot be loaded: {error}; install its libraries and Python package as its maker describes, "
            "or choose another engine"
        ) from error
    # Deserialising without a GPU crashes the process.
    gpu = Gpu(options.device)
    # They must live as long as the engines.
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    runtime = tensorrt.Runtime(logger)
    return [
        TensorRt(_deserialise(runtime, _find(bundle, stage, options, gpu, tensorrt.__version__)), stage, options, gpu)
        for stage in bundle.manifest.stages
    ]


def _find(bundle: Bundle, stage: Stage, options: EngineOptions, gpu: Gpu, version: str) -> Path:
    name = engine_file(bundle.manifest, stage, gpu.file_name, version)
    if name in bundle.manifest.sha256:
        return bundle.folder / name
    if (cached := options.cache_folder / name).is_file():
        return cached
    raise EngineError(
        f"neither {bundle.folder} nor {options.cache_folder} has {name}, the engine of stage {stage.name!r} here "
        f"with TensorRT {version}; export the bundle on this machine with `vsg export --tensorrt`"
    )


def _deserialise(runtime: Any, path: Path) -> Any:
    with native_messages() as printed:
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        reason = read_messages(printed)
    if engine is None:
        raise EngineError(f"TensorRT does not take {path}: {reason}; build it again with `vsg export --tensorrt`")
    return engine


class TensorRt(GpuStage):
    """One stage in TensorRT."""

    name = "tensorrt"

    def __init__(self, engine: Any, stage: Stage, options: EngineOptions, gpu: Gpu) -> None:
        super().__init__(stage, options.buckets, gpu)
        self._engine = engine
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT has no memory left on {gpu.name} for stage {stage.name!r}; free some")

    def compute(self, inputs: Mapping[str, Binding], outputs: Mapping[str, Binding]) -> None:
        """See `GpuStage`. Raises EngineError where the engine was not built for a shape."""
        for name, tensor in inputs.items():
            if not self._context.set_input_shape(name, tensor.shape):
                raise EngineError(f"the engine was not built for {name} of shape {tensor.shape}; build it for larger")
        for name, tensor in (*inputs.items(), *outputs.items()):
            self._context.set_tensor_address(name, tensor.address)
        if not self._context.execute_async_v3(self.gpu.stream):
            raise EngineError("TensorRT could not run a stage; its messages are on standard error")
