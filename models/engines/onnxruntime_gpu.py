"""ONNX Runtime on a GPU: CUDA and TensorRT providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from models.engines.batches import profiles
from models.engines.engine import EngineName, EngineOptions
from models.engines.gpu import Binding, Gpu, GpuStage
from models.engines.onnxruntime import Provider, name_of, open_session
from models.graph.bundle import Bundle, Stage


class OnnxRuntimeGpu(GpuStage):
    """One stage on a GPU with buffers of its own, bound by address; copies share its stream.

    TensorRT may use TF32 for fp32; CUDA does not.
    """

    def __init__(self, bundle: Bundle, stage: Stage, options: EngineOptions, gpu: Gpu, engine: EngineName) -> None:
        super().__init__(stage, options.buckets, gpu)
        onnxruntime.preload_dlls()
        cuda: Provider = (
            "CUDAExecutionProvider",
            {
                "device_id": str(gpu.device),
                "user_compute_stream": str(gpu.stream),
                "arena_extend_strategy": "kSameAsRequested",
                # The exhaustive search would run again for every length of a clip.
                "cudnn_conv_algo_search": "HEURISTIC",
                "use_tf32": "0",
            },
        )
        providers = [cuda] if engine == "onnxruntime-cuda" else [_tensorrt(bundle, stage, options, gpu), cuda]
        self._session = open_session(bundle.path_of(stage), options.threads, providers)
        self.name = name_of(self._session)

    def compute(self, inputs: Mapping[str, Binding], outputs: Mapping[str, Binding]) -> None:
        """Runs the session on the bound addresses."""
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, "cuda", self.gpu.device, tensor.dtype, tensor.shape, tensor.address)
        for name, tensor in outputs.items():
            binding.bind_output(name, "cuda", self.gpu.device, tensor.dtype, tensor.shape, tensor.address)
        self._session.run_with_iobinding(binding)


def _tensorrt(bundle: Bundle, stage: Stage, options: EngineOptions, gpu: Gpu) -> Provider:
    manifest = bundle.manifest
    cache = _cache_folder(bundle, stage, options, gpu)
    cache.mkdir(parents=True, exist_ok=True)
    shapes = profiles(stage, manifest.clip_length, options.buckets)
    return (
        "TensorrtExecutionProvider",
        {
            "device_id": str(gpu.device),
            "user_compute_stream": str(gpu.stream),
            "trt_fp16_enable": str(manifest.precision == "fp16"),
            "trt_bf16_enable": str(manifest.precision == "bf16"),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache.parent),
            "trt_profile_min_shapes": _listed({name: profile.least for name, profile in shapes.items()}),
            "trt_profile_opt_shapes": _listed({name: profile.likeliest for name, profile in shapes.items()}),
            "trt_profile_max_shapes": _listed({name: profile.largest for name, profile in shapes.items()}),
            # By default suppression runs on CUDA, which cuts the graph into parts whose inputs have no profile.
            "trt_op_types_to_exclude": "",
        },
    )


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _cache_folder(bundle: Bundle, stage: Stage, options: EngineOptions, gpu: Gpu) -> Path:
    """Returns the folder for engines of a stage; the provider puts TensorRT's version into file names."""
    versions = f"onnxruntime-{onnxruntime.__version__}-driver-{gpu.driver}"
    graph = f"{stage.name}-{bundle.manifest.sha256[stage.file][:16]}-{bundle.manifest.precision}"
    shapes = f"{options.max_batch}x{bundle.manifest.clip_length}"
    return options.cache_folder / re.sub(r"[^\w.-]+", "-", f"{gpu.name}-{versions}") / f"{graph}-{shapes}"
