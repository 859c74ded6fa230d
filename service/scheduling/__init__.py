"""Shares a model between videos: clips of all videos wait at its stages and go through them in batches.

Frames come as `FrameChunk` of the decoder, wait and travel as `Clip`, and leave as tensors.
"""

from service.scheduling.batcher import Batch
from service.scheduling.scheduler import Scheduler
from service.scheduling.video_run import VideoRun

__all__ = ["Batch", "Scheduler", "VideoRun"]
