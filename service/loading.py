"""Finds the bundles of models, loads them by the operator's settings, and opens the pipeline that runs them.

Bundles are found by path, or by name among those that are installed. Installed are the folders of `VSG_BUNDLES`, those
in `./bundles`, and those in `bundles/` beside the packages, which is where a checkout and the images have them. A wheel
holds no models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from models.engines import EngineName, EngineOptions, StageEngine, bundle_inputs, open_stages, run_stages
from models.engines.stub import StubStage, stub_manifest
from models.errors import EngineError
from models.graph.bundle import MANIFEST_FILE, Bundle
from service.cores import usable_cores
from service.errors import NoModels
from service.pipeline import Pipeline
from service.scheduling import Batch, Scheduler
from service.scheduling.batcher import largest_batch
from service.scheduling.scheduler import check_stages
from service.settings import Settings, decode_limits
from service.video.processes import FORK_SERVER

WORKING_FOLDER = Path("bundles")
PACKAGED_FOLDER = Path(__file__).resolve().parents[1] / "bundles"
DEFAULT_MODEL = "everyday"
"""The bundle that is served unless a request or the operator names another."""
_MOST_CPU_STREAMS = 4
_GPU_BATCH = 16


def bundle_folders(settings: Settings) -> list[Path]:
    """The bundles to serve: those set, by path or name; else those in `./bundles`; else those beside the packages.

    Raises NoModels where there are none, or none of a name.
    """
    if settings.bundles:
        return [folder for given in settings.bundles for folder in find_bundles(given)]
    if found := _bundles_in(WORKING_FOLDER) or _bundles_in(PACKAGED_FOLDER):
        return found
    raise NoModels(
        f"there is no bundle in {WORKING_FOLDER.absolute()} or {PACKAGED_FOLDER}; name one with --bundle PATH, or "
        "VSG_BUNDLES, or write one with `vsg export`"
    )


def find_bundles(given: Path, known: Iterable[Path] = ()) -> list[Path]:
    """The bundles that a path or a name stands for.

    given: a bundle, a folder of bundles, or the name of a bundle that is `known` or installed.
    known: bundles whose names are looked at first.

    A folder without a bundle is returned as it is: loading it says what is missing. Raises NoModels, with the names of
    the bundles there are, where `given` is nothing of this.
    """
    if (given / MANIFEST_FILE).is_file():
        return [given]
    if inside := _bundles_in(given):
        return inside
    places = [*known, *_bundles_in(WORKING_FOLDER), *_bundles_in(PACKAGED_FOLDER)]
    for place in places:
        if str(given) == place.name:
            return [place]
    if given.is_dir():
        return [given]
    names = ", ".join(dict.fromkeys(place.name for place in places)) or "none"
    raise NoModels(
        f"there is no bundle {str(given)!r}: give the path of one, or the name of an installed one ({names}); "
        "VSG_BUNDLES names further ones"
    )


def _bundles_in(folder: Path) -> list[Path]:
    """Returns the bundles of a folder, the default one first, then by name."""
    found = (path.parent for path in folder.glob(f"*/{MANIFEST_FILE}"))
    return sorted(found, key=lambda path: (path.name != DEFAULT_MODEL, path.name))


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
    return Pipeline(
        models,
        decode_limits(settings),
        max_fps=settings.max_fps,
        max_frames=settings.max_frames,
        kept_frames=settings.keep_frames,
    )


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
    cores = usable_cores()
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


def runs_on_gpu(engine: str) -> bool:
    """Whether it needs a GPU."""
    return engine != "stub" and not is_cpu_engine(engine)


def _warm_up(bundle: Bundle, stages: Sequence[StageEngine], sizes: Sequence[int]) -> None:
    """Runs all stages on zeros: the first run of a shape allocates memory, and may compile, for seconds."""
    manifest = bundle.manifest
    height, width = manifest.frame_size.height, manifest.frame_size.width
    for size in sizes:
        frames = np.zeros((size, manifest.clip_length, height, width, 3), np.uint8)
        tensors = bundle_inputs(frames, np.arange(manifest.clip_length, dtype=np.float32))
        at_once = None if size > 1 else min(largest_batch(stage, 1) for stage in manifest.stages)
        run_stages(stages, tensors, clip_length=manifest.clip_length, frames_at_once=at_once)
