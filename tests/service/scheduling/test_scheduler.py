"""Batches of many videos, with stages whose behaviour the tests decide; real runtimes are tested elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import structlog

from models.engines import Tensors
from models.errors import EngineError
from models.graph.bundle import FrameSize, Manifest, Span, Stage, Tensor, Thresholds, Training
from service.errors import ClipFailed, EngineDied, JobCancelled
from service.scheduling import Batch, Scheduler, VideoRun
from service.video import FrameChunk
from tests.support.waiting import until

POISON, FATAL = 213, 166
"""The brightness of a frame that makes a stage fail, and of one that ends its thread."""


class Brightness:
    """A stage engine whose output is the brightness of each frame times `factor`. It records its batches."""

    name = "test"

    def __init__(self, takes: str = "frames", gives: str = "attention", factor: float = 1.0) -> None:
        self.takes, self.gives, self.factor = takes, gives, factor
        self.batches: list[tuple[int, ...]] = []
        self.order: list[int] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.seconds = 0.0

    def run(self, tensors: Tensors) -> Tensors:
        self.batches.append(tensors[self.takes].shape[:2])
        assert self.may_run.wait(30)
        time.sleep(self.seconds)
        values = tensors[self.takes].astype(np.float32)
        values = values.reshape(*values.shape[:2], -1).max(axis=2)
        if FATAL in values:
            raise SystemExit("the driver is gone")
        if POISON in values:
            raise FloatingPointError("cannot run this")
        self.order += values[:, 0].astype(int).tolist()
        return {self.gives: values[..., None] * np.float32(self.factor)}


def tensor(name: str) -> Tensor:
    if name == "frames":
        return Tensor(name=name, dtype="uint8", shape=("batch", "time", 2, 2, 3))
    return Tensor(name=name, dtype="float32", shape=("batch", "time", 1))


def manifest(*stages: tuple[str, str, Span]) -> Manifest:
    """`stages`: what each takes, gives, and its span."""
    return Manifest(
        name="test",
        version="1",
        family="one_stage",
        description="",
        frame_size=FrameSize(height=2, width=2),
        clip_length=4,
        stages=[
            Stage(name=f"{takes}-{gives}", file="x", inputs=[tensor(takes)], outputs=[tensor(gives)], span=span)
            for takes, gives, span in stages
        ],
        thresholds=Thresholds(),
        training=Training(data="", command=""),
        sha256={"x": ""},
    )


@pytest.fixture
def make_scheduler() -> Iterator[Callable[..., Scheduler]]:
    with ExitStack() as stack:

        def make(
            *stages: Brightness, spans: tuple[Span, ...] = ("clip",), streams: int = 1, **settings: Any
        ) -> Scheduler:
            described = manifest(*((each.takes, each.gives, span) for each, span in zip(stages, spans, strict=True)))
            arguments: dict[str, Any] = {"max_batch": 16, "job_share": 1, "max_wait": 0.0} | settings
            scheduler = Scheduler(described, [list(stages)] * streams, **arguments)
            stack.callback(scheduler.close)
            stack.callback(lambda: [each.may_run.set() for each in stages])
            return scheduler

        yield make


def clip(*levels: int) -> FrameChunk:
    frames = np.array(levels, np.uint8).reshape(-1, 1, 1, 1).repeat(2, 1).repeat(2, 2).repeat(3, 3)
    return FrameChunk(np.arange(len(levels), dtype=np.float64), frames)


def levels_of(outputs: Tensors) -> list[float]:
    return outputs["attention"][:, 0].tolist()


def run_all(run: VideoRun, clips: list[FrameChunk]) -> list[list[float]]:
    return [levels_of(outputs) for _, outputs in run.outputs(clips)]


class Thread(threading.Thread):
    """Runs a video in a thread of its own and keeps the outputs."""

    def __init__(self, scheduler: Scheduler, clips: list[FrameChunk], expected: int | None = None) -> None:
        super().__init__(daemon=True)
        self.scheduler, self.clips = scheduler, clips
        self.expected = sum(len(each.timestamps) for each in clips) if expected is None else expected
        self.found: list[list[float]] = []
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with VideoRun(self.scheduler, self.expected) as run:
                for _, outputs in run.outputs(self.clips):
                    self.found.append(levels_of(outputs))
        except Exception as error:
            self.error = error

    def ended(self) -> Thread:
        self.join(30)
        assert not self.is_alive()
        return self


def test_clips_of_one_video_come_back_in_order(make_scheduler: Callable[..., Scheduler]) -> None:
    scheduler = make_scheduler(Brightness(), streams=3)
    with VideoRun(scheduler, 40) as run:
        found = run_all(run, [clip(index, index + 100) for index in range(20)])
    assert found == [[index, index + 100] for index in range(20)]


def test_clips_of_many_videos_share_a_batch_and_get_their_own_outputs(make_scheduler: Callable[..., Scheduler]) -> None:
    stage = Brightness()
    batches: list[Batch] = []
    scheduler = make_scheduler(stage, on_batch=lambda model, batch: batches.append(batch))
    stage.may_run.clear()
    jobs = [Thread(scheduler, [clip(10 * number + index) for index in range(3)]) for number in range(1, 7)]
    until(lambda: sum(len(waiting.under_way) for waiting in scheduler._turns) == 18)
    stage.may_run.set()
    assert [job.ended().found for job in jobs] == [[[10 * n], [10 * n + 1], [10 * n + 2]] for n in range(1, 7)]
    assert (6, 1) in stage.batches
    assert 6 in {batch.size for batch in batches}
    assert sum(batch.frames for batch in batches) == 18
    assert {batch.stage for batch in batches} == {"frames-attention"}


def test_a_batch_respects_the_limit_and_holds_clips_of_one_length(make_scheduler: Callable[..., Scheduler]) -> None:
    stage = Brightness()
    scheduler = make_scheduler(stage, max_batch=3)
    jobs = [Thread(scheduler, [clip(*range(1, 5)), clip(*range(number % 3 + 1))]) for number in range(8)]
    for job in jobs:
        job.ended()
    assert max(size for size, _ in stage.batches) <= 3
    assert sum(size * time for size, time in stage.batches) == sum(4 + number % 3 + 1 for number in range(8))


def test_frames_of_many_clips_share_a_batch_at_a_stage_of_single_frames(
    make_scheduler: Callable[..., Scheduler],
) -> None:
    detector, relations = Brightness(gives="boxes"), Brightness(takes="boxes", factor=2)
    scheduler = make_scheduler(detector, relations, spans=("frame", "clip"), max_batch=1, streams=2)
    detector.may_run.clear()
    for count, level in enumerate((10, 11), 1):  # keeps both streams busy until all clips wait
        Thread(scheduler, [clip(level)])
        until(lambda count=count: len(detector.batches) == count)
    jobs = [Thread(scheduler, [clip(*range(first, first + 9)), clip(first)]) for first in (20, 30, 40)]
    until(lambda: sum(len(waiting.under_way) for waiting in scheduler._turns) == 8)
    detector.may_run.set()
    for first, job in zip((20, 30, 40), jobs, strict=True):
        assert job.ended().found == [[2 * level for level in range(first, first + 9)], [2 * first]]
    assert {length for _, length in detector.batches} == {1}
    assert max(size for size, _ in detector.batches) == 16, "clips are cut where that fills a batch"
    assert {length for _, length in relations.batches} == {9, 1}


def test_a_stage_of_the_whole_video_sees_all_clips_at_once(make_scheduler: Callable[..., Scheduler]) -> None:
    stages = Brightness(gives="boxes"), Brightness(takes="boxes", factor=0.5)
    scheduler = make_scheduler(*stages, spans=("clip", "video"))
    with VideoRun(scheduler, 5) as run:
        done = list(run.outputs([clip(2, 4), clip(6, 8), clip(10)]))
        assert [each.keys() for _, each in done] == [{"boxes"}] * 3
        [(times, outputs)] = run.finish(done)
        assert times.tolist() == [0, 1, 0, 1, 0]
        assert levels_of(outputs) == [1, 2, 3, 4, 5]
    assert stages[1].batches == [(1, 5)]


def test_the_decoder_is_held_back_while_the_model_is_busy(make_scheduler: Callable[..., Scheduler]) -> None:
    stage = Brightness()
    scheduler = make_scheduler(stage)
    stage.may_run.clear()
    taken = []

    def decoded() -> Iterator[FrameChunk]:
        for number in range(100):
            taken.append(number)
            yield clip(number)

    thread = Thread(scheduler, decoded(), expected=100)  # type: ignore[arg-type]
    until(lambda: len(stage.batches) == 1)
    time.sleep(0.1)
    assert len(taken) == scheduler.depth
    stage.may_run.set()
    assert len(thread.ended().found) == 100


def test_a_short_video_is_served_before_long_ones_and_the_long_ones_go_on(
    make_scheduler: Callable[..., Scheduler],
) -> None:
    stage = Brightness()
    stage.seconds = 0.002
    scheduler = make_scheduler(stage, max_batch=1)
    long = [Thread(scheduler, [clip(number)] * 60, expected=1200) for number in range(1, 11)]
    until(lambda: len(stage.batches) > 40)
    before = len(stage.order)
    short = Thread(scheduler, [clip(99)] * 10, expected=10).ended()
    meanwhile = stage.order[before : len(stage.order) - stage.order[::-1].index(99)]
    assert short.found == [[99]] * 10
    assert 10 <= len(meanwhile) < 30, "with equal turns it would be 110"
    for job in long:
        job.ended()
    # None of the long ones was left behind: of any stretch each has about its share.
    assert set(stage.order[:30]) == set(range(1, 11))


def test_a_batch_waits_for_clips_of_other_videos(make_scheduler: Callable[..., Scheduler]) -> None:
    stage = Brightness()
    scheduler = make_scheduler(stage, max_batch=2, max_wait=30.0)
    with VideoRun(scheduler, 1) as late:
        first = Thread(scheduler, [clip(1)])
        until(lambda: sum(len(turn.under_way) for turn in scheduler._turns) == 1)
        time.sleep(0.05)
        assert stage.batches == []
        assert run_all(late, [clip(2)]) == [[2]]
        assert first.ended().found == [[1]]
    assert stage.batches == [(2, 1)]


def test_a_single_video_does_not_wait_for_others(make_scheduler: Callable[..., Scheduler]) -> None:
    scheduler = make_scheduler(Brightness(), max_wait=60.0)
    with VideoRun(scheduler, 2) as run:
        assert run_all(run, [clip(1), clip(2)]) == [[1], [2]]


def test_one_bad_clip_does_not_spoil_the_others_of_its_batch(
    make_scheduler: Callable[..., Scheduler], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Brightness()
    scheduler = make_scheduler(stage)
    stage.may_run.clear()
    jobs = [Thread(scheduler, [clip(level), clip(level)]) for level in (1, POISON, 3)]
    until(lambda: sum(len(waiting.under_way) for waiting in scheduler._turns) == 6)
    with caplog.at_level(logging.WARNING):
        stage.may_run.set()
        good, bad, other = (job.ended() for job in jobs)
    assert good.found == [[1], [1]]
    assert other.found == [[3], [3]]
    assert isinstance(bad.error, ClipFailed)
    assert "cannot run this" in caplog.text
    assert "cannot run" not in bad.error.detail
    assert scheduler.is_alive


def test_log_lines_about_a_video_carry_its_id(make_scheduler: Callable[..., Scheduler]) -> None:
    ids: dict[str, object] = {}

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ids[record.threadName or ""] = structlog.contextvars.get_contextvars().get("id")

    scheduler = make_scheduler(Brightness())
    logger, listener = logging.getLogger("service.scheduling.scheduler"), Listener()
    logger.addHandler(listener)
    try:
        with (
            structlog.contextvars.bound_contextvars(id="mine"),
            VideoRun(scheduler, 1) as run,
            pytest.raises(ClipFailed),
        ):
            run_all(run, [clip(POISON)])
    finally:
        logger.removeHandler(listener)
    assert set(ids.values()) == {"mine"}
    assert threading.current_thread().name not in ids


def test_a_cancelled_run_leaves_queue_and_batch(make_scheduler: Callable[..., Scheduler]) -> None:
    stage = Brightness()
    scheduler = make_scheduler(stage)
    stage.may_run.clear()
    cancelled = Thread(scheduler, [clip(1), clip(2)])
    until(lambda: len(stage.batches) == 1)
    (turn,) = scheduler._turns
    other = Thread(scheduler, [clip(5), clip(6)])
    until(lambda: sum(len(each.under_way) for each in scheduler._turns) == 4)
    scheduler.leave(turn)
    assert isinstance(cancelled.ended().error, JobCancelled)
    stage.may_run.set()
    assert other.ended().found == [[5], [6]]
    assert 1 in stage.order, "it was in the batch that ran"
    assert 2 not in stage.order, "it was waiting"
    assert cancelled.found == []


def test_a_thread_that_dies_ends_all_runs_and_reports_the_death_once(
    make_scheduler: Callable[..., Scheduler], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Brightness()
    deaths: list[str] = []
    scheduler = make_scheduler(stage, max_batch=1, streams=2, on_death=lambda: deaths.append("died"))
    stage.seconds = 0.01
    jobs = [Thread(scheduler, [clip(level)] * 50) for level in (1, FATAL, 3)]
    with caplog.at_level(logging.CRITICAL):
        assert all(isinstance(job.ended().error, EngineDied) for job in jobs)
    assert not scheduler.is_alive
    assert deaths == ["died"]
    assert "the driver is gone" in caplog.text
    with pytest.raises(EngineDied):
        scheduler.open(1)


def test_a_model_that_fails_on_every_clip_is_given_up(make_scheduler: Callable[..., Scheduler]) -> None:
    scheduler = make_scheduler(Brightness())
    errors = [Thread(scheduler, [clip(POISON)]).ended().error for _ in range(8)]
    assert all(isinstance(error, ClipFailed) for error in errors)
    until(lambda: not scheduler.is_alive)


def test_bad_videos_between_good_ones_do_not_end_the_model(make_scheduler: Callable[..., Scheduler]) -> None:
    scheduler = make_scheduler(Brightness())
    for _ in range(6):
        for _ in range(2):
            assert isinstance(Thread(scheduler, [clip(POISON)]).ended().error, ClipFailed)
        assert Thread(scheduler, [clip(7)]).ended().found == [[7]]
    assert scheduler.is_alive


def test_idle_seconds_count_from_the_last_batch_while_clips_are_under_way(
    make_scheduler: Callable[..., Scheduler],
) -> None:
    stage = Brightness()
    scheduler = make_scheduler(stage)
    assert scheduler.idle_seconds() == 0
    stage.may_run.clear()
    job = Thread(scheduler, [clip(1)])
    until(lambda: len(stage.batches) == 1)
    time.sleep(0.05)
    assert scheduler.idle_seconds() >= 0.05
    stage.may_run.set()
    job.ended()
    assert scheduler.idle_seconds() == 0


def test_a_stage_that_needs_an_unknown_tensor_is_named() -> None:
    with pytest.raises(EngineError, match="needs 'boxes', which no stage before it makes"):
        Scheduler(manifest(("boxes", "attention", "clip")), [[Brightness()]], max_batch=1, job_share=1, max_wait=0)
