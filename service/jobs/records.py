"""The state of a job, and its record in Redis beside the queue: its owner, what it asks for, and its attempts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from docket import Docket, ExecutionState
from pydantic import BaseModel, ConfigDict

from models.graph.scene_graph import ModelReference, Status
from service.jobs.errors import NotFound
from service.options import VideoOptions
from service.pipeline import Progress
from service.storage import StoredResult

VIDEO_ID = re.compile(r"[0-9a-f]{32}")
OVER = (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED)
STATUS: dict[ExecutionState, Status] = {
    ExecutionState.SCHEDULED: "queued",
    ExecutionState.QUEUED: "queued",
    ExecutionState.RUNNING: "running",
    ExecutionState.COMPLETED: "succeeded",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class JobState:
    """The state of a job at one moment.

    progress: how far it is, while it runs.
    result: the stored graph or, for a failed job, the stored problem document.
    """

    id: str
    status: Status
    progress: Progress | None = None
    result: StoredResult | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.status in ("succeeded", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """The body of an answer about a job that has not ended."""
        body: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.progress is not None:
            body["progress"] = {"frames": self.progress.frames, "expected": self.progress.expected}
        return body


def not_found(video_id: str) -> NotFound:
    """The error for an id that belongs to no video of the caller."""
    return NotFound(f"there is no video {video_id[:40]!r}: it never existed, was deleted, or its retention is over")


class JobRecord(BaseModel):
    """The request of a job.

    owner: who posted it; nobody else sees it.
    sha256: of the upload.
    options: of the graph.
    webhook: URL to tell when the job has ended.
    """

    model_config = ConfigDict(frozen=True)

    owner: str
    sha256: str
    options: VideoOptions
    webhook: str | None = None


@dataclass(frozen=True)
class Attempts:
    """Counts how often workers have begun a job without ending it.

    begun: all attempts, including those of workers that were killed together with their parent.
    crashes: attempts whose worker died by itself, as its parent reports.
    """

    begun: int
    crashes: int


class Records:
    """The records of jobs in Redis. A record exists while its job waits or runs, and while its result is kept.

    All methods raise RedisError when Redis does not answer.
    """

    def __init__(self, docket: Docket, *, retention: timedelta) -> None:
        self._docket = docket
        self._retention = retention

    async def create(self, video_id: str, record: JobRecord) -> None:
        """Stores the record of a new job."""
        async with self._docket.redis() as redis:
            await redis.hset(self.key(video_id), mapping={"record": record.model_dump_json()})

    async def get(self, video_id: str) -> JobRecord | None:
        """The record of a job; None if there is none, or none any longer."""
        async with self._docket.redis() as redis:
            text = await redis.hget(self.key(video_id), "record")
        return None if text is None else JobRecord.model_validate_json(text)

    async def attempts(self, video_id: str) -> Attempts:
        """The attempts at a job so far."""
        async with self._docket.redis() as redis:
            record = await redis.hgetall(self.key(video_id))
        return Attempts(int(record.get(b"begun", 0)), int(record.get(b"crashes", 0)))

    async def begin(self, video_id: str) -> None:
        """Counts an attempt that begins."""
        async with self._docket.redis() as redis:
            await redis.hincrby(self.key(video_id), "begun", 1)

    async def blame(self, video_id: str) -> None:
        """Counts a worker that died while it did the job. Does nothing for a job without a record."""
        async with self._docket.redis() as redis:
            if await redis.exists(self.key(video_id)):
                await redis.hincrby(self.key(video_id), "crashes", 1)

    async def hand_back(self, video_id: str) -> None:
        """Takes an attempt back, because the worker stops for a reason of its own."""
        async with self._docket.redis() as redis:
            await redis.hincrby(self.key(video_id), "begun", -1)

    async def keep(self, video_id: str) -> None:
        """Keeps the record of a job that has ended for the operator's retention."""
        async with self._docket.redis() as redis:
            await redis.expire(self.key(video_id), self._retention)

    async def delete(self, video_id: str) -> None:
        """Deletes the record of a job."""
        async with self._docket.redis() as redis:
            await redis.delete(self.key(video_id))

    async def claim_request(self, owner: str, key: str, video_id: str) -> str:
        """Claims an `Idempotency-Key` for a job. Returns the id of the job that has claimed it first.

        Store the record of `video_id` before, so that a second request finds it.
        """
        name = self._docket.key(f"request:{_digest(owner, key)}")
        async with self._docket.redis() as redis:
            if await redis.set(name, video_id, nx=True, ex=self._retention):
                return video_id
            first = await redis.get(name)
            known = first is not None and await redis.exists(self.key(first.decode()))
            if first is None or not known:  # it was deleted, or its retention is over
                await redis.set(name, video_id, ex=self._retention)
                return video_id
            return first.decode()

    async def note_result(self, video_id: str, record: JobRecord, model: ModelReference) -> None:
        """Notes that the graph of this job answers equal requests of its owner."""
        async with self._docket.redis() as redis:
            await redis.set(self._result_key(record, model), video_id, ex=self._retention)

    async def find_result(self, record: JobRecord, model: ModelReference) -> str | None:
        """The id of a job with the same graph: same owner, bytes, options, model, version, engine and precision."""
        async with self._docket.redis() as redis:
            found = await redis.get(self._result_key(record, model))
        return None if found is None else found.decode()

    def key(self, video_id: str) -> str:
        """The key in Redis of a job's hash, whose field `record` holds the record."""
        return self._docket.key(f"video:{video_id}")

    def _result_key(self, record: JobRecord, model: ModelReference) -> str:
        options = record.options.model_copy(update={"model": model.name})
        return self._docket.key(
            f"result:{_digest(record.owner, record.sha256, options.model_dump_json(), model.model_dump_json())}"
        )


def _digest(*parts: str) -> str:
    """A key of fixed length for texts that callers sent; no text can imitate another list of them."""
    return hashlib.sha256("\0".join(hashlib.sha256(part.encode()).hexdigest() for part in parts).encode()).hexdigest()
