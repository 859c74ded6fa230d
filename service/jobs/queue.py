"""The queue that API and workers share: docket's queue, the records, changes and webhooks of its jobs."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar, cast

import structlog
from docket import Execution, ExecutionState
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer

from service.errors import Unavailable
from service.jobs import scripts
from service.jobs.changes import JobChanges
from service.jobs.connection import LastingDocket
from service.jobs.records import Acceptance, JobRecord, RecordHead, Records, Standing, TakenJob, number_in
from service.jobs.room import Room
from service.jobs.webhooks import Ending, Event, WebhookQueue, Webhooks
from service.metrics import Metrics
from service.pipeline import Progress
from service.settings import MEMORY_QUEUE, Settings
from service.tracing import span

MAKE_GRAPH = "make_graph"
_RETRY_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_HEALTH_SECONDS = 2.0
_PUT_BACK_DELAY = timedelta(seconds=1)
_MOST_LOOKED_AT = 999  # of the jobs that wait to be taken again

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Backlog:
    """The jobs in the queue.

    depth: jobs that no worker has taken yet.
    oldest_seconds: seconds that the first of these has waited.
    length: jobs that wait or run.
    age: seconds since the first of these was added.
    parked_seconds: seconds that the first of those has waited which a worker gave back, since it cannot do them now.
    """

    depth: int
    oldest_seconds: float
    length: int
    age: float
    parked_seconds: float


@dataclass(frozen=True)
class Look:
    """The queue's knowledge of a job.

    head: the part of its record that every version can read; None where there is none.
    is_known: whether there is a record.
    is_deleted: whether its owner has deleted it.
    is_taken: whether a worker that can do it has it.
    is_over: whether it has ended, and its result is stored.
    state: None where the queue knows nothing.
    progress: None where there is none.
    accepted: seconds since the epoch, by the clock of Redis; None where it is not known.
    graph_id: the video whose graph answers for this one; itself, unless it was answered by that of an equal one. None
        where the queue knows nothing.
    """

    head: RecordHead | None
    is_known: bool
    is_deleted: bool
    is_taken: bool
    is_over: bool
    state: ExecutionState | None
    progress: Progress | None
    accepted: float | None
    graph_id: str | None


class JobQueue:
    """Jobs in order, and their records. Use it as an async context manager; a process has one.

    in_memory: whether it ends with this process.
    docket: the queue itself. A worker registers its task there as `MAKE_GRAPH`.
    records: of the jobs.
    changes: wakes those who follow a job.
    webhooks: checks the URLs of webhooks.
    announcements: sends them; None where the operator allows none.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.in_memory = settings.queue_url.startswith(MEMORY_QUEUE)
        # A memory queue is shared by all that use its URL in one event loop, so each gets a name of its own.
        url = f"{MEMORY_QUEUE}{secrets.token_hex(8)}" if self.in_memory else settings.queue_url
        self.docket = LastingDocket("vsg", url, execution_ttl=timedelta(seconds=settings.retention))
        self.docket.register(_make_graph, names=[MAKE_GRAPH])
        self.records = Records(self.docket, Room.of(settings), retention=timedelta(seconds=settings.retention))
        self._metrics = metrics
        self.changes = JobChanges(self.docket, in_memory=self.in_memory)
        self.webhooks = Webhooks(settings)
        self.announcements = WebhookQueue(
            self.webhooks, settings, on_attempt=lambda outcome: metrics.webhooks.labels(outcome).inc()
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.docket)
            await stack.enter_async_context(self.changes)
            await stack.enter_async_context(self.announcements)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def now(self) -> float:
        """Seconds since the epoch by the clock of Redis, the only one that all processes share. Raises RedisError."""
        if self.in_memory:
            return time.time()
        async with self.docket.redis() as redis:
            seconds, microseconds = await cast(Any, redis).time()
        return int(seconds) + int(microseconds) / 1e6

    async def storage_mark(self, mark: str | None) -> str | None:
        """The mark of the fleet's storage. Where the queue knows none, it learns this one. Raises RedisError."""
        async with self.docket.redis() as redis:
            if mark is not None:
                await redis.set(self.docket.key("storage"), mark, nx=True)
            known = await redis.get(self.docket.key("storage"))
            if known is not None and mark is not None and known.decode(errors="replace") == mark:
                await redis.set(self.docket.key("storage"), mark)  # it no longer ends, as a claim does
        return None if known is None else known.decode(errors="replace")

    async def claim_storage(self, mark: str) -> bool:
        """Claims for a minute that this process makes the storage. False where another has. Raises RedisError."""
        async with self.docket.redis() as redis:
            return bool(await redis.set(self.docket.key("storage"), mark, nx=True, px=timedelta(seconds=60)))

    async def is_storage_claimed(self) -> bool:
        """Whether a process makes the storage now: a claim ends, a storage's mark does not. Raises RedisError."""
        async with self.docket.redis() as redis:
            return int(await redis.ttl(self.docket.key("storage"))) > 0

    async def take(self, video_id: str) -> TakenJob | None:
        """Takes a job for a worker, as `Records.take` does. Insists."""

        async def take() -> TakenJob | None:
            return await self.records.take(video_id, await self.now())

        return await self.insist(take)

    async def end(self, job: TakenJob, status: Ending) -> Standing:
        """Notes how a job has ended, as `Records.end` does. Insists."""

        async def end() -> Standing:
            return await self.records.end(job, status, await self.now())

        return await self.insist(end)

    async def check_room(self, owner: str) -> None:
        """Raises QueueFull or TooManyVideos where an owner may not have one more job, and RedisError."""
        await self.records.check_room(owner, await self.now())

    async def accept(self, video_id: str, record: JobRecord, *, request_key: str | None = None) -> Acceptance:
        """Puts a job at the end of the queue, together with its record and the claim of its `Idempotency-Key`.

        The upload must be stored already. Raises QueueFull or TooManyVideos where there is no room, and RedisError.
        """
        with span("docket.add"):
            execution = Execution(
                self.docket,
                self.docket.tasks[MAKE_GRAPH],
                (video_id,),
                {},
                video_id,
                datetime.now(UTC),
                attempt=1,
                function_name=MAKE_GRAPH,
            )
            # Private in docket, but its own way stores a job alone.
            arguments, _ = execution._schedule_script_args(replace=False)
            keys, args = scripts.SCHEDULE._keys_and_argv((), arguments)
            return await self.records.accept(
                video_id, record, await self.now(), request_key=request_key, job=(keys, args)
            )

    async def accept_kept(
        self, video_id: str, record: JobRecord, graph_id: str, *, request_key: str | None = None
    ) -> Acceptance:
        """Stores the record of a video that the kept graph of another answers. Otherwise it does what `accept` does."""
        return await self.records.accept(
            video_id, record, await self.now(), request_key=request_key, job=None, graph_id=graph_id
        )

    async def put_back(self, execution: Execution) -> None:
        """Puts a job that a worker has taken back into the queue, to be taken again a little later. Raises RedisError.

        Any worker moves it from there when it is due by its own clock. So that a job never waits for hours, it is due
        by the clock that is behind.
        """
        earliest = min(await self.now(), time.time())
        execution.when = datetime.fromtimestamp(earliest, UTC) + _PUT_BACK_DELAY
        await execution.schedule(reschedule_message=execution.message_id)

    async def look(self, video_id: str) -> Look:
        """Looks a job up in one round trip. Docket's own way takes two, and this is called very often.

        Raises RedisError when the queue does not answer.
        """
        async with self.docket.redis() as redis, redis.pipeline() as pipe:
            pipe.hgetall(self.records.key(video_id))
            pipe.hgetall(self.docket.runs_key(video_id))
            pipe.hgetall(self.docket.key(f"progress:{video_id}"))
            cast(Any, pipe).zscore(self.records.deleted_key, video_id)
            record, run, progress, deleted = await pipe.execute()
        is_known, accepted, has_begun = b"record" in record, record.get(b"accepted"), b"current" in progress
        return Look(
            head=RecordHead.read(record[b"record"]) if is_known else None,
            is_known=is_known,
            is_deleted=deleted is not None,
            # Workers of another version have no lease; they count their attempts.
            is_taken=b"running" in record or (b"lease" not in record and number_in(record, b"begun") > 0),
            is_over=b"ended" in record,
            state=_read_state(run.get(b"state")),
            progress=Progress(number_in(progress, b"current"), number_in(progress, b"total")) if has_begun else None,
            accepted=None if accepted is None else float(accepted),
            graph_id=record.get(b"graph", video_id.encode()).decode() if is_known else None,
        )

    @property
    def is_alive(self) -> bool:
        """Whether it hears of jobs and, where this process can, sends webhooks. Neither begins again."""
        return self.changes.is_alive and self.announcements.is_alive

    async def announce(
        self, video_id: str, head: RecordHead, status: Ending, problem: dict[str, Any] | None = None
    ) -> None:
        """Queues the webhook that tells of a job's end, if the job has one. A process that can sends it."""
        if (url := head.webhook) is not None:
            event = Event.of(video_id, status, problem)
            await self.insist(lambda: self.announcements.announce(url, event))
            await self.insist(lambda: self.records.note_told(video_id))

    async def length(self) -> int:
        """The number of jobs that wait or run. Raises RedisError when the queue does not answer."""
        async with self.docket.redis() as redis, redis.pipeline() as pipe:
            pipe.xlen(self.docket.stream_key)
            pipe.zcard(self.docket.queue_key)
            counts: list[int] = await pipe.execute()
        return sum(counts)

    async def backlog(self) -> Backlog:
        """The jobs that wait and run. Raises Unavailable when the queue does not answer within 2 seconds."""
        async with answer_in_time(), self.docket.redis() as redis:
            now = await self.now()
            streamed = await redis.xlen(self.docket.stream_key)
            parked = [video_id.decode() for video_id in await redis.zrange(self.docket.queue_key, 0, _MOST_LOOKED_AT)]
            async with redis.pipeline() as pipe:
                for video_id in parked:
                    cast(Any, pipe).hget(self.records.key(video_id), "accepted")
                accepted = [float(text) for text in await pipe.execute() if text is not None] if parked else []
            parked_seconds = max((now - moment for moment in accepted), default=0.0)
            if not streamed:  # before the first job there is no group to ask about
                return Backlog(len(parked), 0.0, len(parked), parked_seconds, parked_seconds)
            groups = await redis.xinfo_groups(self.docket.stream_key)
            taken: bytes = groups[0]["last-delivered-id"] if groups else b"0-0"
            pending: int = groups[0]["pending"] if groups else 0
            # An entry's id is the milliseconds at which it was added, and a number.
            moment, number = taken.decode().split("-")
            waiting = await redis.xrange(self.docket.stream_key, min=f"{moment}-{int(number) + 1}", count=1)
            all_jobs = await redis.xrange(self.docket.stream_key, count=1)
        return Backlog(
            depth=max(0, streamed - pending) + len(parked),
            oldest_seconds=_age(waiting, now),
            length=streamed + len(parked),
            age=max(_age(all_jobs, now), parked_seconds),
            parked_seconds=parked_seconds,
        )

    async def measure(self) -> None:
        """Sets the metrics of the queue. While it does not answer, those that are unknown are NaN."""
        try:
            backlog = await self.backlog()
        except Unavailable:
            backlog = None
        self._metrics.queue_up.set(backlog is not None)
        self._metrics.queue_depth.set(math.nan if backlog is None else backlog.depth)
        oldest = math.nan if backlog is None else max(backlog.oldest_seconds, backlog.parked_seconds)
        self._metrics.queue_oldest_seconds.set(oldest)

    async def insist(self, command: Callable[[], Awaitable[T]]) -> T:
        """Repeats a command until Redis carries it out, because the end of a job must not get lost."""
        while True:
            try:
                return await command()
            except RedisError as error:
                log.warning("the job queue does not answer; trying again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)


async def _make_graph(video_id: str) -> None:
    """Stands for the task in a process without a worker, which only adds jobs. A worker registers its own instead."""
    raise NotImplementedError


@asynccontextmanager
async def in_time(seconds: float = _ANSWER_SECONDS) -> AsyncIterator[None]:
    """Limits the time that commands to the queue take; docket's client would wait for ever.

    Raises RedisError when the time is over. A worker sets no limit: a job waits until it can tell the queue of its end.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {seconds:g} seconds") from error


@asynccontextmanager
async def answer_in_time() -> AsyncIterator[None]:
    """Limits the time as `in_time` does, for checks of health. Raises Unavailable when the queue does not answer."""
    try:
        async with in_time(_HEALTH_SECONDS):
            yield
    except RedisError as error:
        raise Unavailable("the job queue does not answer") from error


def _age(entries: Sequence[tuple[bytes, Any]], now: float) -> float:
    """Seconds since the first of these entries of a stream was added; 0 if there are none."""
    return max(0.0, now - int(entries[0][0].split(b"-")[0]) / 1000) if entries else 0.0


def _read_state(text: bytes | None) -> ExecutionState | None:
    """A job's state; None where the queue knows none, or one that this version cannot read."""
    try:
        return None if text is None else ExecutionState(text.decode())
    except ValueError:
        return None
