"""Reads frames of untrusted video files at chosen times, in a child process with limits.

    with VideoReader(path, Sampling(fps=2.0, max_frames=600, height=128, width=160)) as reader:
        reader.info                     # VideoInfo: size, duration, codec
        for chunk in reader:            # FrameChunk: timestamps (n,) and RGB frames (n, height, width, 3)
            ...
    reader.warnings                     # what the user should know: cut short, too many frames, ...

The way of a video: `containers` names its container, `reader` asks `processes` for a decoder process and talks to it as
`wire` says. In that process `child` obeys, `media` examines the file, `timing` decides its times, and `sampled_frames`
takes the frames with `decoding`. `media` hides the `ballast`, refuses by `encryption`, and learns by `picture` how
frames are displayed.
"""

from service.video.containers import SNIFF_BYTES, Container, sniff_container
from service.video.reader import VideoReader
from service.video.wire import EVERY_FRAME, DecodeLimits, FrameChunk, Sampling, VideoInfo

__all__ = [
    "EVERY_FRAME",
    "SNIFF_BYTES",
    "Container",
    "DecodeLimits",
    "FrameChunk",
    "Sampling",
    "VideoInfo",
    "VideoReader",
    "sniff_container",
]
