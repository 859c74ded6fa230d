"""Models over annotated videos: who says the truth scores 1, and every stage sees what it asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.engines import FunctionStage
from models.graph.bundle import Bundle
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.checkpoint import NetworkConfig, save_checkpoint
from tests.support import annotated
from tests.support.networks import SMALL_WORLD, make_lively, tiny, tiny_scored, tiny_two_stage
from training.data.action_genome import AnnotatedFrame, AnnotatedVideo, ground_truth_of, load_action_genome
from training.data.facts import small_objects_of
from training.errors import EvaluationError
from training.prediction import (
    Outputs,
    Predictor,
    bundle_predictor,
    evaluate_model,
    evaluate_videos,
    frames_of,
    network_predictor,
    of_best_subject,
    predict_video,
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
        **{group: frame.predicates[:, columns] for group, columns in ACTION_GENOME.group_slices.items()},
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

    def __call__(self, tensors: Outputs) -> Outputs:
        self.shapes.append(tensors["frames"].shape)
        batch, time = tensors["frames"].shape[:2]
        said = [truth_of(next(self.frames)) for _ in range(batch * time)]
        return {name: np.stack([each[name] for each in said]).reshape(batch, time, PAIRS, *said[0][name].shape[1:])
                for name in said[0]}  # fmt: skip

    def predictor(self) -> Predictor:
        return Predictor([FunctionStage(("frames",), "clip", self)], (64, 64), 3)


def test_perfect_predictions_recall_every_relation(videos: list[AnnotatedVideo]) -> None:
    figures = evaluate_videos(videos, Truth(videos).predictor())
    assert figures["no"]["R@50"] == 1.0
    assert figures["with"]["R@50"] > 0.5, "one predicate a pair and group; the rest is lost by the rules"


def test_boxes_in_the_wrong_place_find_nothing(videos: list[AnnotatedVideo]) -> None:
    def aside(tensors: Outputs) -> Outputs:
        return {"object_boxes": 1 - tensors["object_boxes"][..., [2, 3, 0, 1]] * 0.1}  # type: ignore[operator, index]

    told = Truth(videos).predictor()
    lost = replace(told, stages=[*told.stages, FunctionStage(("object_boxes",), "clip", aside)])
    assert evaluate_videos(videos, lost)["no"]["R@50"] == 0.0


def test_a_video_is_cut_into_clips_and_a_shorter_rest_in_order(videos: list[AnnotatedVideo]) -> None:
    truth = Truth(videos[:1])
    predictions = predict_video(videos[0], replace(truth.predictor(), frame_size=(48, 64)))
    assert truth.shapes == [(1, 3, 48, 64, 3), (1, 1, 48, 64, 3)]
    assert len(predictions) == 4
    for index, frame in enumerate(videos[0].frames):
        count = len(frame.labels)
        np.testing.assert_array_equal(predictions.object_scores[index, :count].argmax(-1), frame.labels)


def test_a_stage_reads_outputs_of_earlier_stages_in_clips_or_as_a_whole(videos: list[AnnotatedVideo]) -> None:
    seen: dict[str, list[tuple[int, ...]]] = {"clip": [], "video": []}

    def count(tensors: Outputs) -> Outputs:
        assert set(tensors) == {"timestamps"}
        seen["clip"].append(tensors["timestamps"].shape)
        return {"numbers": tensors["timestamps"] * 2}  # type: ignore[operator]

    def score(tensors: Outputs) -> Outputs:
        assert set(tensors) == {"numbers", "pair_mask"}
        seen["video"].append(tensors["numbers"].shape)
        share = tensors["numbers"] / tensors["numbers"].max()  # type: ignore[operator]
        return {"relation_scores": np.repeat(share[..., None], PAIRS, 2).astype(np.float32)}

    told = Truth(videos[:1]).predictor()
    stages = [
        *told.stages,
        FunctionStage(("timestamps",), "clip", count),
        FunctionStage(("numbers", "pair_mask"), "video", score),
    ]
    predictions = predict_video(videos[0], replace(told, stages=stages))
    assert seen == {"clip": [(1, 3), (1, 1)], "video": [(1, 4)]}
    assert predictions.relation_scores is not None
    moments = np.array([frame.number for frame in videos[0].frames])
    np.testing.assert_allclose(predictions.relation_scores[:, 0], moments / moments.max(), rtol=1e-6)


def test_duplicates_are_suppressed_only_where_the_model_finds_the_boxes(
    videos: list[AnnotatedVideo],
) -> None:
    def twice(tensors: Outputs) -> Outputs:
        return {name: np.concatenate((array, array), 2) for name, array in tensors.items()}

    told = Truth(videos[:1]).predictor()
    names = tuple(truth_of(videos[0].frames[0]))
    doubled = replace(told, stages=[*told.stages, FunctionStage(names, "clip", twice)])
    count = sum(len(frame.labels) for frame in videos[0].frames)
    assert predict_video(videos[0], doubled).pair_mask.sum() == count
    given = replace(
        doubled, stages=[FunctionStage(("frames",), "clip", Truth(videos[:1])), doubled.stages[1]], task="predcls"
    )
    assert predict_video(videos[0], given).pair_mask.sum() == 2 * count


def test_predcls_is_given_the_annotated_boxes_with_the_person_first(videos: list[AnnotatedVideo]) -> None:
    seen: dict[str, NDArray[np.generic]] = {}
    truth = Truth(videos[:1])

    def look(tensors: Outputs) -> Outputs:
        seen.update(tensors)
        return truth(tensors)

    predictor = Predictor([FunctionStage(("frames", "boxes", "labels", "mask"), "clip", look)], (64, 64), 40, "predcls")
    predict_video(videos[0], predictor)
    most = 1 + max(len(frame.labels) for frame in videos[0].frames)
    assert seen["boxes"].shape == (1, 4, most, 4)
    for index, frame in enumerate(videos[0].frames):
        count = len(frame.labels)
        assert seen["mask"][0, index].tolist() == [slot <= count for slot in range(most)]
        assert seen["labels"][0, index].tolist() == [0, *frame.labels, *[0] * (most - 1 - count)]
        boxes = np.concatenate((frame.person_box[None], frame.boxes)) / (64, 64, 64, 64)
        np.testing.assert_allclose(seen["boxes"][0, index, : 1 + count], boxes.clip(0, 1), atol=1e-6)


def test_frames_are_given_in_pixels_with_one_pair_a_kept_slot() -> None:
    random = np.random.default_rng(0)
    depths = {"subject_boxes": (4,), "subject_scores": (), "object_boxes": (4,), "object_scores": (36,),
              "predicate_scores": (26,), "relation_scores": ()}  # fmt: skip
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


def test_only_pairs_of_the_best_subject_of_a_frame_count() -> None:
    random = np.random.default_rng(0)
    depths = {"subject_boxes": (4,), "object_boxes": (4,), "object_scores": (36,), "predicate_scores": (26,)}
    arrays = {name: random.random((3, 4, *depth)).astype(np.float32) for name, depth in depths.items()}
    mask = np.array([[True] * 4, [False, True, True, False], [False] * 4])
    scores = np.array([[0.8, 0.9, 0.9, 0.8], [0.9, 0.7, 0.7, 0.9], [0.5] * 4], np.float32)
    kept = of_best_subject(PairPredictions(pair_mask=mask, subject_scores=scores, **arrays)).pair_mask
    assert kept.tolist() == [[False, True, True, False], [False, True, True, False], [False] * 4]


def test_a_model_is_not_evaluated_on_data_of_another_vocabulary(puppets: Path, tmp_path: Path) -> None:
    network = make_lively(tiny(dense_proposals=True), vocabulary=SMALL_WORLD)
    save_checkpoint(tmp_path / "checkpoint.pt", network, {})
    with pytest.raises(EvaluationError, match=r"is annotated with looking_at, .* knows over, under, beside, …"):
        evaluate_model(puppets, tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("config", [tiny(dense_proposals=True, sigmoid_classes=True), tiny_two_stage("sttran")])
def test_a_model_is_evaluated_on_a_vocabulary_of_its_own(tmp_path: Path, config: NetworkConfig) -> None:
    persons, objects = annotated.records(split="test")
    for (key, record), subject in zip(persons.items(), ("robot", "person", None), strict=True):
        record.update({"class": subject})
        del objects[key][0]["attention_relationship"]
        objects[key][0].update({"class": "crate", "place_relationship": ["under"], "action_relationship": ["lifting"]})
    annotated.write(tmp_path, persons, objects)
    (tmp_path / "vocabulary.json").write_bytes(TypeAdapter(Vocabulary).dump_json(SMALL_WORLD))
    (video,) = load_action_genome(tmp_path, split="test", small_objects="keep")
    assert [frame.person_label for frame in video.frames] == [0, 2, 2]
    assert [frame.predicates.tolist() for frame in video.frames] == [[[False, True, False, True, False]]] * 3
    relations = ground_truth_of(video.frames[0], SMALL_WORLD).relations.tolist()
    assert relations == [[1, 0, 1], [0, 1, 3]], "the place runs from the object"
    save_checkpoint(tmp_path / "checkpoint.pt", make_lively(config, vocabulary=SMALL_WORLD), {})
    figures = evaluate_model(tmp_path, tmp_path / "checkpoint.pt")
    assert set(figures) == {"with", "semi", "no", "top6"}


def test_a_scorer_sees_the_whole_video_however_short_its_hosts_clips(videos: list[AnnotatedVideo]) -> None:
    network = make_lively(tiny_scored(tiny()))
    predictor = network_predictor(network)
    assert predictor.clip_length == 3
    whole = predict_video(videos[0], predictor)
    cut = replace(predictor, stages=[replace(stage, span="clip") for stage in predictor.stages])
    pieces = predict_video(videos[0], cut)
    np.testing.assert_array_equal(whole.predicate_scores, pieces.predicate_scores)
    assert whole.relation_scores is not None
    assert pieces.relation_scores is not None
    assert np.abs(whole.relation_scores - pieces.relation_scores).max() > 1e-4


def test_small_objects_are_kept_in_sgdet_on_puppets_only(puppets: Path, tmp_path: Path) -> None:
    assert small_objects_of(puppets) == "keep"
    assert small_objects_of(tmp_path) == "drop"


def test_a_bundle_is_evaluated_on_the_engine_that_is_asked_for(puppets: Path, video_bundle: Path) -> None:
    video = load_action_genome(puppets, split="test", small_objects="keep")[0]
    predictor = bundle_predictor(Bundle.load(video_bundle), "openvino")
    assert "openvino" in type(predictor.stages[0]).__module__
    found, wanted = predict_video(video, predictor), predict_video(video, bundle_predictor(Bundle.load(video_bundle)))
    assert found.relation_scores is not None
    assert wanted.relation_scores is not None
    np.testing.assert_allclose(found.relation_scores, wanted.relation_scores, rtol=1e-5)
    np.testing.assert_allclose(found.subject_boxes, wanted.subject_boxes, rtol=1e-5)


def test_evaluation_refuses_an_engine_that_does_not_fit_the_kind_of_model(
    puppets: Path, video_bundle: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", make_lively(tiny()), {})
    with pytest.raises(EvaluationError, match=r"checkpoint\.pt is not a bundle, so torch runs it, not openvino"):
        evaluate_model(puppets, tmp_path / "checkpoint.pt", engine="openvino")
    with pytest.raises(EvaluationError, match="torch-cpu takes its weights from a checkpoint, so evaluate that"):
        evaluate_model(puppets, video_bundle, engine="torch-cpu")
