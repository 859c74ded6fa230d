"""Builds native TensorRT engines for the GPU of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.bundle import write_bundle
from export.errors import ExportError
from models.engines import EngineOptions
from models.engines.batches import engine_file, profiles
from models.errors import EngineError
from models.graph.bundle import Bundle, Stage, sha256_of

_WORKSPACE = 4 << 30
"""Bytes of working memory for each layer."""


def build_engines(bundle: Bundle, options: EngineOptions = EngineOptions()) -> Bundle:  # noqa: B008 - frozen
    """Adds one engine for each graph to a bundle, for batches up to `options.max_batch` and every time.

    An engine runs only on this GPU and with this version of TensorRT. Timings go to `options.cache_folder` and make the
    next build shorter. Raises ExportError where TensorRT or a GPU is missing, or a graph cannot be built.
    """
    precision = bundle.manifest.precision
    if precision not in ("fp32", "fp16"):
        raise ExportError(
            f"TensorRT engines take their types from the graph, and one of {precision} has none that TensorRT builds "
            "(int8 graphs are for CPUs, bf16 graphs hold fp32); export fp32 or fp16"
        )
    try:
        import tensorrt

        from models.engines.gpu import Gpu

        gpu = Gpu(options.device)
    except (ImportError, EngineError) as error:
        raise ExportError(
            f"no TensorRT engine can be built here: {error}; it takes an NVIDIA GPU, TensorRT's libraries with their "
            "Python package, as its maker describes, and cuda-bindings"
        ) from error
    options.cache_folder.mkdir(parents=True, exist_ok=True)
    timings = options.cache_folder / f"timings.{gpu.file_name}.tensorrt-{tensorrt.__version__}.cache"
    hashes = dict(bundle.manifest.sha256)
    for stage in bundle.manifest.stages:
        path = bundle.folder / engine_file(bundle.manifest, stage, gpu.file_name, tensorrt.__version__)
        path.write_bytes(_build(tensorrt, bundle, stage, options, timings))
        hashes[path.name] = sha256_of(path)
    return write_bundle(bundle.folder, bundle.manifest.model_copy(update={"sha256": hashes}))


def _build(tensorrt: Any, bundle: Bundle, stage: Stage, options: EngineOptions, timings: Path) -> bytes:
    """Builds one stage's engine; returns it serialised."""
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    # From TensorRT 11 on every network is strongly typed, and the flag may be gone.
    strongly_typed = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(bundle.path_of(stage))):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ExportError(f"TensorRT does not take {bundle.path_of(stage)}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    profile = builder.create_optimization_profile()
    for name, shapes in profiles(stage, bundle.manifest.clip_length, options.buckets).items():
        profile.set_shape(name, shapes.least, shapes.likeliest, shapes.largest)
    config.add_optimization_profile(profile)
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise ExportError(f"TensorRT built no engine of {bundle.path_of(stage)}; its messages are on standard error")
    timings.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(serialised)
