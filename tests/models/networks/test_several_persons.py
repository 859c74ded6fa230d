"""Several persons in a frame: each is paired with what is near it, and relations tell them apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME
from models.networks.detectors import Detector
from models.networks.detectors.candidates import Regions
from models.networks.detectors.pairing import pair_up
from models.networks.two_stage import TwoStage, TwoStageConfig
from tests.support.networks import (
    RELATION_CONFIGS,
    make_lively,
    run_network,
    tiny_detector,
    tiny_relations,
    tiny_two_stage,
)

LEFT_PERSON, RIGHT_PERSON = (2.0, 10.0, 14.0, 60.0), (48.0, 12.0, 60.0, 60.0)
LEFT_TABLE, RIGHT_TABLE = (10.0, 40.0, 22.0, 60.0), (42.0, 40.0, 54.0, 60.0)
TABLE = ACTION_GENOME.object_index["table"]
CLASSES = 1 + len(ACTION_GENOME.objects)
FRAMES, TIMES = torch.zeros(1, 3, 64, 64, 3, dtype=torch.uint8), torch.arange(3.0)[None]


def two_at_two_tables(hidden: tuple[int, ...] = ()) -> Regions:
    """Three frames in which two persons stand each at a table of their own: left and right person, left and right
    table, but those that are hidden.
    """
    boxes = torch.tensor((LEFT_PERSON, RIGHT_PERSON, LEFT_TABLE, RIGHT_TABLE)).expand(3, 4, 4).clone()
    boxes += torch.arange(3.0)[:, None, None]  # all move a little
    probabilities = torch.zeros(3, 4, CLASSES)
    probabilities[:, 0, 1], probabilities[:, 1, 1] = 0.8, 0.9
    probabilities[:, 2, 1 + TABLE], probabilities[:, 3, 1 + TABLE] = 0.7, 0.6
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[:, list(hidden)] = False
    features = torch.randn(4, 24, generator=torch.Generator().manual_seed(1)).expand(3, 4, 24)
    return Regions(boxes, mask, features, probabilities, torch.zeros(3, 4, CLASSES, 4))


def show(detector: Detector, regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "propose", lambda maps: (regions.boxes, regions.mask))
    monkeypatch.setattr(detector, "classify", lambda *_: regions)


def network_for(name: str, persons: int) -> TwoStage:
    """The same weights, whatever the number of persons."""
    config = tiny_two_stage(name)
    network = make_lively(config)
    several = TwoStage(TwoStageConfig(tiny_detector(persons=persons), tiny_relations(name))).eval()
    several.load_state_dict(network.state_dict())
    return several


@torch.inference_mode()
def run(network: TwoStage) -> dict[str, Tensor]:
    return {name: each[0] for name, each in run_network(network, FRAMES, TIMES).items()}


@pytest.mark.parametrize("name", RELATION_CONFIGS)
def test_both_of_two_persons_at_two_tables_have_their_relations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_for(name, persons=2)
    show(network.detector, two_at_two_tables(), monkeypatch)
    said = PairPredictions.from_tensors({key: each.numpy() for key, each in run(network).items()}, ACTION_GENOME)
    for time in range(3):
        joined = {
            (round(float(person[0] * 64)) - time, round(float(thing[0] * 64)) - time)
            for person, thing in zip(
                said.subject_boxes[time][said.pair_mask[time]],
                said.object_boxes[time][said.pair_mask[time]],
                strict=True,
            )
        }
        assert joined == {(2, 10), (48, 42)}, "each with the table at which they stand"
    assert sorted(set(said.subject_scores[said.pair_mask].tolist())) == pytest.approx([0.8, 0.9])
    assert (said.object_scores.argmax(-1)[said.pair_mask] == TABLE).all()
    assert (said.predicate_scores[said.pair_mask].max(-1) > 0).all()


@pytest.mark.parametrize("name", ["tr2", "mosa"])
def test_a_trajectory_does_not_see_the_other_persons_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the encoder of a frame, in which all pairs look at each other, a person's pairs are as if alone.
    one, two = (network_for(name, persons) for persons in (1, 2))
    for network in (one, two):
        network.relations.encoder.layers = torch.nn.ModuleList()  # type: ignore[union-attr]
        if name == "mosa":
            monkeypatch.setattr(network.relations.fusion, "forward", lambda spatial, motion, mask: spatial + motion)
    show(one.detector, two_at_two_tables(hidden=(0, 2)), monkeypatch)
    show(two.detector, two_at_two_tables(), monkeypatch)
    alone, together = run(one), run(two)
    for time in range(3):
        right = together["pair_mask"][time] & (together["subject_scores"][time] > 0.85)
        same = alone["pair_mask"][time] & (alone["object_boxes"][time, :, 0] > 0.5)
        assert right.sum() == same.sum() == 1
        for group in ACTION_GENOME.group_names:
            torch.testing.assert_close(together[group][time][right], alone[group][time][same])


@pytest.mark.parametrize("name", ["sttran", "tr2"])
def test_a_frame_with_one_person_has_the_same_pairs_however_many_there_may_be(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = network_for(name, persons=1), network_for(name, persons=2)
    # The left table is far from the right person, who is nevertheless the nearest.
    alone = two_at_two_tables(hidden=(0,))
    for network in (one, two):
        show(network.detector, alone, monkeypatch)
    first, second = run(one), run(two)
    assert first["pair_mask"].sum() == 6
    assert all(torch.equal(first[key], second[key]) for key in first if not key.startswith("union"))


def test_two_regions_of_one_person_are_not_two_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_lively(tiny_detector(persons=2))
    regions = two_at_two_tables()
    doubled = regions.boxes.clone()
    doubled[:, 0] = doubled[:, 1] + 1
    show(detector, replace(regions, boxes=doubled), monkeypatch)
    with torch.inference_mode():
        pairs = detector.pairs(FRAMES, TIMES)
    assert pairs.mask.any()
    assert pairs.subject_scores[pairs.mask].tolist() == pytest.approx([0.9] * int(pairs.mask.sum()))


def test_one_subject_has_every_object_in_order() -> None:
    objects = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0)) * 60
    whose, which, near = pair_up(
        torch.tensor([[LEFT_PERSON]]).expand(2, 1, 4), torch.tensor([[True], [False]]), objects
    )
    assert whose.tolist() == [[0] * 5] * 2
    assert which.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert near.all()


def test_what_stands_between_two_persons_is_paired_with_both() -> None:
    between, far = (20.0, 20.0, 44.0, 60.0), (90.0, 20.0, 95.0, 60.0)
    subjects = torch.tensor([[LEFT_PERSON, RIGHT_PERSON]])
    whose, which, near = pair_up(subjects, torch.tensor([[True, True]]), torch.tensor([[far, between, far]]))
    assert list(zip(which[0].tolist(), whose[0].tolist(), strict=True)) == [(0, 1), (1, 0), (1, 1)]
    assert near.all()


def test_a_subject_that_was_not_found_is_near_nothing() -> None:
    subjects = torch.tensor([[RIGHT_PERSON, LEFT_PERSON]])
    whose, which, near = pair_up(subjects, torch.tensor([[True, False]]), torch.tensor([[LEFT_TABLE, RIGHT_TABLE]]))
    assert (whose[0].tolist(), which[0].tolist(), near[0].tolist()) == ([0, 0], [0, 1], [True, True])
