"""The progress of a job reaches the queue, and changes of a job wake those who follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as NoConnection

from service.jobs.progress import ProgressReporter
from service.pipeline import Progress
from tests.service.jobs.process import ME, OPTIONS, process

AFTER_THE_END = OPTIONS.model_copy(update={"start": 100.0})


class QueueProgress:
    """The progress that the queue knows. `commands` are those that it has got, and fail while `is_away`."""

    def __init__(self) -> None:
        self.current = self.total = self.commands = 0
        self.is_away = False

    async def set_total(self, total: int) -> None:
        self._answer()
        self.total = total

    async def increment(self, amount: int) -> None:
        self._answer()
        self.current += amount

    def _answer(self) -> None:
        self.commands += 1
        if self.is_away:
            raise NoConnection("nobody listens")


def reporter_of(queue: QueueProgress, published: list[int] | None = None) -> ProgressReporter:
    execution: Any = SimpleNamespace(progress=queue)
    return ProgressReporter(execution, lambda: published.append(queue.current) if published is not None else None)


async def report(reporter: ProgressReporter, frames: Iterable[int], *, expected: int = 100) -> None:
    """Reports from a thread, as the pipeline does."""

    def in_thread() -> None:
        for count in frames:
            reporter.report(Progress(count, expected))

    await asyncio.to_thread(in_thread)


async def test_the_first_report_is_published_and_those_soon_after_it_are_not() -> None:
    queue, published = QueueProgress(), list[int]()
    reporter = reporter_of(queue, published)
    await report(reporter, range(0, 50, 4))
    assert (queue.current, queue.total) == (0, 100)
    assert published == [0]


async def test_a_report_is_published_when_the_last_one_is_half_a_second_old() -> None:
    queue = QueueProgress()
    reporter = reporter_of(queue)
    await report(reporter, [0, 4])
    await asyncio.sleep(0.6)
    await report(reporter, [8, 12])
    assert queue.current == 8


async def test_a_report_that_changes_what_is_expected_is_published_at_once() -> None:
    queue = QueueProgress()
    reporter = reporter_of(queue)
    await report(reporter, [0, 4])
    await report(reporter, [8], expected=200)
    assert (queue.current, queue.total) == (8, 200)


async def test_publishing_at_the_end_makes_up_for_reports_that_were_left_out() -> None:
    queue, published = QueueProgress(), list[int]()
    reporter = reporter_of(queue, published)
    await report(reporter, [0, 4, 8])
    await reporter.publish()
    assert queue.current == 8
    commands = queue.commands
    await reporter.publish()
    assert queue.commands == commands, "nothing has changed"
    assert published == [0, 8, 8]


async def test_a_queue_that_does_not_answer_learns_the_progress_later() -> None:
    queue, published = QueueProgress(), list[int]()
    queue.is_away = True
    reporter = reporter_of(queue, published)
    await report(reporter, [4])
    assert published == []
    queue.is_away = False
    await report(reporter, [8])
    await reporter.publish()
    assert (queue.current, queue.total) == (8, 100)


async def test_every_report_counts_as_movement() -> None:
    reporter = reporter_of(QueueProgress())
    await report(reporter, [0])
    before = reporter.moved_at
    await asyncio.sleep(0.01)
    await report(reporter, [4])
    assert reporter.moved_at > before


@pytest.fixture(params=["memory", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str:
    url: str = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    return url


async def test_a_job_that_fails_without_progress_wakes_those_who_wait(
    queue_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        video_id = await running.submit(clip, options=AFTER_THE_END)
        assert await running.jobs.wait(video_id, ME, 100)
        assert (await running.jobs.state(video_id, ME)).status == "failed"


@pytest.mark.usefixtures("slow_engine")
async def test_a_job_that_is_deleted_wakes_all_who_follow_it(
    queue_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        video_id = await running.submit(long_clip)
        waits = [asyncio.create_task(running.jobs.wait(video_id, ME, 100)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await running.jobs.delete(video_id, ME)
        assert await asyncio.gather(*waits) == [True] * 3


@pytest.mark.usefixtures("slow_engine")
async def test_a_process_that_stops_waits_only_for_jobs_that_would_be_lost(
    queue_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        video_id = await running.submit(long_clip)
        waits = asyncio.create_task(running.jobs.wait(video_id, ME, 100))
        await asyncio.sleep(0.2)
        running.life.stop()
        if queue_url == "memory://":
            await running.jobs.delete(video_id, ME)
        assert await asyncio.wait_for(waits, 30) == (queue_url == "memory://")
