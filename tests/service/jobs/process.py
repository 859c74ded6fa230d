"""API and worker in the process of a test."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.jobs import JobQueue, JobRecord, Jobs, JobWorker, ProcessLife, StorageHealth
from service.jobs.archiving import JobArchive
from service.jobs.catalog import find_model
from service.loading import open_pipeline
from service.metrics import Metrics
from service.options import VideoOptions
from service.settings import Settings, load_settings
from service.storage import Storage

ME = "me"
OPTIONS = VideoOptions(fps=1)


@dataclass(frozen=True, kw_only=True)
class Api:
    """The parts of an API. `submitted` holds the ids of its jobs, in order."""

    life: ProcessLife
    queue: JobQueue
    jobs: Jobs
    storage: Storage
    metrics: Metrics
    submitted: list[str] = field(default_factory=list)

    async def submit(
        self,
        video: Path,
        *,
        owner: str = ME,
        options: VideoOptions = OPTIONS,
        webhook: str | None = None,
        **rest: Any,
    ) -> str:
        """Stores a video and puts its job into the queue; the rest goes to `Jobs.submit`."""
        video_id = secrets.token_hex(16)
        content = video.read_bytes()
        upload = self.storage.open_upload(video_id)
        upload.write(content)
        upload.close()
        digest = hashlib.sha256(content).hexdigest()
        record = JobRecord(owner=owner, sha256=digest, options=options, webhook=webhook)
        model = find_model(await self.jobs.catalog.models(), options.model)
        self.submitted.append(await self.jobs.submit(video_id, record, model.reference, **rest))
        return self.submitted[-1]

    async def status(self, video_id: str, owner: str = ME) -> str:
        """The status of a job."""
        return (await self.jobs.state(video_id, owner)).status

    async def end_of(self, video_id: str, owner: str = ME) -> str:
        """Waits for the end of a job. Returns its status."""
        assert await self.jobs.wait(video_id, owner, 60)
        return await self.status(video_id, owner)


@dataclass(frozen=True, kw_only=True)
class Process(Api):
    """The parts of a service with API and worker in one process."""

    worker: JobWorker


def settings_of(folder: Path, queue_url: str, **more: Any) -> Settings:
    """Settings with short times; `more` wins."""
    return load_settings(
        {
            "queue_url": queue_url,
            "data": str(folder),
            "lease_seconds": 2,
            "threads": 1,
            "shutdown_seconds": 0,
            **more,
        }
    )


@asynccontextmanager
async def process(bundle: Path, folder: Path, queue_url: str, **more: Any) -> AsyncIterator[Process]:
    """Takes and does jobs, as a process of the service would."""
    settings = settings_of(folder, queue_url, **{"bundles": (bundle,), **more})
    metrics, storage = Metrics(), Storage(str(folder))
    life = ProcessLife()
    loaded = open_pipeline(settings, on_batch=metrics.count_batch, on_engine_death=life.lose_engine)
    with closing(loaded) as pipeline:
        async with life, JobQueue(settings, metrics) as queue:
            storage_health = StorageHealth(storage, queue, metrics, JobArchive(settings.archive, storage))
            await storage_health.measure()
            jobs = Jobs(queue, storage, settings, metrics, life, storage_health)
            async with JobWorker(queue, pipeline, storage, settings, metrics, life, storage_health) as worker:
                yield Process(life=life, queue=queue, jobs=jobs, worker=worker, storage=storage, metrics=metrics)


@asynccontextmanager
async def api(folder: Path, queue_url: str, **more: Any) -> AsyncIterator[Api]:
    """Takes jobs and does none, as an API of a fleet would."""
    settings = settings_of(folder, queue_url, **more)
    metrics, storage, life = Metrics(), Storage(str(folder)), ProcessLife()
    async with life, JobQueue(settings, metrics) as queue:
        storage_health = StorageHealth(storage, queue, metrics)
        await storage_health.measure()
        jobs = Jobs(queue, storage, settings, metrics, life, storage_health)
        yield Api(life=life, queue=queue, jobs=jobs, storage=storage, metrics=metrics)
