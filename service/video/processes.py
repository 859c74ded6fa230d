"""Starts and ends decoder processes, in the parent, and learns how they ended. `child` is the other side.

The fork server of `multiprocessing` does not serve: it inherits the environment and imports the main module.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import service
from service.video.errors import DecoderUnavailable
from service.video.wire import EXIT_STATUS

_ROOT = Path(service.__file__).resolve().parent.parent
_COMMAND = (sys.executable, "-P", "-s", "-m", "service.video.child")
_START_SECONDS = 60.0
_PIPE_BYTES = 2**20


class DecoderProcess:
    """One decoder process.

    requests: pipe to its standard input.
    messages: pipe from its standard output.
    """

    def __init__(self, pidfd: int, requests: int, messages: int, status: int) -> None:
        self.requests = requests
        self.messages = messages
        self._pidfd = pidfd
        self._status = status
        self._closed = False
        self._closing = threading.Lock()

    def kill(self) -> None:
        """Ends the process if it still runs. Any thread may call this at any time."""
        with self._closing, contextlib.suppress(ProcessLookupError):
            if not self._closed:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, seconds: float | None = None) -> int | None:
        """Waits for the end and returns the exit code, or minus the number of the signal that ended the process.

        Returns None where nobody knows. Raises TimeoutError where the process still runs after so many seconds.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            raise TimeoutError(f"the decoder process has not ended after {seconds} s")
        status = os.read(self._status, EXIT_STATUS.size)
        # Only the fork server may ask the kernel, and the fork server may have ended too.
        return os.waitstatus_to_exitcode(EXIT_STATUS.unpack(status)[0]) if status else None

    def close(self) -> None:
        """Frees the file descriptors."""
        with self._closing:
            self._closed = True
            for file in (self._pidfd, self.requests, self.messages, self._status):
                os.close(file)


class ForkServer:
    """Starts decoder processes by a server process, which starts with the first of them, and again if it has died."""

    def __init__(self, command: Sequence[str] = ()) -> None:
        """
        command: runs another server process than that of `service.video.child`, for tests and benchmarks.
        """
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._gaps: dict[str, str] | None = None
        self._greeted: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Begins to start the server process, so that the first video does not wait for it."""
        with self._lock:
            self._running()

    def isolation_gaps(self) -> dict[str, str]:
        """Returns the reason for each layer of isolation that decoders lack here. Waits for the server process.

        Raises DecoderUnavailable where the server process does not start.
        """
        with self._lock:
            if self._gaps is None:
                try:
                    self._answering()
                except OSError:
                    raise _unavailable(self._stop()) from None
            assert self._gaps is not None
            return self._gaps

    def start(self, video: int) -> DecoderProcess:
        """Starts a decoder process whose file descriptor VIDEO_FILE is the open file `video`, and that has no other.

        Raises DecoderUnavailable where the server process does not answer.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            files = [os.pipe() for _ in range(3)]
            (requests_end, requests), (messages, messages_end), (status, status_end) = files
            for file in (requests_end, messages_end, status_end):
                theirs.callback(os.close, file)
            for file in (requests, messages, status):
                ours.callback(os.close, file)
            with contextlib.suppress(PermissionError):  # an operator's limit on pipes costs only speed
                fcntl.fcntl(messages, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            pidfd = self._fork([video, requests_end, messages_end, status_end])
            ours.pop_all()
            return DecoderProcess(pidfd, requests, messages, status)

    def close(self) -> None:
        """Ends the server process. Decoder processes go on."""
        with self._lock:
            self._stop()

    def _fork(self, files: list[int]) -> int:
        with self._lock:
            code: int | None = None
            # Twice, because the server process may have died since the last video.
            for _ in range(2):
                with contextlib.suppress(OSError):
                    control = self._answering()
                    socket.send_fds(control, [b"\0"], files)
                    _, answer, _, _ = socket.recv_fds(control, 1, 1)
                    if answer:
                        return answer[0]
                code = self._stop()
            raise _unavailable(code)

    def _answering(self) -> socket.socket:
        """Returns the socket to the server process, once that has said which isolation it has.

        Raises OSError where the server process does not start.
        """
        control = self._running()
        if self._process is not self._greeted:
            with control.makefile("rb", buffering=0) as file:
                line = file.readline()
            if not line:
                raise ConnectionError("the server process has ended")
            self._gaps = json.loads(line)
            self._greeted = self._process
        return control

    def _running(self) -> socket.socket:
        """Returns the socket to the server process, which this starts where it does not run."""
        if self._control is not None and self._owner == os.getpid():
            return self._control
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                self._command or _COMMAND,
                stdin=theirs.fileno(),
                cwd="/",
                env=_environment(),
                # Ctrl-C in a terminal is for the parent, which then ends what it started.
                start_new_session=True,
            )
        ours.settimeout(_START_SECONDS)
        self._control, self._owner = ours, os.getpid()
        return ours

    def _stop(self) -> int | None:
        """Ends the server process, if there is one, and returns its exit code."""
        process, control = self._process, self._control
        self._process = self._control = None
        if process is None or control is None:
            return None
        control.close()
        try:
            return process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _unavailable(code: int | None) -> DecoderUnavailable:
    return DecoderUnavailable(f"the video decoder does not start (exit code {code}): the log says why")


def _environment() -> dict[str, str]:
    """Returns only what decoders need: no credentials, and no threads or memory pools for arithmetic."""
    environment = {
        "PATH": os.defpath,  # decord does not import without one
        "PYTHONPATH": str(_ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


FORK_SERVER = ForkServer()  # the one of this process
atexit.register(FORK_SERVER.close)
