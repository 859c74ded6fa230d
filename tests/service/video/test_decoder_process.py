"""The decoder process is limited and watched, and ends when nobody needs it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.video import DecodeLimits, Sampling, VideoReader, processes, reader
from service.video.errors import DecoderUnavailable, DecodeTimeout, VideoUnreadable

# Large frames and small chunks fill the pipe long before the video ends, so that the child waits for the test.
SAMPLING = Sampling(fps=30.0, max_frames=1000, height=480, width=640)
LIMITS = DecodeLimits(seconds=200.0, chunk_frames=2)


@pytest.fixture
def video(clips: Any) -> Path:
    path: Path = clips.make("constant.mp4")
    return path


def child() -> psutil.Process:
    """Returns the decoder process of the only open reader."""
    (only,) = decoders()
    return only


def decoders() -> list[psutil.Process]:
    return [process for server in psutil.Process().children() for process in server.children()]


@pytest.fixture
def child_running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes decoder processes run another program."""
    fork_server = processes.ForkServer()

    def run(program: str) -> None:
        source = f"from service.video import child\ndef decode_video(isolation):\n{textwrap.indent(program, ' ')}\n"
        command = (sys.executable, "-c", f"{source}child.decode_video = decode_video\nchild.serve_forks()")
        monkeypatch.setattr(processes, "_COMMAND", command)
        monkeypatch.setattr(reader, "FORK_SERVER", fork_server)

    yield run
    fork_server.close()


def test_leaving_the_reader_half_way_ends_the_process(video: Path) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        next(frames)
        decoder = child()
    assert not decoder.is_running()


def test_an_exception_in_the_consumer_ends_the_process(video: Path) -> None:
    def consume() -> None:
        with VideoReader(video, SAMPLING, LIMITS) as frames:
            for _ in frames:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()


def test_a_reader_that_is_entered_twice_is_refused(video: Path) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames, pytest.raises(ValueError, match="reads once"):
        frames.__enter__()


def test_the_process_ends_with_the_last_frame(video: Path) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        assert sum(len(chunk.frames) for chunk in frames) == 90
        assert decoders() == []
        assert list(frames) == []


def test_a_reader_can_be_closed_twice_and_not_read_after(video: Path) -> None:
    frames = VideoReader(video, SAMPLING, LIMITS)
    frames.close()
    with frames:
        frames.close()
        frames.close()
        with pytest.raises(ValueError, match="closed"):
            next(frames)


def test_a_slow_consumer_uses_up_no_time(video: Path) -> None:
    """The child stops when the pipe is full, and the wall clock stops with it."""
    with VideoReader(video, SAMPLING, DecodeLimits(seconds=4.0, chunk_frames=2)) as frames:
        next(frames)
        time.sleep(1.0)
        used = child().cpu_times().user
        time.sleep(3.5)
        assert child().cpu_times().user == pytest.approx(used, abs=0.05)
        assert sum(1 for _ in frames) == 44


