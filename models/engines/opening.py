"""Opens the stages of a bundle on an engine."""

from __future__ import annotations

from collections.abc import Sequence

from models.engines.engine import ENGINES, EngineName, EngineOptions, StageEngine
from models.errors import EngineError
from models.graph.bundle import Bundle, Precision

PRECISIONS: dict[EngineName, tuple[Precision, ...]] = {
    # Where a CPU lacks fp16, ONNX Runtime rounds to it between operators: slow, but equally exact.
    "onnxruntime-cpu": ("fp32", "fp16", "int8"),
    "onnxruntime-cuda": ("fp32", "fp16"),
    "onnxruntime-tensorrt": ("fp32", "fp16", "bf16"),
    "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "fp16"),
    "torch-cpu": ("fp32", "bf16"),
    "torch-cuda": ("fp32", "fp16", "bf16"),
}
"""The precisions that each engine computes in."""
_EXTRA_OF_MODULE = {
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "cuda": "gpu",
    "torch": "training",
}


def open_stages(
    bundle: Bundle,
    engine: EngineName,
    options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen
) -> Sequence[StageEngine]:
    """Loads the stages of a bundle in an engine. Returns them in order.

    Raises EngineError, naming the reason, where there is no such engine, it is not installed, it refuses a stage,
    or it does not compute in the bundle's precision.
    """
    if engine not in ENGINES:
        raise EngineError(f"there is no engine {engine!r}; the engines are {', '.join(ENGINES)}")
    if (precision := bundle.manifest.precision) not in PRECISIONS[engine]:
        able = [name for name in ENGINES if precision in PRECISIONS[name]]
        raise EngineError(
            f"{engine} does not compute in {precision}, the precision of {bundle.folder}; {', '.join(able)} do"
        )
    try:
        return _open(bundle, engine, options)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF_MODULE:
            raise
        remedy = f"install it with: pip install 'video-scene-graph[{_EXTRA_OF_MODULE[module]}]'"
        raise EngineError(f"{engine} needs {module}, which is not installed; {remedy}") from error


def _open(bundle: Bundle, engine: EngineName, options: EngineOptions) -> Sequence[StageEngine]:
    stages = bundle.manifest.stages
    match engine:
        case "onnxruntime-cpu":
            from models.engines.onnxruntime import OnnxRuntimeCpu

            return [OnnxRuntimeCpu(bundle, stage, options) for stage in stages]
        case "onnxruntime-cuda" | "onnxruntime-tensorrt":
            from models.engines.gpu import Gpu
            from models.engines.onnxruntime_gpu import OnnxRuntimeGpu

            gpu = Gpu(options.device)
            return [OnnxRuntimeGpu(bundle, stage, options, gpu, engine) for stage in stages]
        case "openvino":
            from models.engines.openvino import open_openvino

            return open_openvino(bundle, options)
        case "tensorrt":
            from models.engines.tensorrt import open_tensorrt

            return open_tensorrt(bundle, options)
        case "torch-cpu" | "torch-cuda":
            from models.engines.torch_engine import open_torch

            return open_torch(bundle, engine, options)
