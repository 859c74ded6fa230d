"""Shares an engine between videos: clips of all running jobs wait at the stages and go through them in batches."""

from service.batching.engine import Engine
from service.batching.job import EngineJob, TimedClip
from service.batching.loading import load_engines, open_engine
from service.batching.statistics import Batch, EngineStatistics

__all__ = ["Batch", "Engine", "EngineJob", "EngineStatistics", "TimedClip", "load_engines", "open_engine"]
