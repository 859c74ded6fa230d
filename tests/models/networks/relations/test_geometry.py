"""Numbers that two boxes give."""

import torch

from models.networks.relations.geometry import GEOMETRY, MOTION, PLACES, pair_geometry, pair_motion, places

PERSON = torch.tensor([10.0, 20.0, 50.0, 120.0])
CUP = torch.tensor([60.0, 60.0, 70.0, 80.0])


def test_a_larger_picture_changes_no_geometry() -> None:
    geometry = pair_geometry(PERSON, CUP)
    assert geometry.shape == (GEOMETRY,)
    torch.testing.assert_close(pair_geometry(3 * PERSON, 3 * CUP), geometry)


def test_offsets_and_gaps_are_in_heights_of_the_subject() -> None:
    geometry = pair_geometry(PERSON, CUP)
    torch.testing.assert_close(geometry[:2], torch.tensor([0.35, 0.0]))  # centres (30, 70) and (65, 70), height 100
    torch.testing.assert_close(geometry[3:5], torch.tensor([0.1, 0.0]))  # 50 to 60 along x, overlapping along y


def test_boxes_of_one_place_have_all_their_area_in_common() -> None:
    geometry = pair_geometry(PERSON, PERSON)
    torch.testing.assert_close(geometry[-4:-1], torch.ones(3))  # IoU and both shares


def test_boxes_without_area_give_finite_numbers() -> None:
    point = torch.tensor([5.0, 5.0, 5.0, 5.0])
    assert pair_geometry(point, point).isfinite().all()


def test_places_are_fractions_of_a_known_picture_and_zeros_of_an_unknown_one() -> None:
    size, known, unknown = torch.tensor([200.0, 200.0]), torch.tensor([True]), torch.tensor([False])
    found = places(PERSON, CUP, size, known)
    assert found.shape == (PLACES,)
    torch.testing.assert_close(found[:4], PERSON / 200)
    assert found[-1] == 1
    assert not places(PERSON, CUP, torch.zeros(2), unknown).any()


def test_motion_is_zero_on_the_side_that_was_not_seen() -> None:
    still = PERSON.expand(3, 4)
    moving = torch.stack((CUP - 10, CUP, CUP + 10))
    motion = pair_motion(still, moving, torch.tensor([True, False]))
    assert motion.shape == (MOTION,)
    # Of the subject, of the object, and of the object as seen from the subject; 10 px are a tenth of the height.
    torch.testing.assert_close(motion[:7], torch.tensor([0.0, 0.0, 0.1, 0.1, 0.1, 0.1, 1.0]))
    assert not motion[7:].any()


def test_scaled_motion_is_larger_up_to_a_limit() -> None:
    still = PERSON.expand(3, 4)
    moving = torch.stack((CUP - 10, CUP, CUP + 80))  # a tenth of the height, then eight tenths
    motion = pair_motion(still, moving, torch.tensor([True, True]), 10)
    torch.testing.assert_close(motion[2:4], torch.ones(2))
    assert motion[6] == motion[13] == 1, "whether a side was seen is not scaled"
    assert motion[9:11].tolist() == [4, 4]
