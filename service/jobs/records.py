"""The state of a job, and its record in Redis beside the queue: its owner, what it asks for, its attempts, its end."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Self

from docket import Docket, ExecutionState
from pydantic import BaseModel, ConfigDict, ValidationError

from models.graph.scene_graph import ModelReference, Status
from service.jobs import scripts
from service.jobs.errors import NotFound
from service.jobs.room import Room
from service.jobs.scripts import Script
from service.options import VideoOptions
from service.pipeline import Progress
from service.stored_files import StoredResult

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


class RecordHead(BaseModel):
    """The part of a job's record that every version of the service can read.

    owner: who posted it; nobody else sees it.
    webhook: URL to tell when the job has ended.
    """

    model_config = ConfigDict(frozen=True)

    owner: str
    webhook: str | None = None

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """Reads a stored record; None where another version wrote what this one cannot read."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None


class JobRecord(RecordHead):
    """The request of a job.

    sha256: of the upload.
    options: of the graph.
    model: that makes the graph; None in records of versions that left the choice to the worker.
    """

    sha256: str
    options: VideoOptions
    model: str | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The fields that the caller has given. They tell whether two requests are the same."""
        return self.model_dump(exclude={"model"})


@dataclass(frozen=True)
class Attempts:
    """Counts how often workers have begun a job without ending it.

    begun: all attempts, including those of workers that were killed together with their parent.
    crashes: attempts whose worker died by itself, as its parent reports.
    """

    begun: int
    crashes: int


@dataclass(frozen=True)
class TakenJob:
    """A job that a worker has taken from the queue.

    lease: the worker's word; another worker that takes the job later has another.
    epoch: a word that Redis has for as long as it has its data.
    head: the part of the record that every version can read; None where this one cannot.
    record: None where another version wrote what this one cannot read.
    attempts: before this one.
    accepted: seconds since the epoch, by the clock of Redis; None for a job of another version that has ended.
    ended: how the job has ended, if it has.
    is_told: whether the webhook of its end is queued.
    """

    id: str
    lease: str
    epoch: str
    head: RecordHead | None
    record: JobRecord | None
    attempts: Attempts
    accepted: float | None
    ended: str | None
    is_told: bool


Outcome = Literal["accepted", "repeated", "swept", "gone"]


@dataclass(frozen=True)
class Acceptance:
    """What has become of a request.

    outcome: accepted; repeated, where another job has claimed the `Idempotency-Key`; swept, where the upload was taken
        for abandoned; gone, where the graph that should answer was deleted.
    video_id: the job that answers the request.
    """

    outcome: Outcome
    video_id: str


Standing = Literal["mine", "taken", "deleted", "lost"]
"""What has become of a job since a worker has taken it: the job is still the worker's, another worker has taken it, it
was deleted, or Redis has lost its data."""


class Records:
    """The records of jobs in Redis. A record exists while its job waits or runs, and while its result is kept.

    All methods raise RedisError when Redis does not answer.
    """

    def __init__(self, docket: Docket, room: Room, *, retention: timedelta) -> None:
        self._docket = docket
        self._room = room
        self._milliseconds = max(1, int(retention.total_seconds() * 1000))

    async def check_room(self, owner: str, now: float) -> None:
        """Raises QueueFull or TooManyVideos where an owner may not have one more job.

        now: by the clock of Redis.
        """
        room = self._room
        keys = [*self._queue_keys, *self._owner_keys(owner)]
        room.check(await self._run(scripts.ROOM, keys, [now, room.queue, room.share, room.kept, self.key("")]))

    async def accept(
        self,
        video_id: str,
        record: JobRecord,
        now: float,
        *,
        request_key: str | None,
        job: tuple[list[str], list[Any]] | None,
        graph_id: str = "",
    ) -> Acceptance:
        """Claims an `Idempotency-Key`, stores a record and adds its job, in one step.

        now: by the clock of Redis.
        job: keys and arguments of docket's script; None for a video that the graph of another answers.
        graph_id: of that other video.

        Raises QueueFull or TooManyVideos where there is no room for it.
        """
        request = self.key(video_id) if request_key is None else self._request_key(record.owner, request_key)
        keys, args = ([], []) if job is None else job
        room = self._room
        reply = await self._run(
            scripts.ACCEPT,
            [
                *(self.key(video_id), request, self._swept_key(video_id)),
                *self._queue_keys,
                *self._owner_keys(record.owner),
                *(self.key(graph_id), self._shared_key(graph_id)),
                *keys,
            ],
            [
                *(video_id, record.model_dump_json(), now, int(request_key is not None), self.key("")),
                *(room.queue, room.share, room.kept),
                *(self._milliseconds, graph_id),
                *args,
            ],
        )
        room.check(reply)
        outcome: Outcome = reply[0].decode()
        return Acceptance(outcome, reply[1].decode() if outcome == "repeated" else video_id)

    async def claimed(self, owner: str, request_key: str) -> tuple[str, JobRecord | None] | None:
        """The job that has claimed an `Idempotency-Key`: its id, and its record where this version can read it."""
        async with self._docket.redis() as redis:
            first = await redis.get(self._request_key(owner, request_key))
            text = None if first is None else await redis.hget(self.key(first.decode()), "record")
        return None if first is None or text is None else (first.decode(), JobRecord.read(text))

    async def take(self, video_id: str, now: float) -> TakenJob | None:
        """Takes a job for a worker, from whoever had it before. Returns None where it has no record.

        now: by the clock of Redis, for records of versions that did not note when the job was accepted.
        """
        lease = secrets.token_hex(8)
        epoch, fields = await self._run(
            scripts.TAKE, [self.key(video_id), self._epoch_key], [lease, secrets.token_hex(8), now]
        )
        record = dict(zip(fields[::2], fields[1::2], strict=True))
        if b"record" not in record:
            return None
        text, accepted, ended = record[b"record"], record.get(b"accepted"), record.get(b"ended")
        return TakenJob(
            video_id,
            lease,
            epoch.decode(),
            RecordHead.read(text),
            JobRecord.read(text),
            Attempts(number_in(record, b"begun"), number_in(record, b"crashes")),
            None if accepted is None else float(accepted),
            None if ended is None else ended.decode(),
            b"told" in record,
        )

    async def standing(self, job: TakenJob) -> Standing:
        """What has become of a job since a worker has taken it."""
        return await self._of_taken(scripts.LOOK, job)

    async def show(self, job: TakenJob) -> Standing:
        """Shows a job as running, if it is still the worker's, and wakes those who follow it."""
        message = json.dumps({"type": "state", "key": job.id, "state": ExecutionState.RUNNING.value})
        return await self._of_taken(scripts.SHOW, job, message)

    async def begin(self, job: TakenJob) -> Standing:
        """Counts an attempt that begins, if the job is still the worker's."""
        return await self._of_taken(scripts.BEGIN, job)

    async def release(self, job: TakenJob, *, was_begun: bool, leaves: bool) -> Standing:
        """Takes an attempt back that ends for a reason which is not the job's.

        was_begun: whether the attempt was counted.
        leaves: whether the worker puts the job back into the queue itself.
        """
        return await self._of_taken(scripts.RELEASE, job, int(was_begun), int(leaves))

    async def end(self, job: TakenJob, status: str, now: float) -> Standing:
        """Notes how a job has ended, if it is still the worker's, and keeps its record for the operator's retention."""
        owner = "" if job.head is None else job.head.owner
        keys = self._owner_keys(owner)
        return await self._of_taken(scripts.END, job, job.id, now, self._milliseconds, status, keys=keys)

    async def blame(self, video_id: str) -> None:
        """Counts a worker that died while it did the job. Does nothing for a job without a record."""
        await self._run(scripts.COUNT, [self.key(video_id)], ["crashes"])

    async def note_told(self, video_id: str) -> None:
        """Notes that the webhook of a job's end is queued. Does nothing for a job without a record."""
        await self._run(scripts.COUNT, [self.key(video_id)], ["told"])

    async def forget(self, video_id: str, owner: str, now: float, *, graph_id: str | None = None) -> bool:
        """Deletes the record of a job for good: a worker that still has the job cannot bring it back.

        graph_id: of the video whose graph answers for this one, if it is another.

        Returns whether that graph answers for other videos.
        """
        graph_id = graph_id or video_id
        keys = [self.key(video_id), self.deleted_key, *self._owner_keys(owner)]
        keys += [self.key(graph_id), self._shared_key(graph_id)]
        return bool(await self._run(scripts.FORGET, keys, [video_id, now]))

    async def retire(self, video_id: str, now: float) -> bool:
        """Whether the graph of a video answers for no other. If so, it never will."""
        return bool(await self._run(scripts.RETIRE, [self.key(video_id), self._shared_key(video_id)], [now]))

    async def abandon(self, video_id: str, seconds: int) -> bool:
        """Whether no job needs an upload. If so, none is accepted for it for some seconds."""
        return bool(await self._run(scripts.ABANDON, [self.key(video_id), self._swept_key(video_id)], [seconds]))

    async def exists(self, video_id: str) -> bool:
        """Whether a job waits, runs, or has a result that is kept."""
        async with self._docket.redis() as redis:
            return bool(await redis.exists(self.key(video_id)))

    async def deleted(self, *, since: float) -> set[str]:
        """The jobs that were deleted since a moment by the clock of Redis. Those before are no longer known then."""
        async with self._docket.redis() as redis:
            await redis.zremrangebyscore(self.deleted_key, 0, since)
            return {video_id.decode() for video_id in await redis.zrange(self.deleted_key, 0, -1)}

    async def note_result(self, video_id: str, record: JobRecord, model: ModelReference) -> None:
        """Notes that the graph of this job answers equal requests of its owner."""
        async with self._docket.redis() as redis:
            await redis.set(self._result_key(record, model), video_id, px=self._milliseconds)

    async def find_result(self, record: JobRecord, model: ModelReference) -> str | None:
        """The id of a job with the same graph: same owner, bytes, options, model, version, engine and precision."""
        async with self._docket.redis() as redis:
            found = await redis.get(self._result_key(record, model))
        return None if found is None else found.decode()

    def key(self, video_id: str) -> str:
        """The key in Redis of a job's hash, whose field `record` holds the record."""
        return self._docket.key(f"video:{video_id}")

    @property
    def deleted_key(self) -> str:
        """The key in Redis of the jobs that were deleted, by time."""
        return self._docket.key("deleted")

    @property
    def _epoch_key(self) -> str:
        return self._docket.key("epoch")

    @property
    def _queue_keys(self) -> list[str]:
        return [self._docket.stream_key, self._docket.queue_key]

    def _owner_keys(self, owner: str) -> list[str]:
        """The keys in Redis of an owner's videos: those that wait or run, and those that are kept."""
        return [self._docket.key(f"{kind}:{_digest(owner)}") for kind in ("active", "kept")]

    def _shared_key(self, video_id: str) -> str:
        """The key in Redis of the videos for which a graph answers besides its own."""
        return self._docket.key(f"shared:{video_id}")

    def _swept_key(self, video_id: str) -> str:
        return self._docket.key(f"swept:{video_id}")

    def _request_key(self, owner: str, request_key: str) -> str:
        return self._docket.key(f"request:{_digest(owner, request_key)}")

    def _result_key(self, record: JobRecord, model: ModelReference) -> str:
        options = record.options.model_copy(update={"model": model.name})
        return self._docket.key(
            f"result:{_digest(record.owner, record.sha256, options.model_dump_json(), model.model_dump_json())}"
        )

    async def _of_taken(self, script: Script, job: TakenJob, *args: Any, keys: Sequence[str] = ()) -> Standing:
        all_keys = [self.key(job.id), self._epoch_key, self._docket.key(f"state:{job.id}"), *keys]
        reply = await self._run(script, all_keys, [job.lease, job.epoch, *args])
        standing: Standing = reply.decode()
        return standing

    async def _run(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        async with self._docket.redis() as redis:
            return await script.run(redis, keys, args)


def number_in(fields: Mapping[bytes, bytes], name: bytes) -> int:
    """A number of a hash in Redis; 0 where it is missing, or is none to this version."""
    text = fields.get(name, b"")
    return int(text) if text.isdigit() else 0


def _digest(*parts: str) -> str:
    """A key of fixed length for texts that callers sent; no text can imitate another list of them."""
    return hashlib.sha256("\0".join(hashlib.sha256(part.encode()).hexdigest() for part in parts).encode()).hexdigest()
