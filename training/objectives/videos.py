"""Which videos a run trains and validates on."""

from __future__ import annotations

from pathlib import Path

from training.configuration import TrainingConfig
from training.data.action_genome import AnnotatedVideo, load_action_genome


def split_videos(config: TrainingConfig) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo]]:
    """Videos to train on, and those held out of the end of the training split; the test split is never looked at."""
    videos = load_action_genome(config.data, split="train", small_objects=config.small_objects)
    kept = len(videos) - config.validation_videos
    return videos[:kept], videos[kept:]


def frame_cache(config: TrainingConfig, videos: int, height: int, width: int) -> Path | None:
    """Where the decoded frames of a run lie, if it caches them."""
    return config.data / "cache" / f"train_{height}x{width}_{videos}.npy" if config.cache_frames else None
