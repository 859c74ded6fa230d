"""Models over annotated videos: who says the truth scores 1, and a bundle scores what its checkpoint does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.bundle import export_bundle
from models.checkpoint import save_checkpoint
from models.predictions import PairPredictions
from tests.networks import make_lively, tiny
from training.action_genome import AnnotatedFrame, AnnotatedVideo, load_action_genome
from training.errors import EvaluationError
from training.prediction import (
    Outputs,
    evaluate_model,
    evaluate_videos,
    frames_of,
    load_predictor,
    predict_video,
    small_objects_of,
)

PAIRS = 8


@pytest.fixture(scope="module")
def videos(puppets: Path) -> list[AnnotatedVideo]:
    return load_action_genome(puppets, split="test", small_objects="keep")


def truth_of(frame: AnnotatedFrame) -> dict[str, NDArray[np.generic]]:
    """One frame as a network would say it: (P, …). Slots that hold nothing are full of nonsense."""
    count, scale = len(frame.labels), np.array(frame.size * 2, np.float32)
    arrays: dict[str, NDArray[np.generic]] = {"pair_mask": np.arange(PAIRS) < count}
    values = {
        "subject_boxes": np.tile(frame.person_box / scale, (count, 1)),
        "subject_scores": np.ones(count),
        "object_boxes": frame.boxes / scale,
        "object_scores": np.eye(36)[frame.labels],
        "attention": frame.attention,
        "spatial": frame.spatial,
        "contacting": frame.contacting,
    }
    for name, value in values.items():
        arrays[name] = np.full((PAIRS, *value.shape[1:]), 0.5, np.float32)
        arrays[name][:count] = value
    return arrays


class Truth:
    """Knows which frames it will be shown, and in what order; `shapes` are those of the clips it saw."""

    def __init__(self, videos: list[AnnotatedVideo]) -> None:
        self.frames = iter([frame for video in videos for frame in video.frames])
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, frames: NDArray[np.uint8]) -> Outputs:
        self.shapes.append(frames.shape)
        batch, time = frames.shape[:2]
        said = [truth_of(next(self.frames)) for _ in range(batch * time)]
        return {name: np.stack([each[name] for each in said]).reshape(batch, time, PAIRS, *said[0][name].shape[1:])
                for name in said[0]}  # fmt: skip


def test_who_says_the_truth_finds_every_relation(videos: list[AnnotatedVideo]) -> None:
    figures = evaluate_videos(videos, Truth(videos), 64, 64, 3)
    assert figures["no"]["R@50"] == 1.0
    assert figures["with"]["R@50"] > 0.5, "one predicate a pair and group; the rest is lost by the rules"


def test_boxes_in_the_wrong_place_find_nothing(videos: list[AnnotatedVideo]) -> None:
    truth = Truth(videos)

    def aside(frames: NDArray[np.uint8]) -> Outputs:
        outputs = dict(truth(frames))
        outputs["object_boxes"] = 1 - outputs["object_boxes"][..., [2, 3, 0, 1]] * 0.1  # type: ignore[operator, index]
        return outputs

    assert evaluate_videos(videos, aside, 64, 64, 3)["no"]["R@50"] == 0.0


def test_a_video_is_cut_into_clips_and_a_shorter_rest_in_order(videos: list[AnnotatedVideo]) -> None:
    truth = Truth(videos[:1])
    predictions = predict_video(videos[0], truth, 48, 64, 3)
    assert truth.shapes == [(1, 3, 48, 64, 3), (1, 1, 48, 64, 3)]
    assert len(predictions) == 4
    for index, frame in enumerate(videos[0].frames):
        count = len(frame.labels)
        np.testing.assert_array_equal(predictions.object_scores[index, :count].argmax(-1), frame.labels)


def test_frames_are_given_in_pixels_with_one_pair_a_kept_slot() -> None:
    random = np.random.default_rng(0)
    depths = {"subject_boxes": (4,), "subject_scores": (), "object_boxes": (4,), "object_scores": (36,),
              "attention": (3,), "spatial": (6,), "contacting": (17,), "relation_scores": ()}  # fmt: skip
    arrays = {name: random.random((2, 3, *depth)).astype(np.float32) for name, depth in depths.items()}
    arrays["object_scores"][..., 0] = 0
    mask = np.array([[True, False, True], [False, False, False]])
    first, second = frames_of(PairPredictions(pair_mask=mask, **arrays), [(100, 50), (100, 50)])
    assert first.pairs.tolist() == [[0, 2], [1, 3]]
    assert first.labels[:2].tolist() == [0, 0], "persons"
    assert first.labels[2:].tolist() == arrays["object_scores"][0, [0, 2]].argmax(-1).tolist()
    np.testing.assert_allclose(first.boxes[3], arrays["object_boxes"][0, 2] * (100, 50, 100, 50))
    np.testing.assert_allclose(first.scores[2:], arrays["object_scores"][0, [0, 2]].max(-1))
    assert first.relation_scores is not None
    np.testing.assert_allclose(first.relation_scores, arrays["relation_scores"][0, [0, 2]])
    assert second.pairs.shape == (0, 2)


def test_a_bundle_says_and_scores_what_its_checkpoint_does(
    puppets: Path, videos: list[AnnotatedVideo], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", make_lively(tiny()), {})
    export_bundle(tmp_path / "checkpoint.pt", tmp_path / "tiny", name="tiny", version="1", description="")
    said = []
    for model in (tmp_path / "checkpoint.pt", tmp_path / "tiny"):
        predict, *shape = load_predictor(model)
        assert shape == [64, 64, 3]
        said.append(predict_video(videos[0], predict, *shape))
    np.testing.assert_array_equal(said[0].pair_mask, said[1].pair_mask)
    for name in ("subject_boxes", "object_boxes", "object_scores", "attention", "spatial", "contacting"):
        np.testing.assert_allclose(getattr(said[0], name), getattr(said[1], name), atol=1e-4, err_msg=name)
    assert evaluate_model(puppets, tmp_path / "checkpoint.pt") == evaluate_model(puppets, tmp_path / "tiny")


def test_other_tasks_need_given_boxes(puppets: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="task 'predcls' needs given boxes"):
        evaluate_model(puppets, tmp_path, task="predcls")


def test_small_objects_count_on_puppets_only(puppets: Path, tmp_path: Path) -> None:
    assert small_objects_of(puppets) == "keep"
    assert small_objects_of(tmp_path) == "drop"
