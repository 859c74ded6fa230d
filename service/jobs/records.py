"""What is kept of every job beside its place in the queue: whose it is, what was asked, how often it was begun."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from docket import Docket
from pydantic import BaseModel, ConfigDict

from models.graph.scene_graph import ModelReference
from service.options import VideoOptions


class JobRecord(BaseModel):
    """What a job was asked for.

    owner    who posted it; nobody else learns of it
    sha256   of the upload
    webhook  the URL that is told when the job has ended
    """

    model_config = ConfigDict(frozen=True)

    owner: str
    sha256: str
    options: VideoOptions
    webhook: str | None = None


@dataclass(frozen=True)
class Attempts:
    """How often a worker has begun a job and not come to an end, and how often it died of itself meanwhile.

    begun    also those that somebody killed together with their parent
    crashes  those of which their parent says so
    """

    begun: int
    crashes: int


class Records:
    """The records of jobs in Redis. A record lives while its job waits or runs, and as long as its result is kept.

    All methods raise RedisError when Redis does not answer.
    """

    def __init__(self, docket: Docket, *, retention: timedelta) -> None:
        self._docket = docket
        self._retention = retention

    async def create(self, video_id: str, record: JobRecord) -> None:
        """Keeps the record of a new job."""
        async with self._docket.redis() as redis:
            await redis.hset(self.key(video_id), mapping={"record": record.model_dump_json()})

    async def get(self, video_id: str) -> JobRecord | None:
        """The record of a job; None when it is kept no longer, was deleted, or never was."""
        async with self._docket.redis() as redis:
            text = await redis.hget(self.key(video_id), "record")
        return None if text is None else JobRecord.model_validate_json(text)

    async def attempts(self, video_id: str) -> Attempts:
        """What has become of the workers that have begun the job."""
        async with self._docket.redis() as redis:
            record = await redis.hgetall(self.key(video_id))
        return Attempts(int(record.get(b"begun", 0)), int(record.get(b"crashes", 0)))

    async def begin(self, video_id: str) -> None:
        """Counts that a worker begins the job."""
        async with self._docket.redis() as redis:
            await redis.hincrby(self.key(video_id), "begun", 1)

    async def blame(self, video_id: str) -> None:
        """Counts that a worker has died while it did the job; one that is not known any more stays forgotten."""
        async with self._docket.redis() as redis:
            if await redis.exists(self.key(video_id)):
                await redis.hincrby(self.key(video_id), "crashes", 1)

    async def hand_back(self, video_id: str) -> None:
        """Takes back that it was begun, because the worker stops and not because of the job."""
        async with self._docket.redis() as redis:
            await redis.hincrby(self.key(video_id), "begun", -1)

    async def keep(self, video_id: str) -> None:
        """Lets the record be forgotten when the operator's retention is over; for a job that has ended."""
        async with self._docket.redis() as redis:
            await redis.expire(self.key(video_id), self._retention)

    async def delete(self, video_id: str) -> None:
        """Forgets a job."""
        async with self._docket.redis() as redis:
            await redis.delete(self.key(video_id))

    async def claim_request(self, owner: str, key: str, video_id: str) -> str:
        """The id of the job that the first request with this `Idempotency-Key` has made; `video_id` if this is it.

        The record of `video_id` must be there before, so that who comes second finds it.
        """
        name = self._docket.key(f"request:{_digest(owner, key)}")
        async with self._docket.redis() as redis:
            if await redis.set(name, video_id, nx=True, ex=self._retention):
                return video_id
            first = await redis.get(name)
            known = first is not None and await redis.exists(self.key(first.decode()))
            if first is None or not known:  # deleted, or over its retention
                await redis.set(name, video_id, ex=self._retention)
                return video_id
            return first.decode()

    async def note_result(self, video_id: str, record: JobRecord, model: ModelReference) -> None:
        """Remembers that this job's graph answers every like request of its owner."""
        async with self._docket.redis() as redis:
            await redis.set(self._result_key(record, model), video_id, ex=self._retention)

    async def like(self, record: JobRecord, model: ModelReference) -> str | None:
        """A job of the same owner that has made the same graph: same bytes, options, model, version and engine."""
        async with self._docket.redis() as redis:
            found = await redis.get(self._result_key(record, model))
        return None if found is None else found.decode()

    def key(self, video_id: str) -> str:
        """Where the record of a job is in Redis: a hash, whose field `record` holds it."""
        return self._docket.key(f"video:{video_id}")

    def _result_key(self, record: JobRecord, model: ModelReference) -> str:
        options = record.options.model_copy(update={"model": model.name})
        return self._docket.key(
            f"result:{_digest(record.owner, record.sha256, options.model_dump_json(), model.model_dump_json())}"
        )


def _digest(*parts: str) -> str:
    """A name for what callers sent, of fixed length and without separators that they could imitate."""
    return hashlib.sha256("\0".join(hashlib.sha256(part.encode()).hexdigest() for part in parts).encode()).hexdigest()
