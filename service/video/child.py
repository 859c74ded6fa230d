"""The decoder process, one for each video that a VideoReader reads; forked by the spawner.

It reads a Request from its standard input, writes messages to its standard output (see `protocol`), and ends. It limits
itself before it touches the video, and the kernel ends it when its parent is gone.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import sys
import traceback
from dataclasses import asdict

import numpy as np

from service.errors import ServiceError
from service.video.messages import Request, encode_message
from service.video.sampling import DecodeLimits

_OPEN_FILES = 64


def main() -> None:
    """Decodes the one video of the request."""
    with open(0, "rb", closefd=False) as requests:
        request = Request.from_json(requests.readline().decode())
    _die_with_parent()
    _limit(request.limits)
    # Libraries print where they like; what they print must not end up between our messages.
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        _decode(request, output.fileno())
    except MemoryError:
        allowed = f"{request.limits.memory_bytes / 2**20:.0f} MiB"
        detail = f"Decoding needs more than {allowed} of memory. Scale the video down."
        _write(output.fileno(), encode_message("error", error="DecodeMemory", detail=detail))
    except ServiceError as error:
        _write(output.fileno(), encode_message("error", error=type(error).__name__, detail=error.detail))
    except Exception:
        # A defect of ours, or of a library on a strange video. The parent has the log.
        _write(output.fileno(), encode_message("defect", trace=traceback.format_exc(limit=-20)))


def load_libraries() -> None:
    """Imports what decoding needs."""
    # On import decord maps every CUDA library that is installed, half a gigabyte, unless there is no such package.
    sys.modules["nvidia"] = None  # type: ignore[assignment]
    import service.video.frames  # noqa: F401


def _decode(request: Request, output: int) -> None:
    from service.video.frames import Frames
    from service.video.media import examine

    _write(output, encode_message("ready"))
    media = examine(request)
    _write(output, encode_message("info", **asdict(media.info)))
    frames = Frames(request, media)
    for times, pixels in frames.chunks():
        _write(output, encode_message("chunk", frames=len(times)))
        _write(output, np.ascontiguousarray(times).data)
        _write(output, np.ascontiguousarray(pixels).data)
    _write(output, encode_message("end", warnings=frames.warnings))


def _die_with_parent() -> None:
    """Has the kernel end this process when the other end of its standard input closes, even while native code hangs.

    Not by PR_SET_PDEATHSIG: that acts on the end of the thread that started the process, not of the parent.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO, which ends a process
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if poll.poll(0):
        os._exit(1)  # closed before it was watched


def _limit(limits: DecodeLimits) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_AS, limits.memory_bytes)
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    # The interpreter, or whoever started the parent, may have set these two aside.
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.signal(signal.SIGIO, signal.SIG_DFL)


def _lower(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    # The hard limit of processor time must lie above the soft one, or the process is killed without saying why.
    resource.setrlimit(which, (value, value + 1 if which == resource.RLIMIT_CPU and value != hard else value))


def _write(file: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(file, view) :]
