"""Key frames: sampled frames of a video as JPEG, for a language model or to be kept beside the graph.

They are decoded again when the graph is there, because only then it is known which frames tell most. To keep them all
until then would take the memory of the whole video; to choose while they pass would be a guess, since objects are
linked and scores smoothed over time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.graph.scene_graph import Video
from service.prompt.errors import CaptionsMissing
from service.video import DecodeLimits, FrameChunk, Sampling, VideoInfo, VideoReader
from service.video.errors import DecodeTimeout

LONGEST_SIDE = 768  # pixels; most language models do not look at more, and more costs
_QUALITY = 85
_SAME_SECONDS = 1e-3  # times of frames are rounded


@dataclass(frozen=True)
class KeyFrame:
    """One frame of a video as JPEG; `timestamp` in seconds."""

    timestamp: float
    jpeg: bytes


def key_frame_size(video: Video | VideoInfo) -> tuple[int, int]:
    """Width and height in pixels of the key frames of a video."""
    scale = min(1.0, LONGEST_SIDE / max(video.width, video.height))
    return max(1, round(video.width * scale)), max(1, round(video.height * scale))


def read_key_frames(path: Path, video: Video, moments: Sequence[float], limits: DecodeLimits) -> list[KeyFrame]:
    """Returns the frames on display at these moments (seconds), in the proportions of the video.

    Raises CaptionsMissing where pillow is not installed, and what VideoReader raises.
    """
    return [
        KeyFrame(moment, encode_jpeg(frame))
        for moment, chunk in zip(moments, _shown_at(path, video, moments, limits), strict=True)
        for frame in chunk.frames
    ]


def read_sampled_frames(
    path: Path,
    video: VideoInfo,
    moments: Mapping[int, float],
    limits: DecodeLimits,
    *,
    opened: Callable[[VideoReader], None],
) -> dict[int, KeyFrame]:
    """Returns sampled frames by index, in the proportions of the video.

    moments: times of the frames in seconds, by index.
    limits: of decoding; their seconds are for all frames together.
    opened: is called with every reader, so that another thread can close it.

    Leaves out a frame that the decoder does not find again, as may happen in a damaged video. Raises what VideoReader
    raises, and CaptionsMissing.
    """
    chunks = _shown_at(path, video, list(moments.values()), limits, opened)
    return {
        index: KeyFrame(moment, encode_jpeg(chunk.frames[0]))
        for (index, moment), chunk in zip(moments.items(), chunks, strict=True)
        if len(chunk.frames) and abs(chunk.timestamps[0] - moment) < _SAME_SECONDS
    }


def _shown_at(
    path: Path,
    video: Video | VideoInfo,
    moments: Sequence[float],
    limits: DecodeLimits,
    opened: Callable[[VideoReader], None] = lambda reader: None,
) -> Iterator[FrameChunk]:
    """Yields the frame on display at each moment, as a chunk of one frame."""
    width, height = key_frame_size(video)
    left = limits.seconds
    for moment in moments:
        if left <= 0:
            raise DecodeTimeout(f"decoding key frames took more than {limits.seconds:g} s: ask for fewer")
        began = time.monotonic()
        # One reader for each moment does not decode what lies between moments that are far apart.
        sampling = Sampling(fps=1.0, max_frames=1, height=height, width=width, start=moment)
        reader = VideoReader(path, sampling, replace(limits, seconds=left))
        opened(reader)
        with reader:
            chunk = next(reader, None)
        left -= time.monotonic() - began
        yield chunk or FrameChunk(np.empty(0), np.empty((0, height, width, 3), np.uint8))


def encode_jpeg(frame: NDArray[np.uint8]) -> bytes:
    """The JPEG of a frame (height, width, 3), RGB. Raises CaptionsMissing where pillow is not installed."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise CaptionsMissing(
            "key frames need pillow, which is not installed: pip install 'video-scene-graph[captions]', "
            "or ask for no key frames"
        ) from error
    jpeg = BytesIO()
    Image.fromarray(frame).save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()
