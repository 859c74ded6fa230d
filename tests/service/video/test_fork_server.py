"""The fork server: one clean process that forks the decoders."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.video import DecodeLimits, Sampling, VideoReader, reader
from service.video.processes import ForkServer
from tests.support.waiting import until

# Large frames and small chunks fill the pipe long before the video ends, so that the child waits for the test.
SAMPLING = Sampling(fps=30.0, max_frames=1000, height=480, width=640)
LIMITS = DecodeLimits(seconds=200.0, chunk_frames=2)


@pytest.fixture
def fork_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    """A fork server that the test may harm."""
    own = ForkServer()
    monkeypatch.setattr(reader, "FORK_SERVER", own)
    yield own
    own.close()


@pytest.fixture
def video(clips: Any) -> Path:
    path: Path = clips.make("constant.mp4")
    return path


def process_of(fork_server: ForkServer) -> psutil.Process:
    fork_server.prepare()
    assert fork_server._process is not None
    return psutil.Process(fork_server._process.pid)


def test_decoders_run_side_by_side_and_see_only_their_own_files(video: Path, fork_server: ForkServer) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as one, VideoReader(video, SAMPLING, LIMITS) as other:
        next(one), next(other)
        decoders = process_of(fork_server).children()
        assert len(decoders) == 2
        for decoder in decoders:
            links = [os.readlink(link) for link in Path(f"/proc/{decoder.pid}/fd").iterdir()]
            assert [link for link in links if link.startswith("/") and not link.startswith("/dev/")].count(str(video))
            # Standard input and the copy of standard output, of this decoder; the other's are pipes too.
            assert sum(link.startswith("pipe:") for link in links) == 2
            assert not [link for link in links if link.startswith("socket:") or "pidfd" in link]
            assert os.getsid(decoder.pid) == decoder.pid
        assert sum(len(chunk.frames) for chunk in one) == sum(len(chunk.frames) for chunk in other) == 88


def test_the_fork_server_keeps_one_thread_and_no_files_from_video_to_video(
    video: Path, fork_server: ForkServer
) -> None:
    """A fork is safe only with one thread."""
    for _ in range(4):
        with VideoReader(video, SAMPLING, LIMITS) as frames:
            next(frames)
    process = process_of(fork_server)
    # It learns a moment later that a decoder has ended. Its own input, output, log and /dev/null stay open.
    until(lambda: (process.num_threads(), process.num_fds(), process.children()) == (1, 4, []))
    assert not [region.path for region in process.memory_maps() if region.path == str(video)]


def test_a_dead_fork_server_is_replaced_and_its_decoders_go_on(video: Path, fork_server: ForkServer) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        next(frames)
        first = process_of(fork_server)
        first.send_signal(signal.SIGKILL)
        with VideoReader(video, SAMPLING, LIMITS) as others:
            assert process_of(fork_server) != first
            assert sum(len(chunk.frames) for chunk in others) == 90
        assert sum(len(chunk.frames) for chunk in frames) == 88


def test_many_threads_can_start_decoders_at_once(video: Path, fork_server: ForkServer) -> None:
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


def test_closing_ends_the_fork_server(fork_server: ForkServer) -> None:
    process = process_of(fork_server)
    fork_server.close()
    assert not process.is_running()
