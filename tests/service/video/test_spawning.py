"""The spawner: one clean process that decoder processes are forked from."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.video import DecodeLimits, Sampling, VideoReader, reader, spawning
from tests.support.waiting import until

# Frames large and chunks small enough that the pipe is full long before the video ends: the child waits for us.
SAMPLING = Sampling(fps=30.0, max_frames=1000, height=480, width=640)
LIMITS = DecodeLimits(seconds=200.0, chunk_frames=2)


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> Iterator[spawning.Spawner]:
    """One that the test may harm."""
    own = spawning.Spawner()
    monkeypatch.setattr(reader, "SPAWNER", own)
    yield own
    own.close()


@pytest.fixture
def video(clips: Any) -> Path:
    path: Path = clips.make("constant.mp4")
    return path


def process_of(spawner: spawning.Spawner) -> psutil.Process:
    spawner.prepare()
    assert spawner._process is not None
    return psutil.Process(spawner._process.pid)


def test_decoders_run_side_by_side_and_see_only_their_own_files(video: Path, spawner: spawning.Spawner) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as one, VideoReader(video, SAMPLING, LIMITS) as other:
        next(one), next(other)
        decoders = process_of(spawner).children()
        assert len(decoders) == 2
        for decoder in decoders:
            links = [os.readlink(link) for link in Path(f"/proc/{decoder.pid}/fd").iterdir()]
            assert [link for link in links if link.startswith("/") and not link.startswith("/dev/")].count(str(video))
            # Standard input and the copy of standard output, of this decoder; the other's are pipes too.
            assert sum(link.startswith("pipe:") for link in links) == 2
            assert not [link for link in links if link.startswith("socket:") or "pidfd" in link]
            assert os.getsid(decoder.pid) == decoder.pid
        assert sum(len(chunk.frames) for chunk in one) == sum(len(chunk.frames) for chunk in other) == 88


def test_it_stays_as_it_was_from_video_to_video(video: Path, spawner: spawning.Spawner) -> None:
    """One thread, without which a fork is safe, and no file descriptors left of earlier videos."""
    for _ in range(4):
        with VideoReader(video, SAMPLING, LIMITS) as frames:
            next(frames)
    process = process_of(spawner)
    # It learns a moment later that a decoder has ended. What stays is its own input, output and log.
    until(lambda: (process.num_threads(), process.num_fds(), process.children()) == (1, 3, []))
    assert not [region.path for region in process.memory_maps() if region.path == str(video)]


def test_a_spawner_that_died_is_replaced_and_its_decoders_go_on(video: Path, spawner: spawning.Spawner) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        next(frames)
        first = process_of(spawner)
        first.send_signal(signal.SIGKILL)
        with VideoReader(video, SAMPLING, LIMITS) as others:
            assert process_of(spawner) != first
            assert sum(len(chunk.frames) for chunk in others) == 90
        assert sum(len(chunk.frames) for chunk in frames) == 88


def test_many_threads_start_decoders_at_once(video: Path, spawner: spawning.Spawner) -> None:
    counts = []

    def read() -> None:
        with VideoReader(video, Sampling(fps=2.0, max_frames=1000, height=48, width=64), LIMITS) as frames:
            counts.append(sum(len(chunk.frames) for chunk in frames))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [6] * 8


def test_it_ends_with_its_parent(spawner: spawning.Spawner) -> None:
    process = process_of(spawner)
    spawner.close()
    assert not process.is_running()
