"""Key frames: single frames of a video file, small, as JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from models.graph.scene_graph import Video
from service.prompt import KeyFrame
from service.prompt.errors import CaptionsMissing
from service.video import DecodeLimits, Sampling, VideoReader

LONGEST_SIDE = 768
"""Pixels; more are not looked at by most models, and cost."""
_QUALITY = 85


def read_key_frames(path: Path, video: Video, moments: Sequence[float], limits: DecodeLimits) -> list[KeyFrame]:
    """The frames on display at these moments (seconds), in the video's own proportions.

    Raises CaptionsMissing when what writes JPEG is not installed, else what reading a video raises.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise CaptionsMissing(
            "key frames need pillow, which is not installed; install it with: "
            "pip install 'video-scene-graph[captions]', or go without them"
        ) from error
    scale = min(1.0, LONGEST_SIDE / max(video.width, video.height))
    width, height = (max(1, round(side * scale)) for side in (video.width, video.height))
    found = []
    for moment in moments:
        # A reader for each: between moments that are far apart it skips what it need not decode.
        sampling = Sampling(fps=1.0, max_frames=1, height=height, width=width, start=moment)
        with VideoReader(path, sampling, limits) as reader:
            for chunk in reader:
                jpeg = BytesIO()
                Image.fromarray(chunk.frames[0]).save(jpeg, "JPEG", quality=_QUALITY)
                found.append(KeyFrame(moment, jpeg.getvalue()))
    return found
