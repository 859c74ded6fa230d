"""The videos that a run trains and validates on."""

from __future__ import annotations

from pathlib import Path

from training.configuration import TrainingConfig
from training.data.action_genome import AnnotatedVideo, load_action_genome
from training.errors import ConfigurationError


def split_videos(config: TrainingConfig) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo]]:
    """Videos to train on, and those held out of the end of the training split; the test split is never looked at."""
    videos = load_action_genome(config.data, split="train", small_objects=config.small_objects)
    kept = len(videos) - config.validation_videos
    if kept < 1:
        raise ConfigurationError(
            f"validation_videos is {config.validation_videos}, and {config.data} has {len(videos)} training videos; "
            "leave some to train on"
        )
    return videos[:kept], videos[kept:]


def frame_cache(config: TrainingConfig) -> Path | None:
    """The folder of decoded frames, if the run caches them."""
    return config.data / "cache" if config.cache_frames else None
