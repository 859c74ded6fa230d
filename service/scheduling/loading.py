"""Loads bundles into engines, by the operator's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.engines import EngineOptions, StageEngine, Tensors, open_stages, run_stages
from models.engines.stub import StubStage, stub_manifest
from models.errors import EngineError
from models.graph.bundle import FRAMES, TIMESTAMPS, Bundle
from service.errors import NoModels
from service.scheduling.batcher import largest_batch
from service.scheduling.engine import Engine, check_stages
from service.settings import Settings

_MOST_CPU_STREAMS = 4
_GPU_BATCH = 16


def load_engines(folders: Sequence[Path], settings: Settings) -> Mapping[str, Engine]:
    """Verifies, loads and warms up bundles, by name of the model, in order: the first is the default.

    Raises BundleError when a bundle is damaged, EngineError when it cannot run here, NoModels when there is none.
    """
    if not folders:
        raise NoModels("there is no bundle to serve; name one with --bundle PATH")
    engines: dict[str, Engine] = {}
    for folder in folders:
        bundle = Bundle.load(folder)
        if bundle.manifest.name in engines:
            raise EngineError(f"{folder} holds a second model named {bundle.manifest.name!r}; serve one of the two")
        engines[bundle.manifest.name] = open_engine(bundle, settings)
    return engines


def open_engine(bundle: Bundle, settings: Settings) -> Engine:
    """Loads a bundle as often as there are streams, and runs every batch size that it is prepared for once.

    Raises EngineError.
    """
    if settings.engine == "stub":
        return _open_stub(bundle, settings)
    check_stages(bundle.manifest.stages)
    on_cpu = is_cpu_engine(settings.engine)
    cores = len(os.sched_getaffinity(0))
    streams = settings.streams or (min(cores, _MOST_CPU_STREAMS) if on_cpu else 1)
    max_batch = settings.max_batch or (1 if on_cpu else _GPU_BATCH)
    options = EngineOptions(
        threads=settings.threads or max(1, cores // streams),
        device=settings.device,
        max_batch=max(largest_batch(stage, max_batch) for stage in bundle.manifest.stages),
        cache=settings.engine_cache,
    )
    opened = [open_stages(bundle, settings.engine, options) for _ in range(streams)]
    for stages in opened:
        _warm_up(bundle, stages, (1,) if on_cpu else options.buckets)
    return Engine(
        bundle.manifest,
        opened,
        max_batch=max_batch,
        job_share=min(max_batch, settings.job_share or (1 if on_cpu else max_batch)),
        max_wait=settings.max_batch_wait,
    )


def _open_stub(bundle: Bundle, settings: Settings) -> Engine:
    return Engine(
        stub_manifest(bundle.manifest),
        [[StubStage(settings.stub_seconds, bundle.manifest.vocabulary)] for _ in range(settings.streams or 1)],
        max_batch=settings.max_batch or _GPU_BATCH,
        job_share=settings.job_share or 1,
        max_wait=settings.max_batch_wait,
    )


def is_cpu_engine(engine: str) -> bool:
    """Whether batching gains nothing there but memory locality: one clip keeps a core as busy as several."""
    return engine in ("onnxruntime-cpu", "openvino", "torch-cpu")


def _warm_up(bundle: Bundle, stages: Sequence[StageEngine], sizes: Sequence[int]) -> None:
    """Runs all stages on nothing, because the first run of a shape allocates, and may compile, for seconds."""
    manifest = bundle.manifest
    height, width = manifest.frame_size.height, manifest.frame_size.width
    for size in sizes:
        tensors: Tensors = {
            FRAMES: np.zeros((size, manifest.clip_length, height, width, 3), np.uint8),
            TIMESTAMPS: np.tile(np.arange(manifest.clip_length, dtype=np.float32), (size, 1)),
        }
        run_stages(stages, tensors, clip_length=manifest.clip_length)
