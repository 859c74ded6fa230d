"""Child processes of the reader: `python -m service.video.child` is the fork server, and forks one decoder per video.

What a decoder imports takes longer than to decode a short video, so the fork server imports it once. The fork server
has one thread, touches no video, and passes nothing from one decoder to another.

Its standard input is a socket. Every byte that arrives brings four file descriptors: the video, the decoder's standard
input and output, and a pipe that gets the exit status, four bytes, when the decoder has ended. The answer is one byte
with the decoder's pidfd.

Before its first decoder the fork server writes one line of JSON to that socket: the layers of isolation that this
machine lacks, each with the reason.

A decoder reads a Request from its standard input, writes messages to its standard output (see `wire`), and ends. It
limits and isolates itself before it touches the video, and the kernel ends it when its parent is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import traceback
from dataclasses import asdict

import numpy as np

from service.errors import ServiceError
from service.video.isolation import Isolation
from service.video.wire import EXIT_STATUS, VIDEO_FILE, DecodeLimits, Request, encode_message

_NICENESS = 5  # engine and service come before the decoders, which only have to stay a few frames ahead
_OPEN_FILES = 64
_NULL_FILE = 4  # /dev/null, which cannot be opened in isolation


def serve_forks() -> None:
    """Forks decoder processes until the other end of the socket is closed."""
    _load_libraries()
    gc.collect()
    gc.freeze()  # the collector writes to the pages that it visits; frozen ones stay shared
    null = os.open(os.devnull, os.O_WRONLY)
    if null != _NULL_FILE:
        os.dup2(null, _NULL_FILE)
        os.close(null)
    isolation = Isolation()
    control = socket.socket(fileno=0)
    try:
        control.sendall(json.dumps(isolation.gaps).encode() + b"\n")
    except BrokenPipeError:
        return  # whoever started this has ended already
    running: dict[int, tuple[int, int]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                poll.unregister(ready)
                _report_exit(ready, *running.pop(ready))
                continue
            _, files, _, _ = socket.recv_fds(control, 1, 4)
            if not files:
                return
            status = files.pop()
            process = _fork_decoder(isolation, *files)
            pidfd = os.pidfd_open(process)
            running[pidfd] = (process, status)
            poll.register(pidfd, select.POLLIN)
            socket.send_fds(control, [b"\0"], [pidfd])


def decode_video(isolation: Isolation) -> None:
    """Decodes the one video of the request. Runs in a decoder process."""
    with open(0, "rb", closefd=False) as requests:
        request = Request.from_json(requests.readline().decode())
    _die_with_parent()
    _limit(request.limits)
    # Libraries print where they like; what they print must not end up between the messages.
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(_NULL_FILE, 1)
    os.dup2(_NULL_FILE, 2)
    os.close(_NULL_FILE)
    try:
        isolation.confine()
        _write_frames(request, output.fileno())
    except MemoryError:
        allowed = f"{request.limits.memory_bytes / 2**20:.0f} MiB"
        detail = f"decoding needs more than {allowed} of memory: scale the video down"
        _write(output.fileno(), encode_message("error", error="DecodeMemory", detail=detail))
    except ServiceError as error:
        _write(output.fileno(), encode_message("error", error=type(error).__name__, detail=error.detail))
    except Exception:
        # A defect of this code, or of a library with a strange video. The parent writes it to the log.
        _write(output.fileno(), encode_message("defect", trace=traceback.format_exc(limit=-20)))


def _load_libraries() -> None:
    # On import decord maps every CUDA library that is installed, half a gigabyte, unless there is no such package.
    sys.modules["nvidia"] = None  # type: ignore[assignment]
    import av
    import numpy.ma  # noqa: F401 - like the parts of PyAV

    import service.video.sampled_frames  # noqa: F401

    # NumPy and PyAV import some of their parts when a video needs them, and then their files are out of reach.
    for part in pkgutil.walk_packages(av.__path__, "av."):
        if part.name.partition(".")[2] not in ("__main__", "datasets"):
            importlib.import_module(part.name)


def _fork_decoder(isolation: Isolation, video: int, requests: int, messages: int) -> int:
    process = os.fork()
    if process == 0:
        _become_decoder(isolation, video, requests, messages)
    for file in (video, requests, messages):
        os.close(file)
    return process


def _become_decoder(isolation: Isolation, video: int, requests: int, messages: int) -> None:
    """Makes this process a decoder. Does not return."""
    os.nice(_NICENESS)
    try:
        os.setsid()
        # Where the kernel shares time between sessions first, niceness counts only within one.
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as autogroup:
            autogroup.write(str(_NICENESS))
        os.dup2(requests, 0)
        os.dup2(messages, 1)
        os.dup2(video, VIDEO_FILE)
        os.closerange(_NULL_FILE + 1, 2**31 - 1)
        decode_video(isolation)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _report_exit(pidfd: int, process: int, status: int) -> None:
    _, code = os.waitpid(process, 0)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, EXIT_STATUS.pack(code))
    os.close(status)
    os.close(pidfd)


def _die_with_parent() -> None:
    """Has the kernel end this process when the other end of its standard input closes, even while native code hangs.

    PR_SET_PDEATHSIG would act on the end of the thread that started the process, not on the end of the parent.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO, which ends a process
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if poll.poll(0):
        os._exit(1)  # the other end closed before the kernel watched it


def _limit(limits: DecodeLimits) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_AS, limits.memory_bytes)
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    # The interpreter, or the process that started the parent, may ignore these two signals.
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.signal(signal.SIGIO, signal.SIG_DFL)


def _lower(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    # The hard limit of processor time must lie above the soft one, or the process is killed without a reason.
    resource.setrlimit(which, (value, value + 1 if which == resource.RLIMIT_CPU and value != hard else value))


def _write_frames(request: Request, output: int) -> None:
    from service.video.decoding import times_of_frames
    from service.video.media import examine
    from service.video.sampled_frames import SampledFrames

    _write(output, encode_message("ready"))
    media = examine(request)
    if media.doubtful:
        media = media.timed(times_of_frames(request, media))
    frames = SampledFrames(request, media)
    _write(output, encode_message("info", expected=frames.expected, **asdict(media.info)))
    for times, pixels in frames.chunks():
        _write(output, encode_message("chunk", frames=len(times)))
        _write(output, np.ascontiguousarray(times).data)
        _write(output, np.ascontiguousarray(pixels).data)
    _write(output, encode_message("end", warnings=frames.warnings))


def _write(file: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(file, view) :]


if __name__ == "__main__":
    serve_forks()
