"""What is said of a detector, for detectors that know everything, nothing or half of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.networks.relations.pairs import Pairs
from tests.support.networks import tiny_detector
from training.data.action_genome import AnnotatedVideo, load_action_genome
from training.detection import detection_figures

SLOTS = 9


@pytest.fixture(scope="module")
def videos(puppets: Path) -> list[AnnotatedVideo]:
    return load_action_genome(puppets, split="test", small_objects="keep")


class Told:
    """A detector that is told the truth of each video in turn, before `change` makes something else of it."""

    def __init__(self, videos: list[AnnotatedVideo], change: Any = lambda pairs: pairs) -> None:
        self.config, self.anchors = tiny_detector(), torch.zeros(1)
        self.videos, self.change = iter(videos), change

    def pairs(self, frames: Tensor, timestamps: Tensor) -> Pairs:
        video = next(self.videos)
        time = len(video.frames)
        assert frames.shape == (1, time, 64, 64, 3)
        assert timestamps.shape == (1, time)
        boxes, scores = torch.zeros(1, time, SLOTS, 4), torch.zeros(1, time, SLOTS, 36)
        mask, people = torch.zeros(1, time, SLOTS, dtype=torch.bool), torch.zeros(1, time, 4)
        for index, frame in enumerate(video.frames):
            count, scale = len(frame.labels), np.array(frame.size * 2)
            boxes[0, index, :count] = torch.from_numpy(frame.boxes / scale)
            scores[0, index, torch.arange(count), torch.from_numpy(frame.labels)] = 0.9
            mask[0, index, :count] = True
            people[0, index] = torch.from_numpy(frame.person_box / scale)
        nothing = torch.zeros(0)
        return self.change(Pairs(mask, people, mask.any(-1).float(), boxes, scores, nothing, nothing, nothing,
                                 timestamps))  # type: ignore[no-any-return]  # fmt: skip


def figures(videos: list[AnnotatedVideo], change: Any = lambda pairs: pairs) -> dict[str, float]:
    return detection_figures(videos, Told(videos, change))  # type: ignore[arg-type]


def test_a_perfect_detector_scores_one(videos: list[AnnotatedVideo]) -> None:
    objects = [len(frame.labels) for video in videos for frame in video.frames]
    assert figures(videos) == {"persons": 1, "boxes": 1, "objects": 1, "pairs": 1, "slots": np.mean(objects)}


def test_a_detector_without_persons_scores_zero(videos: list[AnnotatedVideo]) -> None:
    said = figures(videos, lambda pairs: replace(pairs, mask=torch.zeros_like(pairs.mask)))
    assert said == {"persons": 0, "boxes": 0, "objects": 0, "pairs": 0, "slots": 0}


def test_a_person_elsewhere_spoils_the_pairs_only(videos: list[AnnotatedVideo]) -> None:
    corner = torch.tensor((0.0, 0.0, 0.01, 0.01))
    said = figures(videos, lambda pairs: replace(pairs, subject_boxes=corner.expand_as(pairs.subject_boxes)))
    assert (said["persons"], said["boxes"], said["objects"], said["pairs"]) == (0, 1, 1, 0)


def test_a_wrong_class_spoils_the_object_but_not_its_box(videos: list[AnnotatedVideo]) -> None:
    def renamed(pairs: Pairs) -> Pairs:
        scores = pairs.object_scores.roll(1, -1)
        scores[:, 1::2] = pairs.object_scores[:, 1::2]
        return replace(pairs, object_scores=scores)

    said = figures(videos, renamed)
    odd = [len(frame.labels) for video in videos for frame in video.frames[1::2]]
    every = [len(frame.labels) for video in videos for frame in video.frames]
    assert (said["persons"], said["boxes"]) == (1, 1)
    assert said["objects"] == said["pairs"] == pytest.approx(sum(odd) / sum(every)), "pooled over all frames"
