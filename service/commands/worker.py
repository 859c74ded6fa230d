"""`vsg worker`."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Collection
from contextlib import AsyncExitStack, closing

import click
import structlog
from redis.exceptions import RedisError

from service.commands.common import SWITCH_SECONDS, read_settings, settings_flags
from service.commands.starting import check_start
from service.errors import SettingsError
from service.http import create_worker_app
from service.http.web_server import SideServer, listen, raise_file_limit
from service.jobs import Duties, JobQueue, JobWorker, ProcessLife, StorageHealth, supervise
from service.jobs.archiving import JobArchive
from service.jobs.life import end_tasks
from service.jobs.queue import in_time
from service.loading import open_pipeline
from service.logs import configure_logging
from service.metrics import Metrics
from service.settings import MEMORY_QUEUE, Settings, variable_of
from service.storage import Storage
from service.tracing import configure_tracing

log = structlog.get_logger(__name__)


@click.command()
@settings_flags("queue_url", "data", "bundles", "concurrency", "engine", "device", "threads", "metrics_port")
def worker(**flags: str | None) -> None:
    """Take jobs from Redis and make their graphs; start one per GPU.

    On SIGTERM it takes no more jobs, ends those that it can within VSG_SHUTDOWN_SECONDS, and hands back the rest. It
    exits with 1 when its engine dies, so that its supervisor starts another.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = read_settings(flags)
    if settings.queue_url.startswith(MEMORY_QUEUE):
        raise SettingsError(f"a worker needs a queue on Redis: give --redis redis://HOST or {variable_of('queue_url')}")
    configure_logging(settings)
    raise_file_limit()
    host, port = settings.metrics_host, settings.metrics_port
    listeners = listen(host, port, named="VSG_METRICS_HOST and --metrics-port") if port else []

    def work(duties: Duties) -> bool:
        configure_tracing("vsg-worker")
        return asyncio.run(_work(settings, duties, listeners))

    sys.exit(supervise(work, lambda video_ids: asyncio.run(_blame(settings, video_ids))))


async def _blame(settings: Settings, video_ids: Collection[str]) -> None:
    """Counts for each of these jobs that a worker has died while it did them."""
    log.error("the worker has died", jobs=sorted(video_ids))
    queue = JobQueue(settings, Metrics())
    try:
        async with in_time(), queue.docket:  # without its watcher and its webhooks
            for video_id in video_ids:
                await queue.records.blame(video_id)
    except RedisError as error:
        log.warning("no job is blamed: the job queue does not answer", error=str(error))


async def _work(settings: Settings, duties: Duties, listeners: list[socket.socket]) -> bool:
    """Works until the process is told to stop. Returns False when an engine has died.

    listeners: sockets for /health and /metrics; none without a port for them.
    """
    life = ProcessLife()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.stop)
    checking = asyncio.create_task(check_start(settings, waits=True))
    stopping = asyncio.create_task(life.stopping.wait())
    try:
        await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not checking.done():
            return True
        checking.result()
    finally:
        await end_tasks(checking, stopping)
    metrics = Metrics()
    metrics.process.labels("worker").set(1)
    pipeline = open_pipeline(settings, on_batch=metrics.count_batch, on_engine_death=life.lose_engine)
    assert settings.data is not None, "load_settings refuses a queue on Redis without it"
    with closing(pipeline):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(life)
            queue = await stack.enter_async_context(JobQueue(settings, metrics))
            storage = Storage(settings.data)
            storage_health = StorageHealth(storage, queue, metrics, JobArchive(settings.archive, storage))
            await storage_health.measure()
            worker = JobWorker(queue, pipeline, storage, settings, metrics, life, storage_health, duties=duties)
            await stack.enter_async_context(worker)
            if listeners:
                server = SideServer(create_worker_app(worker, queue, storage_health, metrics), settings)
                serving = asyncio.create_task(server.serve(listeners))
                stack.push_async_callback(_close, server, serving)
            await life.until_over()
    return not life.engine_lost.is_set()


async def _close(server: SideServer, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await serving
