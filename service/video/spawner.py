"""The process that decoder processes are forked from: `python -m service.video.spawner`, one for each service.

What a decoder process imports takes longer than to decode a short video, so it is imported once. The spawner has one
thread, touches no video, and lets nothing of one decoder process reach another.

Its standard input is a socket. Every byte that arrives brings four file descriptors: the video, the decoder's standard
input and output, and where its exit status goes, four bytes, when it has ended. The answer is a byte with the pidfd.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import sys
import traceback

from service.video import child
from service.video.messages import EXIT_STATUS, VIDEO_FILE

_NICENESS = 5
"""Engine and service come before the decoders, which only have to stay a few frames ahead."""


def main() -> None:
    """Forks decoder processes until the other end of the socket is closed."""
    child.load_libraries()
    gc.collect()
    gc.freeze()  # the collector writes to what it visits: pages that stay shared if it does not
    control = socket.socket(fileno=0)
    running: dict[int, tuple[int, int]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                poll.unregister(ready)
                _report(ready, *running.pop(ready))
                continue
            _, files, _, _ = socket.recv_fds(control, 1, 4)
            if not files:
                return
            status = files.pop()
            process = _fork(*files)
            pidfd = os.pidfd_open(process)
            running[pidfd] = (process, status)
            poll.register(pidfd, select.POLLIN)
            socket.send_fds(control, [b"\0"], [pidfd])


def _fork(video: int, requests: int, messages: int) -> int:
    process = os.fork()
    if process == 0:
        _decode(video, requests, messages)
    for file in (video, requests, messages):
        os.close(file)
    return process


def _decode(video: int, requests: int, messages: int) -> None:
    """Makes this process a decoder process; does not return."""
    os.nice(_NICENESS)
    try:
        os.setsid()
        # Where the kernel shares time between sessions first, niceness counts within one only.
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as autogroup:
            autogroup.write(str(_NICENESS))
        os.dup2(requests, 0)
        os.dup2(messages, 1)
        os.dup2(video, VIDEO_FILE)
        os.closerange(VIDEO_FILE + 1, 2**31 - 1)
        child.main()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _report(pidfd: int, process: int, status: int) -> None:
    _, code = os.waitpid(process, 0)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, EXIT_STATUS.pack(code))
    os.close(status)
    os.close(pidfd)


if __name__ == "__main__":
    main()
