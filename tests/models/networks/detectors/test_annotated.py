"""Pairs with annotated boxes in them: what was missed is supplied for training, and given boxes are taken as given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.networks.detectors import Detector
from models.networks.relations.pairs import Pairs
from models.networks.relations.representation import union_boxes

CORNER = torch.tensor((0.0, 0.0, 0.1, 0.1))
"""A box where nothing is found."""
FEATURES = ("subject_features", "object_features", "union_features")


def first_frame_with_pairs(found: Pairs) -> tuple[int, int]:
    clip, time = found.mask.all(-1).nonzero()[0].tolist()
    return clip, time


@torch.inference_mode()
def supplied(detector: Detector, frames: Tensor, boxes: list[Tensor], labels: list[int], mask: list[bool]) -> Pairs:
    """Of one frame; the first box is the person's."""
    return detector.supplied_pairs(
        frames[None, None], torch.zeros(1, 1), torch.stack(boxes)[None, None], torch.tensor([[[0, *labels]]]),
        torch.tensor([[[True, *mask]]]),
    )  # fmt: skip


@torch.inference_mode()
def features_of(detector: Detector, frame: Tensor, box: Tensor) -> Tensor:
    """The region feature (F,) of one box, a fraction of the frame."""
    maps = {"map": detector.feature_map(detector.normalise(frame[None]))}
    return detector.roi_heads.box_head(detector.roi_heads.box_roi_pool(maps, [box[None] * 64], [(64, 64)]))[0]


def test_exactly_the_missed_objects_follow_the_detected_ones(detector: Detector, frames: Tensor, found: Pairs) -> None:
    clip, time = first_frame_with_pairs(found)
    frame, person = frames[clip, time], found.subject_boxes[clip, time, 0]
    seen = found.object_boxes[clip, time, 1]
    # A detected one under a class of any name, a missed one, and one that is not annotated at all.
    pairs = supplied(detector, frame, [person, seen, CORNER, CORNER], [20, 7, 9], [True, True, False])
    assert pairs.mask[0, 0].tolist() == [True] * 4 + [False, True, False]
    for name in ("object_boxes", "object_scores", "object_features", "union_features"):
        torch.testing.assert_close(getattr(pairs, name)[0, 0, :4], getattr(found, name)[clip, time], msg=name)
        assert (getattr(pairs, name)[~pairs.mask] == 0).all(), name
    torch.testing.assert_close(pairs.object_boxes[0, 0, 5], CORNER)
    assert pairs.object_scores[0, 0, 5].nonzero().tolist() == [[7]]
    assert pairs.object_scores[0, 0, 5, 7] == 1
    torch.testing.assert_close(pairs.object_features[0, 0, 5], features_of(detector, frame, CORNER))
    torch.testing.assert_close(pairs.subject_boxes[0, 0], person.expand(7, 4))
    torch.testing.assert_close(pairs.subject_scores[0, 0], found.subject_scores[clip, time, :1].expand(7))


def test_a_person_that_was_not_found_is_replaced_by_the_annotated_one(
    detector: Detector, frames: Tensor, found: Pairs
) -> None:
    clip, time = first_frame_with_pairs(found)
    frame = frames[clip, time]
    pairs = supplied(detector, frame, [CORNER, CORNER + 0.5], [3], [True])
    torch.testing.assert_close(pairs.subject_boxes[0, 0], CORNER.expand(5, 4))
    assert (pairs.subject_scores[0, 0] == 1).all()
    torch.testing.assert_close(pairs.subject_features[0, 0], features_of(detector, frame, CORNER).expand(5, -1))
    # The regions around both change with the person.
    around = union_boxes(CORNER[None].expand(4, -1), found.object_boxes[clip, time])
    maps = {"map": detector.feature_map(detector.normalise(frame[None]))}
    wanted = detector.roi_heads.box_roi_pool(maps, [around * 64], [(64, 64)])
    torch.testing.assert_close(pairs.union_features[0, 0, :4], wanted, atol=1e-5, rtol=1e-5)


