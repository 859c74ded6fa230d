"""Decodes what the wanted frames need, and little else. Runs in the decoder process.

A wanted frame needs those stored before it from the last fresh beginning on, and of these only the ones that others
refer to. What comes out is known by the time stamp that its packet had, so nothing depends on counting frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from service.video.bitstream import spares_unreferenced
from service.video.media import raise_if_out_of_memory


class SkimmingError(Exception):
    """A wanted frame did not come out as it should."""


def skimmed(container: Any, stream: Any, wanted: NDArray[np.int64], beginnings: NDArray[np.int64]) -> Iterator[Any]:
    """The frames of the stream with the wanted time stamps, in order.

    wanted      ascending, units of the stream
    beginnings  ascending stamps of the frames with which decoding may begin: what is stored after one of them is also
                shown after it, and what is stored before it is shown before it

    Raises SkimmingError, also for frames that the decoder calls damaged, and MemoryError.
    """
    expected = iter(wanted.tolist())
    awaited = next(expected, None)
    for frame in decoded(container, stream, wanted, beginnings):
        if awaited is None or frame.pts is None or frame.pts < awaited:
            continue
        if frame.pts > awaited or frame.is_corrupt:
            break
        yield frame
        awaited = next(expected, None)
    if awaited is not None:
        raise SkimmingError(f"the frame with stamp {awaited} is missing or damaged")


def decoded(container: Any, stream: Any, wanted: NDArray[np.int64], beginnings: NDArray[np.int64]) -> Iterator[Any]:
    """What comes out of the decoder: the wanted frames and some of those that they need."""
    codec = stream.codec_context
    spare = "NONREF" if spares_unreferenced(codec.codec.canonical_name, codec.extradata or b"") else "DEFAULT"
    sections = np.searchsorted(beginnings, wanted, side="right") - 1
    if sections[0] < 0:
        raise SkimmingError("nothing before the first wanted frame is known to begin afresh")
    in_section = dict(zip(beginnings.tolist(), np.bincount(sections, minlength=len(beginnings)).tolist(), strict=True))
    stamps = set(wanted.tolist())
    to_send = 0
    sending = False
    try:
        for packet in container.demux(stream):
            if not stamps or packet.pts is None:
                break
            to_send = in_section.get(packet.pts, to_send)
            if to_send:
                is_wanted = packet.pts in stamps
                codec.skip_frame = "DEFAULT" if is_wanted else spare
                yield from packet.decode()
                sending = True
                to_send -= is_wanted
                stamps.discard(packet.pts)
            elif sending:
                # What it still holds comes out; what is sent next does not continue what was sent last.
                yield from codec.decode(None)
                codec.flush_buffers()
                sending = False
        if sending:
            yield from codec.decode(None)
    except av.FFmpegError as error:
        raise_if_out_of_memory(error)
        raise SkimmingError(type(error).__name__) from error
