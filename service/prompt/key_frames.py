"""Reads key frames: single frames of a video file, as small JPEGs."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from models.graph.scene_graph import Video
from service.prompt.errors import CaptionsMissing
from service.prompt.messages import KeyFrame
from service.video import DecodeLimits, Sampling, VideoReader

LONGEST_SIDE = 768  # pixels; most models do not look at more, and more costs
_QUALITY = 85


def read_key_frames(path: Path, video: Video, moments: Sequence[float], limits: DecodeLimits) -> list[KeyFrame]:
    """Returns the frames on display at these moments (seconds), in the proportions of the video.

    Raises CaptionsMissing where pillow is not installed, and what VideoReader raises.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise CaptionsMissing(
            "key frames need pillow, which is not installed: pip install 'video-scene-graph[captions]', "
            "or ask for no key frames"
        ) from error
    scale = min(1.0, LONGEST_SIDE / max(video.width, video.height))
    width, height = (max(1, round(side * scale)) for side in (video.width, video.height))
    found = []
    for moment in moments:
        # One reader for each moment does not decode what lies between moments that are far apart.
        sampling = Sampling(fps=1.0, max_frames=1, height=height, width=width, start=moment)
        with VideoReader(path, sampling, limits) as reader:
            for chunk in reader:
                jpeg = BytesIO()
                Image.fromarray(chunk.frames[0]).save(jpeg, "JPEG", quality=_QUALITY)
                found.append(KeyFrame(moment, jpeg.getvalue()))
    return found