@pytest.mark.parametrize("crash", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_raises_at_once(video: Path, crash: signal.Signals) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        next(frames)
        child().send_signal(crash)
        begin = time.monotonic()
        with pytest.raises(VideoUnreadable, match=crash.name):
            list(frames)
        assert time.monotonic() - begin < 10


def test_a_hang_ends_at_the_limit_of_seconds(video: Path) -> None:
    def read() -> None:
        with VideoReader(video, SAMPLING, DecodeLimits(seconds=2.0, chunk_frames=2)) as frames:
            next(frames)
            child().suspend()
            list(frames)

    with pytest.raises(DecodeTimeout, match="more than 2 s"):
        read()


def test_closing_from_another_thread_wakes_the_reader(video: Path) -> None:
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        next(frames)
        child().suspend()
        timer = threading.Timer(0.3, frames.close)
        timer.start()
        begin = time.monotonic()
        with pytest.raises((VideoUnreadable, ValueError)):
            list(frames)
        assert time.monotonic() - begin < 10
        timer.join()


def test_a_reader_outlives_the_thread_that_opened_it(video: Path) -> None:
    opened: list[VideoReader] = []
    thread = threading.Thread(target=lambda: opened.append(VideoReader(video, SAMPLING, LIMITS).__enter__()))
    thread.start()
    thread.join()
    with contextlib.closing(opened[0]) as frames:
        assert sum(len(chunk.frames) for chunk in frames) == 90


def test_the_process_dies_with_its_parent(video: Path) -> None:
    program = (
        "import psutil, sys, time\n"
        "from pathlib import Path\n"
        "from service.video import *\n"
        "frames = VideoReader(Path(sys.argv[1]), Sampling(fps=30.0, max_frames=1000, height=480, width=640))\n"
        "frames.__enter__()\n"
        "child, = psutil.Process().children()[0].children()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(video)],
        stdout=subprocess.PIPE,
        cwd=Path(reader.__file__).parents[2],
    )
    assert parent.stdout is not None
    with parent, parent.stdout as output:
        decoder = psutil.Process(int(output.readline()))
        parent.kill()
    # Nobody may be there to reap it.
    psutil.wait_procs([decoder], timeout=5)
    assert not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE


def test_the_process_sees_no_secrets_and_loads_no_service(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    with VideoReader(video, SAMPLING, LIMITS) as frames:
        next(frames)
        decoder = child()
        assert "AWS_SECRET_ACCESS_KEY" not in decoder.environ()
        mapped = {region.path for region in decoder.memory_maps()}
        assert not [path for path in mapped if path.startswith("/dev/shm")]
        loaded = {Path(path).name for path in mapped}
        assert not [name for name in loaded if "onnxruntime" in name or "torch" in name or "pydantic" in name]
        assert decoder.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert decoder.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert decoder.rlimit(psutil.RLIMIT_AS)[0] == LIMITS.memory_bytes


def test_a_fork_server_that_does_not_start_is_not_blamed_on_the_video(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    monkeypatch.setattr(reader, "FORK_SERVER", processes.ForkServer())
    with pytest.raises(DecoderUnavailable, match="exit code 3"), VideoReader(video, SAMPLING, LIMITS):
        pass


def test_a_decoder_that_ends_before_it_begins_is_not_blamed_on_the_video(
    video: Path, child_running: Callable[[str], None]
) -> None:
    child_running("raise MemoryError")
    with pytest.raises(DecoderUnavailable, match="exit code 1"), VideoReader(video, SAMPLING, LIMITS):
        pass


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        b"\x05\x00\x00\x00hello",
        b'\x10\x00\x00\x00{"kind": "info"}',
        b"\x02\x00\x00\x00[]",
        b'\x36\x00\x00\x00{"kind": "error", "error": "SystemExit", "detail": ""} ',
    ],
)
def test_messages_that_make_no_sense_are_refused(
    video: Path, child_running: Callable[[str], None], said: bytes
) -> None:
    child_running(f"import os; os.read(0, 4096); os.write(1, {said!r}); os.read(0, 1)")
    with pytest.raises(VideoUnreadable), VideoReader(video, SAMPLING, LIMITS):
        pass


def test_more_frames_than_asked_for_are_refused(video: Path, child_running: Callable[[str], None]) -> None:
    child_running(
        "import os; os.read(0, 4096)\n"
        "from service.video.wire import encode_message as encode\n"
        "info = encode('info', expected=1, width=1, height=1, duration=None, frame_rate=None, codec='x', start=0)\n"
        "os.write(1, encode('ready') + info + encode('chunk', frames=10**9))\n"
        "os.read(0, 1)\n"
    )
    with VideoReader(video, SAMPLING, LIMITS) as frames, pytest.raises(VideoUnreadable, match="more frames"):
        next(frames)


def test_a_defect_is_logged_with_its_trace_and_shown_without(
    video: Path, child_running: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    child_running(
        "from service.video.wire import encode_message as encode\n"
        "import os, traceback\n"
        "os.read(0, 4096)\n"
        "os.write(1, encode('ready'))\n"
        "try:\n"
        "    raise RuntimeError('a defect')\n"
        "except RuntimeError:\n"
        "    os.write(1, encode('defect', trace=traceback.format_exc()))\n"
    )
    with caplog.at_level(logging.ERROR), pytest.raises(VideoUnreadable) as caught, VideoReader(video, SAMPLING, LIMITS):
        pass
    assert "RuntimeError: a defect" in caplog.text
    assert "defect" not in caught.value.detail


def test_a_decoder_starts_fast_without_the_service(video: Path) -> None:
    """Measures processor time, because other work may have the processor."""
    with VideoReader(video, SAMPLING, LIMITS):
        times = child().cpu_times()
        assert times.user + times.system < 0.3
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, service.video.child as c; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(reader.__file__).parents[2],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    ).stdout.split()
    assert not {"pydantic", "fastapi", "onnxruntime", "torch", "asyncio"} & set(modules)
