"""The evaluator against figures worked out by hand."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from models.graph.bundle import Scoring
from models.graph.vocabulary import ACTION_GENOME
from tests.support.networks import SMALL_WORLD
from training.errors import EvaluationError
from training.evaluation import Evaluator, FrameGroundTruth, FramePredictions, intersection_over_union

GROUPS = ACTION_GENOME.group_names
OBJECT_INDEX = ACTION_GENOME.object_index
PREDICATE_INDEX = ACTION_GENOME.predicate_index

PERSON, TABLE, CUP = (OBJECT_INDEX[name] for name in ("person", "table", "cup/glass/bottle"))
BOXES = np.array([[0.0, 0.0, 99.0, 199.0], [150.0, 50.0, 249.0, 149.0], [300.0, 10.0, 339.0, 49.0]])


def exactly(value: Any) -> Any:
    """Equal to within 1e-9."""
    return pytest.approx(value, rel=0.0, abs=1e-9)


def truth(*relations: tuple[int, str, int], boxes: Any = BOXES[:2], labels: Any = (PERSON, TABLE)) -> FrameGroundTruth:
    """Relations as (subject, predicate, object), as one reads them."""
    rows = [(subject, object_, PREDICATE_INDEX[predicate]) for subject, predicate, object_ in relations]
    return FrameGroundTruth(np.array(boxes), np.array(labels), np.array(rows))


def distribution(names: tuple[str, ...], rest: float, **given: float) -> list[float]:
    return [given.get(name, rest) for name in names]


def predictions(**changes: Any) -> FramePredictions:
    """One pair of a person and a table, sure of two spatial predicates and of one contacting predicate.

    Scores are given by group.
    """
    fields: dict[str, Any] = {
        "boxes": BOXES[:2],
        "labels": [PERSON, TABLE],
        "scores": [0.5, 0.8],
        "pairs": [[0, 1]],
        "attention": [[0.7, 0.2, 0.1]],
        "spatial": [distribution(ACTION_GENOME.groups[1].predicates, 0.1, in_front_of=0.95, behind=0.92)],
        "contacting": [distribution(ACTION_GENOME.groups[2].predicates, 0.05, touching=0.91, holding=0.85)],
    }
    fields |= changes
    by_group = [np.asarray(fields.pop(group)) for group in GROUPS]
    return FramePredictions(**{"predicate_scores": np.concatenate(by_group, axis=1), **fields})


ALL_FOUR = truth((0, "looking_at", 1), (1, "in_front_of", 0), (1, "behind", 0), (0, "holding", 1))


def figures(*frames: tuple[FrameGroundTruth, FramePredictions], recall_at: tuple[int, ...] = (2, 10, 50)) -> Any:
    evaluator = Evaluator(recall_at)
    for ground_truth, predicted in frames:
        evaluator.add(ground_truth, predicted)
    return evaluator.result()


def test_with_constraint_takes_one_predicate_per_group() -> None:
    # in_front_of 0.95 and touching 0.91 come before looking_at 0.7; touching is wrong.
    found = figures((ALL_FOUR, predictions()))["with"]
    assert found == exactly(
        {"R@2": 1 / 4, "R@10": 2 / 4, "R@50": 2 / 4}
        | {"mR@2": 1 / 26, "mR@10": 2 / 26, "mR@50": 2 / 26}
        | {"P@2": 1 / 2, "P@10": 2 / 3, "P@50": 2 / 3}
    )


def test_semi_constraint_takes_all_that_exceed_the_threshold_and_the_best_attention() -> None:
    # in_front_of, behind, touching, looking_at
    found = figures((ALL_FOUR, predictions()))["semi"]
    assert found == exactly(
        {"R@2": 2 / 4, "R@10": 3 / 4, "R@50": 3 / 4}
        | {"mR@2": 2 / 26, "mR@10": 3 / 26, "mR@50": 3 / 26}
        | {"P@2": 2 / 2, "P@10": 3 / 4, "P@50": 3 / 4}
    )


def test_no_constraint_ranks_all_predicates() -> None:
    # in_front_of, behind, touching, holding, looking_at, then twenty-one wrong ones
    found = figures((ALL_FOUR, predictions()))["no"]
    assert found == exactly(
        {"R@2": 2 / 4, "R@10": 1.0, "R@50": 1.0}
        | {"mR@2": 2 / 26, "mR@10": 4 / 26, "mR@50": 4 / 26}
        | {"P@2": 2 / 2, "P@10": 4 / 10, "P@50": 4 / 26}
    )


def test_top_six_takes_the_best_six_of_a_pair() -> None:
    found = figures((ALL_FOUR, predictions()))["top6"]
    assert found == exactly(
        {"R@2": 2 / 4, "R@10": 1.0, "R@50": 1.0}
        | {"mR@2": 2 / 26, "mR@10": 4 / 26, "mR@50": 4 / 26}
        | {"P@2": 2 / 2, "P@10": 4 / 6, "P@50": 4 / 6}
    )


def test_the_threshold_of_the_semi_constraint_is_strict() -> None:
    spatial = [distribution(ACTION_GENOME.groups[1].predicates, 0.1, in_front_of=0.9, behind=np.nextafter(0.9, 1))]
    found = figures((ALL_FOUR, predictions(spatial=spatial)))["semi"]
    assert found["R@10"] == exactly(2 / 4)  # behind and looking_at


def test_a_semi_row_whose_first_two_probabilities_are_zero_gives_nothing() -> None:
    spatial = [distribution(ACTION_GENOME.groups[1].predicates, 0.0, in_front_of=0.95)]
    frame = truth((1, "in_front_of", 0))
    assert figures((frame, predictions(spatial=spatial)))["semi"]["R@10"] == 0.0
    assert figures((frame, predictions(spatial=spatial)))["with"]["R@10"] == 1.0


def test_a_spatial_relation_runs_from_the_object_to_the_person() -> None:
    for found in figures((truth((0, "in_front_of", 1)), predictions())).values():
        assert found["R@50"] == 0.0
    for found in figures((truth((1, "in_front_of", 0)), predictions())).values():
        assert found["R@50"] == 1.0


def test_triplets_of_a_frame_rank_by_the_product_of_all_scores() -> None:
    two_pairs = {
        "boxes": BOXES,
        "labels": [PERSON, TABLE, CUP],
        "pairs": [[0, 1], [0, 2]],
        "attention": [[0.6, 0.3, 0.1], [0.9, 0.1, 0.0]],
        "spatial": np.zeros((2, 6)),
        "contacting": np.zeros((2, 17)),
    }
    frame = truth((0, "looking_at", 1), boxes=BOXES, labels=(PERSON, TABLE, CUP))
    likelier_object = predictions(**two_pairs, scores=[1.0, 0.8, 0.5])  # 0.48 against 0.45
    likelier_predicate = predictions(**two_pairs, scores=[1.0, 0.7, 0.5])  # 0.42 against 0.45
    relevant_pair = predictions(**two_pairs, scores=[1.0, 0.7, 0.5], relation_scores=[0.9, 0.8])  # 0.378, 0.36
    first = [
        figures((frame, predicted), recall_at=(1,))["with"]["R@1"]
        for predicted in (likelier_object, likelier_predicate, relevant_pair)
    ]
    assert first == [1.0, 0.0, 1.0]


def test_iou_counts_the_last_pixel_of_boxes() -> None:
    whole, half = np.array([[0.0, 0.0, 9.0, 9.0]]), np.array([[0.0, 0.0, 4.0, 9.0]])
    assert intersection_over_union(whole, half) == exactly(0.5)
    # Without that pixel it would be 36 / 81, and the relation would be missed.
    frame = truth((0, "looking_at", 1), boxes=[*BOXES[:1], *whole])
    assert figures((frame, predictions(boxes=[*BOXES[:1], *half])))["with"]["R@10"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [PERSON, CUP]},
        {"labels": [CUP, TABLE]},
        {"boxes": BOXES[[0, 2]]},
        {"boxes": BOXES[[2, 1]]},
        {"attention": [[0.1, 0.8, 0.1]]},
    ],
    ids=["object class", "subject class", "object box", "subject box", "predicate"],
)
def test_a_triplet_matches_only_with_equal_classes_predicate_and_boxes(changes: dict[str, Any]) -> None:
    assert figures((truth((0, "looking_at", 1)), predictions(**changes)))["with"]["R@10"] == 0.0


def test_one_triplet_may_match_two_relations_and_two_triplets_one_relation() -> None:
    relations = (0, "looking_at", 1), (0, "looking_at", 2)
    twice_annotated = truth(*relations, boxes=BOXES[[0, 1, 1]], labels=[PERSON, TABLE, TABLE])
    found = figures((twice_annotated, predictions()))["with"]
    assert (found["R@10"], found["P@10"]) == exactly((1.0, 1 / 3))
    twice = np.repeat(predictions().predicate_scores, 2, axis=0)
    twice_predicted = predictions(pairs=[[0, 1], [0, 1]], predicate_scores=twice)
    found = figures((truth((0, "looking_at", 1)), twice_predicted))["with"]
    assert (found["R@10"], found["mR@10"], found["P@10"]) == exactly((1.0, 1 / 26, 2 / 6))


def test_a_frame_without_predictions_counts_as_missed() -> None:
    frame = truth((0, "looking_at", 1))
    for found in figures((frame, predictions()), (frame, FramePredictions.none())).values():
        assert found["R@50"] == exactly(1 / 2)
        assert found["mR@50"] == exactly(1 / 2 / 26)
    found = figures((frame, predictions()), (frame, FramePredictions.none()))["with"]
    assert found["P@10"] == exactly(1 / 3 / 2)


def test_a_semi_constraint_may_leave_a_frame_without_triplets() -> None:
    unsure = predictions(attention=[[0.0, 0.0, 1.0]], spatial=np.full((1, 6), 0.5), contacting=np.full((1, 17), 0.5))
    found = figures((truth((0, "unsure", 1)), unsure))
    assert (found["semi"]["R@10"], found["semi"]["P@10"], found["with"]["R@10"]) == (0.0, 0.0, 1.0)


def test_a_frame_without_annotated_relations_is_left_out() -> None:
    frame = truth((0, "looking_at", 1))
    assert figures((frame, predictions()), (truth(), predictions())) == figures((frame, predictions()))
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        figures((truth(), predictions()))


def test_recall_is_a_mean_over_frames_and_mean_recall_is_pooled() -> None:
    # looking_at: found in 1 of 1 and in 0 of 3 relations
    missed = truth(*[(0, "looking_at", 1)] * 3, (0, "holding", 1))
    holding = predictions(
        attention=[[0.1, 0.8, 0.1]],
        contacting=[distribution(ACTION_GENOME.groups[2].predicates, 0.0, holding=1.0)],
        spatial=np.zeros((1, 6)),
    )
    found = figures((truth((0, "looking_at", 1)), predictions()), (missed, holding))["with"]
    assert found["R@10"] == exactly((1 + 1 / 4) / 2)
    assert found["mR@10"] == exactly((1 / 4 + 1 / 1) / 26)


def test_recall_by_predicate_is_pooled_over_all_frames() -> None:
    # Looked at in three frames, once unseen and once without a prediction; held in one; never eaten.
    evaluator = Evaluator((1, 2))
    held = truth((0, "looking_at", 1), (0, "holding", 1))
    evaluator.add(held, predictions())  # with: in_front_of, touching, looking_at; no: in_front_of, behind
    looked_at = predictions(attention=[[0.99, 0.01, 0.0]])
    evaluator.add(truth((0, "looking_at", 1)), looked_at)
    evaluator.add(truth((0, "looking_at", 1)), FramePredictions.none())
    found = evaluator.recall_by_predicate()
    assert list(found) == ["with", "semi", "no", "top6"]
    assert found["with"] == {
        "R@1": {"looking_at": exactly(1 / 3), "holding": 0.0},
        "R@2": {"looking_at": exactly(1 / 3), "holding": 0.0},
    }


def test_mean_recall_is_the_mean_of_recall_by_predicate_over_all_26() -> None:
    evaluator = Evaluator((2, 10, 50))
    for ground_truth in (ALL_FOUR, truth((0, "holding", 1)), truth((1, "above", 0))):
        evaluator.add(ground_truth, predictions())
    result, found = evaluator.result(), evaluator.recall_by_predicate()
    assert sorted(found["no"]["R@50"]) == ["above", "behind", "holding", "in_front_of", "looking_at"]
    for constraint, by_metric in found.items():
        for metric, by_predicate in by_metric.items():
            assert sum(by_predicate.values()) / 26 == exactly(result[constraint][f"m{metric}"])


def test_of_equal_scores_the_later_candidate_ranks_first() -> None:
    certain = predictions(
        attention=[[1.0, 0.0, 0.0]],
        spatial=[distribution(ACTION_GENOME.groups[1].predicates, 0.0, above=1.0)],
        contacting=[distribution(ACTION_GENOME.groups[2].predicates, 0.0, carrying=1.0)],
    )
    assert figures((truth((0, "carrying", 1)), certain), recall_at=(1,))["with"]["R@1"] == 1.0
    assert figures((truth((0, "looking_at", 1)), certain), recall_at=(1,))["with"]["R@1"] == 0.0


def test_scores_join_as_the_bundle_says() -> None:
    # Two pairs: one with the likelier predicate, one that matters more.
    two_pairs = {
        "boxes": BOXES,
        "labels": [PERSON, TABLE, CUP],
        "scores": [1.0, 1.0, 1.0],
        "pairs": [[0, 1], [0, 2]],
        "attention": [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]],
        "spatial": np.zeros((2, 6)),
        "contacting": np.zeros((2, 17)),
        "relation_scores": [0.5, 0.75],
    }
    frame = truth((0, "looking_at", 1), boxes=BOXES, labels=(PERSON, TABLE, CUP))

    def first(scoring: Scoring) -> float:
        evaluator = Evaluator((1,), scoring=scoring)
        evaluator.add(frame, predictions(**two_pairs))
        return evaluator.result()["with"]["R@1"]

    assert first(Scoring()) == 0, "0.8 x 0.5 against 0.6 x 0.75"
    assert first(Scoring(relation_exponent=0)) == 1, "0.8 against 0.6"
    assert first(Scoring(relation_exponent=0.5)) == 1, "0.566 against 0.520"
    assert first(Scoring(predicate_temperature=3)) == 0, "0.985 x 0.5 against 0.771 x 0.75"
    assert first(Scoring(predicate_temperature=3, relation_exponent=0.5)) == 1, "0.696 against 0.668"


def test_groups_of_another_vocabulary_have_their_own_direction_and_exclusiveness() -> None:
    # place (exclusive, from the object): over, under, beside; action: lifting, pushing
    person, crate = SMALL_WORLD.object_index["person"], SMALL_WORLD.object_index["crate"]

    def frame(subject: int, predicate: str, thing: int) -> FrameGroundTruth:
        relation = [[subject, thing, SMALL_WORLD.predicate_index[predicate]]]
        return FrameGroundTruth(BOXES[:2], np.array([person, crate]), np.array(relation), SMALL_WORLD)

    said = FramePredictions(
        BOXES[:2], np.array([person, crate]), np.ones(2), np.array([[0, 1]]), np.array([[0.5, 0.95, 0.3, 0.92, 0.91]]),
        vocabulary=SMALL_WORLD,
    )  # fmt: skip
    found = {}
    for annotated in ((1, "under", 0), (0, "under", 1), (1, "over", 0), (0, "lifting", 1), (0, "pushing", 1)):
        evaluator = Evaluator((5,), SMALL_WORLD)
        evaluator.add(frame(*annotated), said)
        found[annotated[:2]] = [evaluator.result()[name]["R@5"] for name in ("with", "semi", "no", "top6")]
    assert found == {
        (1, "under"): [1, 1, 1, 1],
        (0, "under"): [0, 0, 0, 0],  # the wrong way round
        (1, "over"): [0, 0, 1, 1],  # the second of an exclusive group
        (0, "lifting"): [1, 1, 1, 1],
        (0, "pushing"): [0, 1, 1, 1],
    }


def test_frames_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(EvaluationError, match="FramePredictions has another vocabulary than the evaluator"):
        figures((truth((0, "looking_at", 1)), FramePredictions.none(SMALL_WORLD)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": BOXES[:1]}, "1 boxes but 2 labels"),
        ({"boxes": BOXES[:2, :3]}, r"boxes must have shape \(any, 4\), but has \(2, 3\)"),
        ({"boxes": [[0, 0, np.nan, 1], [0, 0, 1, 1]]}, "boxes holds a value that is not finite"),
        ({"labels": [0, 36]}, "labels holds 36: object classes lie in 0 to 35"),
        ({"labels": [0.0, 1.0]}, "labels must hold integers, but holds float64"),
        ({"pairs": [[0, 2]]}, "pairs holds 2: indices of boxes lie in 0 to 1"),
        ({"scores": [0.5]}, "scores must have 2 rows, but has 1"),
        ({"attention": [[0.5, 0.5]]}, r"predicate_scores must have shape \(any, 26\)"),
        ({"spatial": [[-3.0, 0, 0, 0, 0, 0]]}, "predicate_scores holds -3.0: probabilities lie in 0 to 1"),
        ({"contacting": np.full((1, 17), np.nan)}, "predicate_scores holds nan"),
        ({"predicate_scores": np.zeros((2, 26))}, "predicate_scores must have 1 rows, but has 2"),
        ({"relation_scores": [0.5, 0.5]}, "relation_scores must have 1 rows, but has 2"),
    ],
)
def test_malformed_predictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        predictions(**changes)


def test_malformed_ground_truth_and_settings_are_refused() -> None:
    with pytest.raises(EvaluationError, match="relations holds 5: indices of boxes lie in 0 to 1"):
        truth((0, "looking_at", 5))
    with pytest.raises(EvaluationError, match="relations holds 26: predicates lie in 0 to 25"):
        FrameGroundTruth(BOXES[:2], np.array([0, 1]), np.array([[0, 1, 26]]))
    with pytest.raises(EvaluationError, match=r"recall_at is \(10, 200\)"):
        Evaluator((10, 200))


def test_evaluating_imports_no_torch() -> None:
    code = "import sys, training.commands.evaluate, training.evaluation; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
