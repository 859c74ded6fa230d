"""Shares an engine between videos: clips of all running jobs wait at the stages and go through them in batches."""

from service.scheduling.engine import Engine
from service.scheduling.job import EngineJob, TimedClip
from service.scheduling.loading import load_engines, open_engine
from service.scheduling.statistics import Batch, EngineStatistics

__all__ = ["Batch", "Engine", "EngineJob", "EngineStatistics", "TimedClip", "load_engines", "open_engine"]
