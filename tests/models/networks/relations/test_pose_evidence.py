"""Hands, mouth, head, torso, hips and legs that shift the scores of predicates."""

import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME
from models.networks.pose import KEYPOINTS
from models.networks.relations.pose_evidence import PoseEvidence

COLUMNS = ACTION_GENOME.predicate_index
PERSON = torch.tensor([0.0, 0.0, 100.0, 200.0]).view(1, 1, 1, 4)
CUP = torch.tensor([120.0, 90.0, 140.0, 110.0]).view(1, 1, 1, 4)
SEAT = torch.tensor([20.0, 100.0, 90.0, 180.0]).view(1, 1, 1, 4)
UPRIGHT = {
    "nose": (60.0, 20.0), "left_ear": (50.0, 20.0), "right_ear": (50.0, 21.0),  # looks to the right
    "left_shoulder": (40.0, 50.0), "right_shoulder": (60.0, 50.0), 
    "left_hip": (40.0, 110.0), "right_hip": (60.0, 110.0),
    "mouth_left": (58.0, 30.0), "mouth_right": (58.0, 30.0),
    "left_wrist": (30.0, 110.0), "right_wrist": (10.0, 110.0), 
    "left_index": (30.0, 118.0), "right_index": (10.0, 118.0),
}  # fmt: skip


def pose(**moved: tuple[float, float]) -> Tensor:
    keypoints = torch.zeros(1, 1, 1, len(KEYPOINTS), 3)
    for name, place in (UPRIGHT | moved).items():
        keypoints[..., KEYPOINTS.index(name), :] = torch.tensor([*place, 1.0])
    return keypoints


def shifted(keypoints: Tensor, level: float = 0.5, thing: Tensor = CUP) -> dict[str, float]:
    scores = torch.full((1, 1, 1, len(COLUMNS)), level)
    found = PoseEvidence(ACTION_GENOME)(scores, keypoints, torch.zeros(1, 1, 1, dtype=torch.int64), PERSON, thing)
    return dict(zip(COLUMNS, found.flatten().tolist(), strict=True))


def test_a_hand_at_the_thing_speaks_for_holding_and_a_far_one_against_it() -> None:
    at_it, far = shifted(pose(right_wrist=(125.0, 100.0))), shifted(pose())
    assert at_it["holding"] > 0.7
    assert far["holding"] < 0.3
    assert at_it["not_contacting"] < 0.5 < far["not_contacting"]


def test_a_cup_at_the_mouth_is_drunk_from() -> None:
    cup = (125.0, 100.0)
    drinking = shifted(pose(mouth_left=cup, mouth_right=cup, right_wrist=cup))
    assert drinking["drinking_from"] > 0.7 > shifted(pose(right_wrist=cup))["drinking_from"]


def test_the_head_points_at_what_is_looked_at() -> None:
    away = pose(nose=(40.0, 20.0))
    assert shifted(pose())["looking_at"] > 0.55
    assert shifted(away)["looking_at"] < 0.45
    assert shifted(away)["not_looking_at"] > 0.55


def test_a_face_turned_to_the_camera_says_little_of_where_it_looks() -> None:
    front = pose(nose=(51.0, 20.0), left_ear=(40.0, 20.0), right_ear=(60.0, 20.0))
    assert abs(shifted(front)["looking_at"] - 0.5) < 0.05


def test_a_lying_torso_splits_lying_from_sitting() -> None:
    bed = torch.tensor([0.0, 40.0, 150.0, 200.0]).view(1, 1, 1, 4)
    lying = shifted(pose(left_hip=(110.0, 52.0), right_hip=(110.0, 52.0)), thing=bed)
    upright = shifted(pose(), thing=bed)
    assert lying["lying_on"] > 0.7 > 0.4 > lying["sitting_on"]
    assert upright["lying_on"] < 0.3 < 0.6 < upright["sitting_on"]


def test_nobody_sits_on_what_the_hips_are_far_from() -> None:
    beside = torch.tensor([150.0, 100.0, 220.0, 180.0]).view(1, 1, 1, 4)
    on_it, away = shifted(pose(), thing=SEAT), shifted(pose(), thing=beside)
    assert on_it["sitting_on"] > 0.6 > 0.1 > away["sitting_on"]
    assert away["lying_on"] < 0.05
    assert away["leaning_on"] == on_it["leaning_on"]


def test_who_stands_before_a_seat_does_not_sit_on_it() -> None:
    straight = shifted(pose(left_knee=(40.0, 160.0), right_knee=(60.0, 160.0)), thing=SEAT)
    bent = shifted(pose(left_knee=(40.0, 120.0), right_knee=(60.0, 120.0)), thing=SEAT)
    one_bent = shifted(pose(left_knee=(40.0, 120.0), right_knee=(60.0, 160.0)), thing=SEAT)
    assert straight["sitting_on"] < 0.2
    assert bent["sitting_on"] > 0.6
    assert one_bent["sitting_on"] == bent["sitting_on"]


def test_points_that_are_not_visible_change_nothing() -> None:
    hidden = pose()
    hidden[..., 2] = 0
    assert all(abs(score - 0.5) < 1e-6 for score in shifted(hidden).values())


def test_a_score_of_nothing_stays_nothing() -> None:
    assert shifted(pose(right_wrist=(125.0, 100.0)), level=0.0)["holding"] == 0


def test_each_pair_reads_the_pose_of_its_own_person() -> None:
    keypoints = torch.cat((pose(), pose(right_wrist=(125.0, 100.0))), 2)
    scores = torch.full((1, 1, 2, len(COLUMNS)), 0.5)
    persons = torch.tensor([[[0, 1]]])
    found = PoseEvidence(ACTION_GENOME)(scores, keypoints, persons, PERSON.expand(1, 1, 2, 4), CUP.expand(1, 1, 2, 4))
    first, second = found[0, 0, :, COLUMNS["holding"]].tolist()
    assert first < 0.3 < 0.7 < second
