"""Reads the frames of a video from a decoder process, which never outlives the reader."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from service.errors import ServiceError
from service.video.containers import SNIFF_BYTES, sniff_container
from service.video.errors import DecoderUnavailable, DecodeTimeout, UnsupportedMedia, VideoUnreadable
from service.video.processes import FORK_SERVER, DecoderProcess
from service.video.wire import (
    LENGTH,
    MAXIMUM_MESSAGE,
    DecodeLimits,
    Defect,
    FrameChunk,
    Request,
    Sampling,
    VideoInfo,
    decode_message,
)

if TYPE_CHECKING:
    from models.graph.scene_graph import Warning

_log = logging.getLogger(__name__)
_DEFAULT_LIMITS = DecodeLimits()


class VideoReader:
    """Iterates over the sampled frames of one video file, which a process of its own decodes. A context manager.

    info: the video; set when the context is entered.
    expected: number of frames that will come if all of them can be decoded; set when the context is entered.
    warnings: what the user should know; complete when the iteration has ended.

    Leaving the context ends the process at once, even before the last frame. Any thread may call `close`.

    Entering the context and iterating raise EmptyUpload, UnsupportedMedia and every VideoError for what is wrong with
    the video, DecoderUnavailable where the decoder does not start, and OSError where there is no such file.
    """

    info: VideoInfo
    expected: int

    def __init__(self, path: Path, sampling: Sampling, limits: DecodeLimits = _DEFAULT_LIMITS) -> None:
        self.warnings: list[Warning] = []
        self._path = path
        self._sampling = sampling
        self._limits = limits
        self._patience = limits.seconds
        self._frames = 0
        self._process: DecoderProcess | None = None
        self._ready = False
        self._ended = False
        self._reading = threading.Lock()

    def __enter__(self) -> Self:
        if self._process is not None or self._ended:
            raise ValueError("a video reader reads once: make another one")
        try:
            self._start()
            self._receive("ready")
            self._ready = True
            self._learn(self._receive("info"))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FrameChunk:
        if self._ended:
            raise StopIteration
        try:
            with self._reading:
                message = self._receive("chunk", "end")
                if "frames" in message:
                    return self._chunk(message["frames"])
        except BaseException:
            self.close()
            raise
        self._end(message)
        raise StopIteration

    def close(self) -> None:
        """Ends the decoder process and frees its file descriptors. A second call does nothing."""
        process = self._process
        if process is None:
            return
        process.kill()
        # Another thread may wait for frames. The end of the process wakes it; then the pipes can be closed.
        with self._reading:
            if self._process is None:
                return  # the other thread has closed it
            process.wait()
            process.close()
            self._process = None

    def _start(self) -> None:
        file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not wait for its writer
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UnsupportedMedia("the upload is not a regular file: send the bytes of a video")
            container = sniff_container(os.pread(file, SNIFF_BYTES, 0))
            self._process = FORK_SERVER.start(file)
        finally:
            os.close(file)
        request = Request(container, self._sampling, self._limits)
        with contextlib.suppress(BrokenPipeError):  # it has ended; the first read finds out why
            os.write(self._process.requests, request.to_json().encode() + b"\n")

    def _learn(self, told: dict[str, Any]) -> None:
        try:
            self.expected = min(int(told.pop("expected")), self._sampling.max_frames)
            self.info = VideoInfo(**told)
        except (ValueError, TypeError, KeyError) as error:
            raise self._failure("sent a message that makes no sense") from error

    def _receive(self, *kinds: str) -> dict[str, Any]:
        """Returns the next message, of one of the kinds. Raises what the child reports instead."""
        (length,) = LENGTH.unpack(self._read(bytearray(LENGTH.size)))
        if length > MAXIMUM_MESSAGE:
            raise self._failure("sent a message that is too long")
        body = self._read(bytearray(length))
        try:
            return decode_message(body, kinds)
        except Defect as defect:
            _log.error("defect in the decoder process:\n%s", defect)
            if not self._ready:
                raise DecoderUnavailable("the video decoder does not start: the log says why") from None
            raise _crash("failed") from None
        except (ValueError, TypeError, KeyError) as error:
            # The child reads untrusted data, which may have taken it over.
            raise self._failure("sent a message that makes no sense") from error

    def _chunk(self, count: int) -> FrameChunk:
        self._frames += count
        # The child reads untrusted data: it must not decide how much memory its parent takes.
        if not 0 < count <= self._limits.chunk_frames or self._frames > self._sampling.max_frames:
            raise self._failure("sent more frames than were asked for")
        timestamps = np.empty(count, dtype=np.float64)
        frames = np.empty((count, self._sampling.height, self._sampling.width, 3), dtype=np.uint8)
        self._read(timestamps)
        self._read(frames)
        return FrameChunk(timestamps, frames)

    def _read(self, buffer: Any) -> Any:
        """Fills the buffer. Raises DecodeTimeout after the limit of seconds, VideoUnreadable after a crash."""
        view = memoryview(buffer).cast("B")
        if self._process is None:
            raise ValueError("the video reader is closed")
        pipe = self._process.messages
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while view:
            before = time.monotonic()
            waiting = bool(poll.poll(max(0.0, self._patience) * 1000))
            self._patience -= time.monotonic() - before
            if not waiting:
                raise DecodeTimeout(
                    f"decoding took more than {self._limits.seconds:g} s: send a shorter or smaller video"
                )
            count = os.readv(pipe, [view])
            if count == 0:
                raise self._failure("ended too early")
            view = view[count:]
        return buffer

    def _end(self, message: dict[str, Any]) -> None:
        # Imported late because the child imports this package too and has to start fast.
        from models.graph.scene_graph import Warning

        self.warnings.extend(Warning(code=code, detail=detail) for code, detail in message["warnings"])
        self._ended = True
        self.close()

    def _failure(self, what: str) -> ServiceError:
        """Returns the error that fits how the child ended, or what it did where it still runs."""
        assert self._process is not None
        try:
            code = self._process.wait(seconds=1.0)
        except TimeoutError:
            return _crash(what)
        if code == -signal.SIGXCPU:
            return DecodeTimeout(
                f"decoding took more than {self._limits.cpu_seconds} s of processor time: "
                "send a shorter or smaller video"
            )
        if not self._ready:
            return DecoderUnavailable(f"the video decoder does not start (exit code {code}): the log says why")
        if code is not None and code < 0:
            what = f"was ended by {signal.Signals(-code).name}"
        return _crash(what)


def _crash(what: str) -> VideoUnreadable:
    return VideoUnreadable(f"the decoder {what}; the video may be damaged: encode it again as H.264 in MP4")