def test_a_frame_in_which_nobody_was_found_has_its_annotated_pairs(
    detector: Detector, frames: Tensor, found: Pairs
) -> None:
    clip, time = (~found.mask.any(-1)).nonzero()[0].tolist()
    person = found.subject_boxes[clip, time, 0]
    for box in (person, CORNER):  # where the best guess is right, and where it is not
        pairs = supplied(detector, frames[clip, time], [box, CORNER + 0.5], [3], [True])
        assert pairs.mask[0, 0].tolist() == [False] * 4 + [True]
        torch.testing.assert_close(pairs.subject_boxes[0, 0], box.expand(5, 4))


@pytest.fixture
def given(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (2, 8, 4, 4) and mask (2, 8, 4) in which the second is missing here and there."""
    random = torch.rand(2, 8, 4, 4, generator=torch.Generator().manual_seed(3))
    corner = random[..., :2] * 0.5
    mask = torch.ones(2, 8, 4, dtype=torch.bool)
    mask[:, ::2, 1] = False
    return torch.cat((corner, corner + 0.1 + random[..., 2:] * 0.4), -1), mask


@pytest.mark.parametrize("person_first", [True, False])
def test_given_boxes_are_the_pairs_and_the_persons_own_slot_stays_empty(
    detector: Detector, frames: Tensor, timestamps: Tensor, given: tuple[Tensor, Tensor], person_first: bool
) -> None:
    boxes, mask = given
    with torch.inference_mode():
        pairs = detector.given_pairs(frames, timestamps, boxes, mask, person_first=person_first)
    subjects = set()
    for clip, time in ((clip, time) for clip in range(2) for time in range(8)):
        heads, frame = detector.roi_heads, frames[clip, time]
        maps = {"map": detector.feature_map(detector.normalise(frame[None]))}
        with torch.inference_mode():
            features = heads.box_head(heads.box_roi_pool(maps, [boxes[clip, time] * 64], [(64, 64)]))
            scores = heads.box_predictor(features)[0].softmax(-1)
        likeness = [float(scores[slot, 1]) if mask[clip, time, slot] else -1.0 for slot in range(4)]
        subject = 0 if person_first else likeness.index(max(likeness))
        subjects.add(subject)
        wanted = [bool(mask[clip, time, slot]) and slot != subject for slot in range(4)]
        assert pairs.mask[clip, time].tolist() == wanted
        torch.testing.assert_close(pairs.subject_boxes[clip, time], boxes[clip, time, [subject] * 4])
        torch.testing.assert_close(pairs.subject_scores[clip, time], scores[[subject] * 4, 1])
        torch.testing.assert_close(pairs.subject_features[clip, time], features[[subject] * 4], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pairs.object_boxes[clip, time][wanted], boxes[clip, time][wanted])
        torch.testing.assert_close(pairs.object_features[clip, time][wanted], features[wanted], atol=1e-5, rtol=1e-5)
        of_things = scores[wanted, 2:] / scores[wanted, 2:].sum(-1, keepdim=True)
        torch.testing.assert_close(pairs.object_scores[clip, time][wanted][:, 1:], of_things)
    assert (pairs.object_scores[..., 0] == 0).all()
    assert subjects == {0} if person_first else len(subjects) > 1


def test_frames_without_given_boxes_have_no_pairs(
    detector: Detector, frames: Tensor, given: tuple[Tensor, Tensor]
) -> None:
    boxes, mask = given
    nothing = torch.zeros_like(mask)
    for person_first in (True, False):
        with torch.inference_mode():
            pairs = detector.given_pairs(frames, torch.zeros(2, 8), boxes, nothing, person_first=person_first)
        assert not pairs.mask.any()
        assert all(getattr(pairs, name).isfinite().all() for name in FEATURES)
