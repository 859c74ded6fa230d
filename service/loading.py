"""Loads bundles by the operator's settings, and opens the pipeline that runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.engines import EngineName, EngineOptions, StageEngine, Tensors, open_stages, run_stages
from models.engines.stub import StubStage, stub_manifest
from models.errors import EngineError
from models.graph.bundle import FRAMES, TIMESTAMPS, Bundle
from service.pipeline import Pipeline
from service.scheduling import Batch, Scheduler
from service.scheduling.batcher import largest_batch
from service.scheduling.scheduler import check_stages
from service.settings import Settings, bundle_folders, decode_limits
from service.video.processes import FORK_SERVER

_MOST_CPU_STREAMS = 4
_GPU_BATCH = 16


def open_pipeline(
    settings: Settings,
    *,
    bundles: Sequence[Path] = (),
    on_batch: Callable[[str, Batch], None] = lambda model, batch: None,
    on_engine_death: Callable[[], None] = lambda: None,
) -> Pipeline:
    """Loads the models into a pipeline with the operator's limits, and starts the process that decoders come from.

    bundles: folders to load instead of those of the settings; the first is the default model.
    on_batch: is called after each batch with the name of the model, from a thread that runs it.
    on_engine_death: is called from another thread when an engine dies. The process should then end and start again.

    Raises NoModels when there is no bundle, BundleError when one is damaged, EngineError when one cannot run here.
    """
    import scipy.optimize  # noqa: F401 - the API of a fleet has none; imported later, the first video would wait for it

    models: dict[str, Scheduler] = {}
    for folder in bundles or bundle_folders(settings):
        bundle = Bundle.load(folder)
        if (name := bundle.manifest.name) in models:
            raise EngineError(f"{folder} holds a second model named {name!r}; serve one of the two")
        models[name] = open_scheduler(bundle, settings, on_batch=on_batch, on_death=on_engine_death)
    FORK_SERVER.prepare()
    return Pipeline(models, decode_limits(settings), max_fps=settings.max_fps, max_frames=settings.max_frames)


def open_scheduler(
    bundle: Bundle,
    settings: Settings,
    *,
    on_batch: Callable[[str, Batch], None] = lambda model, batch: None,
    on_death: Callable[[], None] = lambda: None,
) -> Scheduler:
    """Loads a bundle once for each stream and runs each batch size once, so that the first video does not wait.

    For the callbacks see `Scheduler`. Raises EngineError when the bundle cannot run here.
    """
    engine = settings.engine
    if engine == "stub":
        manifest, max_batch, job_share = stub_manifest(bundle.manifest), settings.max_batch or _GPU_BATCH, 1
        stub = [StubStage(settings.stub_seconds, bundle.manifest.vocabulary)]
        opened: list[Sequence[StageEngine]] = [stub for _ in range(settings.streams or 1)]
    else:
        check_stages(bundle.manifest.stages)
        on_cpu = is_cpu_engine(engine)
        manifest, max_batch = bundle.manifest, settings.max_batch or (1 if on_cpu else _GPU_BATCH)
        job_share = 1 if on_cpu else max_batch
        opened = _open_streams(bundle, engine, settings, max_batch)
    return Scheduler(
        manifest,
        opened,
        max_batch=max_batch,
        job_share=min(max_batch, settings.job_share or job_share),
        max_wait=settings.max_batch_wait,
        on_batch=on_batch,
        on_death=on_death,
    )


def _open_streams(
    bundle: Bundle, engine: EngineName, settings: Settings, max_batch: int
) -> list[Sequence[StageEngine]]:
    """The engines of all stages, warmed up, for each stream."""
    on_cpu = is_cpu_engine(engine)
    cores = len(os.sched_getaffinity(0))
    streams = settings.streams or (min(cores, _MOST_CPU_STREAMS) if on_cpu else 1)
    options = EngineOptions(
        threads=settings.threads or max(1, cores // streams),
        device=settings.device,
        max_batch=max(largest_batch(stage, max_batch) for stage in bundle.manifest.stages),
        cache=settings.engine_cache,
    )
    opened: list[Sequence[StageEngine]] = [open_stages(bundle, engine, options) for _ in range(streams)]
    for stages in opened:
        _warm_up(bundle, stages, (1,) if on_cpu else options.buckets)
    return opened


def is_cpu_engine(engine: str) -> bool:
    """Whether it runs on a CPU, where one clip keeps a core as busy as a batch does."""
    return engine in ("onnxruntime-cpu", "openvino", "torch-cpu")


def _warm_up(bundle: Bundle, stages: Sequence[StageEngine], sizes: Sequence[int]) -> None:
    """Runs all stages on zeros: the first run of a shape allocates memory, and may compile, for seconds."""
    manifest = bundle.manifest
    height, width = manifest.frame_size.height, manifest.frame_size.width
    for size in sizes:
        tensors: Tensors = {
            FRAMES: np.zeros((size, manifest.clip_length, height, width, 3), np.uint8),
            TIMESTAMPS: np.tile(np.arange(manifest.clip_length, dtype=np.float32), (size, 1)),
        }
        run_stages(stages, tensors, clip_length=manifest.clip_length)
