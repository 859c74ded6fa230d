"""`vsg worker`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path

import click
import structlog
import uvicorn
from redis.exceptions import RedisError

from models.engines import ENGINES
from service.commands.common import SWITCH_SECONDS
from service.errors import SettingsError
from service.http import create_worker_app
from service.jobs import Duties, JobQueue, JobWorker, ProcessLife, supervise
from service.jobs.queue import in_time
from service.loading import open_pipeline
from service.logs import configure_logging
from service.metrics import Metrics
from service.settings import ENV_PREFIX, MEMORY_QUEUE, Settings, load_settings
from service.storage import Storage
from service.tracing import configure_tracing

log = structlog.get_logger(__name__)


@click.command()
@click.option("--redis", "queue_url", help="URL of the Redis that holds the queue.")
@click.option("--data", help="Folder or fsspec URL of uploads and results, the same as the API's.")
@click.option("--bundle", "bundles", type=click.Path(path_type=Path), multiple=True, help="Bundle; may be repeated.")
@click.option("--concurrency", type=int, help="Videos worked on at once.")
@click.option("--engine", help=f"What runs the models: {', '.join(ENGINES)}.")
@click.option("--device", type=int, help="Number of the GPU.")
@click.option("--threads", type=int, help="Threads of one stream of a CPU engine; 0 shares the cores out.")
@click.option("--metrics-port", type=int, help="Port for /metrics and /health; 0: none.")
def worker(
    queue_url: str | None,
    data: str | None,
    bundles: tuple[Path, ...],
    concurrency: int | None,
    engine: str | None,
    device: int | None,
    threads: int | None,
    metrics_port: int | None,
) -> None:
    """Take jobs from Redis and make their graphs; start one per GPU.

    Told to stop (SIGTERM), it takes no more jobs, ends those that it can within VSG_SHUTDOWN_SECONDS, and hands back
    the rest. It exits with 1 when its engine dies, so that what supervises it starts another.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = load_settings(
        {
            "queue_url": queue_url,
            "data": data,
            "bundles": bundles or None,
            "concurrency": concurrency,
            "engine": engine,
            "device": device,
            "threads": threads,
            "metrics_port": metrics_port,
        }
    )
    if settings.queue_url.startswith(MEMORY_QUEUE):
        raise SettingsError(f"a worker needs a queue on Redis: give --redis redis://HOST or {ENV_PREFIX}QUEUE_URL")
    configure_logging(settings)

    def work(duties: Duties) -> bool:
        configure_tracing("vsg-worker")
        return asyncio.run(_work(settings, duties))

    sys.exit(supervise(work, lambda video_ids: asyncio.run(_blame(settings, video_ids))))


async def _blame(settings: Settings, video_ids: Collection[str]) -> None:
    """Counts that a worker has died of one of these jobs."""
    log.error("the worker has died", jobs=sorted(video_ids))
    queue = JobQueue(settings, Metrics())
    try:
        async with in_time(), queue.docket:  # and neither its watcher nor its webhooks
            for video_id in video_ids:
                await queue.records.blame(video_id)
    except RedisError as error:
        log.warning("no job is blamed: the job queue does not answer", error=str(error))


async def _work(settings: Settings, duties: Duties) -> bool:
    """Works until the process is told to stop. Returns False when an engine has died."""
    life = ProcessLife()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.stop)
    metrics = Metrics()
    pipeline = open_pipeline(settings, on_batch=metrics.count_batch, on_engine_death=life.lose_engine)
    assert settings.data is not None, "load_settings refuses a queue on Redis without it"
    with closing(pipeline):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(life)
            queue = await stack.enter_async_context(JobQueue(settings, metrics))
            worker = JobWorker(queue, pipeline, Storage(settings.data), settings, metrics, life, duties=duties)
            await stack.enter_async_context(worker)
            if settings.metrics_port:
                app = create_worker_app(worker, queue, metrics)
                server = _Server(
                    uvicorn.Config(
                        app,
                        host=settings.metrics_host,
                        port=settings.metrics_port,
                        log_config=None,
                        access_log=False,
                    )
                )
                serving = asyncio.create_task(server.serve())
                stack.push_async_callback(_close, server, serving)
            await life.until_over()
    return not life.engine_lost.is_set()


class _Server(uvicorn.Server):
    """Leaves signals to the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _close(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await serving
