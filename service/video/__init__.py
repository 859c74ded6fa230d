"""Frames out of untrusted video files, at asked times, in a child process with limits.

To read a video:

    with VideoReader(path, Sampling(fps=2.0, max_frames=600, height=128, width=160)) as reader:
        reader.info                     # VideoInfo: size, duration, codec
        for chunk in reader:            # FrameChunk: timestamps (n,) and RGB frames (n, height, width, 3)
            ...
    reader.warnings                     # what the user should know: cut short, too many frames, ...
"""

from service.video.reader import VideoReader
from service.video.sampling import EVERY_FRAME, DecodeLimits, FrameChunk, Sampling, VideoInfo
from service.video.sniffing import SNIFF_BYTES, Container, sniff_container

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
