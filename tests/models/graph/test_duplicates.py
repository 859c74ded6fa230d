"""Near-duplicate slots of a frame are masked, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.graph.duplicates import box_containment, box_iou, find_leaders, suppress_duplicates
from models.graph.predictions import PairPredictions

PERSON = (0.1, 0.1, 0.4, 0.9)
CUP, CHAIR = 10, 7


def slots(*frames: list[tuple[int, tuple[float, ...], float, tuple[float, ...]]]) -> PairPredictions:
    """Frames of equally many (class, object box, object score, person box)."""
    T, P = len(frames), len(frames[0])
    classes = np.zeros((T, P, 36), dtype=np.float32)
    for t, frame in enumerate(frames):
        for p, (label, _, score, _) in enumerate(frame):
            classes[t, p, label] = score
    return PairPredictions(
        pair_mask=np.ones((T, P), dtype=np.bool_),
        subject_boxes=np.array([[slot[3] for slot in frame] for frame in frames], dtype=np.float32),
        subject_scores=np.ones((T, P), dtype=np.float32),
        object_boxes=np.array([[slot[1] for slot in frame] for frame in frames], dtype=np.float32),
        object_scores=classes,
        predicate_scores=np.zeros((T, P, 5), dtype=np.float32),
    )


def test_the_better_of_two_slots_on_one_thing_is_kept() -> None:
    said = slots([(CUP, (0.5, 0.5, 0.6, 0.6), 0.7, PERSON), (CUP, (0.5, 0.5, 0.6, 0.61), 0.9, PERSON)])
    assert suppress_duplicates(said, 0.5).pair_mask.tolist() == [[False, True]]


def test_the_first_of_two_equal_slots_is_kept() -> None:
    said = slots([(CUP, (0.5, 0.5, 0.6, 0.6), 0.9, PERSON)] * 2)
    assert suppress_duplicates(said, 0.5).pair_mask.tolist() == [[True, False]]


def test_another_class_on_the_same_box_is_kept() -> None:
    said = slots([(CUP, (0.5, 0.5, 0.6, 0.6), 0.7, PERSON), (CHAIR, (0.5, 0.5, 0.6, 0.6), 0.9, PERSON)])
    assert suppress_duplicates(said, 0.5).pair_mask.all()


def test_the_same_thing_of_two_people_is_kept_twice() -> None:
    other = (0.6, 0.1, 0.9, 0.9)
    said = slots([(CUP, (0.45, 0.5, 0.55, 0.6), 0.7, PERSON), (CUP, (0.45, 0.5, 0.55, 0.6), 0.9, other)])
    assert suppress_duplicates(said, 0.5).pair_mask.all()


def test_an_overlap_of_just_the_threshold_is_kept() -> None:
    said = slots([(CUP, (0, 0, 0.5, 0.5), 0.9, PERSON), (CUP, (0, 0, 0.5, 0.25), 0.8, PERSON)])
    assert suppress_duplicates(said, 0.5).pair_mask.all()
    assert suppress_duplicates(said, 0.49).pair_mask.tolist() == [[True, False]]


def test_a_suppressed_slot_suppresses_nothing() -> None:
    row = [(CUP, (0.1 * step, 0.0, 0.1 * step + 0.4, 1.0), 0.9 - 0.1 * step, PERSON) for step in range(3)]
    assert suppress_duplicates(slots(row), 0.5).pair_mask.tolist() == [[True, False, True]]


def test_the_relation_score_decides_between_equally_sure_slots() -> None:
    said = slots([(CUP, (0.5, 0.5, 0.6, 0.6), 0.9, PERSON)] * 2)
    said = replace(said, relation_scores=np.array([[0.2, 0.8]], dtype=np.float32))
    assert suppress_duplicates(said, 0.5).pair_mask.tolist() == [[False, True]]


def test_frames_do_not_suppress_each_other_and_masked_slots_stay_masked() -> None:
    frame = [(CUP, (0.5, 0.5, 0.6, 0.6), 0.9, PERSON), (CUP, (0.5, 0.5, 0.6, 0.6), 0.8, PERSON)]
    said = slots(frame, frame, frame)
    said.pair_mask[1, 0] = False
    said.pair_mask[2] = False
    assert suppress_duplicates(said, 0.5).pair_mask.tolist() == [[True, False], [False, True], [False, False]]


def test_suppression_does_not_change_its_input() -> None:
    said = slots([(CUP, (0.5, 0.5, 0.6, 0.6), 0.9, PERSON)] * 2)
    kept = suppress_duplicates(said, 0.5)
    assert said.pair_mask.all()
    assert kept.object_boxes is said.object_boxes


def test_videos_without_frames_or_slots_are_handled() -> None:
    empty = slots([(CUP, (0.5, 0.5, 0.6, 0.6), 0.9, PERSON)])
    for keep in (np.s_[:0], np.s_[:, :0]):
        arrays_ = {name: None if value is None else value[keep] for name, value in vars(empty).items()}
        assert suppress_duplicates(PairPredictions(**arrays_), 0.5).pair_mask.size == 0


@pytest.mark.parametrize("iou", [0.0, -0.1, 1.1])
def test_an_iou_outside_its_range_is_refused(iou: float) -> None:
    with pytest.raises(ValueError, match=r"iou must be in \(0, 1\]"):
        suppress_duplicates(slots([(CUP, PERSON, 0.9, PERSON)]), iou)


@given(
    arrays(np.float32, (3, 6, 4), elements=st.floats(0, 1, width=16)),
    arrays(np.float32, (3, 6), elements=st.floats(0, 1, width=16)),
    arrays(np.bool_, (3, 6)),
)
def test_grouping_is_that_of_plain_non_maximum_suppression(
    boxes: np.ndarray, scores: np.ndarray, mask: np.ndarray
) -> None:
    found = find_leaders(mask, scores, lambda rows, at: box_iou(boxes[rows], boxes[rows, at, None]) > 0.4)
    for t in range(3):
        expected = np.full(6, -1)
        for slot in np.argsort(-scores[t], kind="stable"):
            if mask[t, slot] and expected[slot] < 0:
                same = mask[t] & (expected < 0) & (box_iou(boxes[t], boxes[t, slot]) > 0.4)
                expected[same] = slot
                expected[slot] = slot
        assert found[t].tolist() == expected.tolist()


def test_iou_and_containment_of_known_boxes() -> None:
    whole, half, apart, flat = np.array([[0, 0, 2, 2], [0, 0, 1, 2], [5, 5, 6, 6], [1, 1, 1, 2]], dtype=float)
    assert box_iou(whole, half) == 0.5
    assert box_containment(whole, half) == 1
    assert box_iou(whole, apart) == 0
    assert box_iou(flat, flat) == box_containment(whole, flat) == 0
