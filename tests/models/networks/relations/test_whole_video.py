"""Relation networks that see whole videos: the same as over clips, in memory that grows with the frames alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import ConfigurationError
from models.networks.relations.motion import previous_occurrences, previous_occurrences_in_video
from models.networks.relations.pairs import Pairs
from models.networks.relations.temporal import REACH
from models.networks.relations.trajectories import follow, sort_trajectories
from models.networks.two_stage import TwoStageConfig, make_relation_network
from tests.models.networks.relations.samples import largest_export_difference, lively, random_pairs
from tests.support.networks import tiny_detector, tiny_relations

NAMES = ("sttran", "tr2", "mosa", "fremure-linear")


@pytest.mark.parametrize("name", NAMES)
def test_a_video_as_long_as_a_clip_is_decoded_alike(name: str) -> None:
    over_clips = lively(make_relation_network(tiny_relations(name)))
    over_video = make_relation_network(tiny_relations(name, whole_video=True)).eval()
    over_video.load_state_dict(over_clips.state_dict())
    pairs = random_pairs(over_clips.config, 2, 9)
    with torch.inference_mode():
        first, second = over_clips(pairs), over_video(pairs)
    torch.testing.assert_close(second.decoded[pairs.mask], first.decoded[pairs.mask], atol=2e-5, rtol=1e-5)
    assert first.decoded[pairs.mask].std() > 0.1


def test_sorted_trajectories_are_those_of_clips() -> None:
    pairs = random_pairs(tiny_relations(), 3, 7)
    dense, in_order = follow(pairs), sort_trajectories(pairs)
    real = pairs.mask.flatten(1)
    for name in ("position", "previous", "first"):
        assert torch.equal(getattr(dense, name)[real], getattr(in_order, name)[real]), name
    identity = in_order.identity
    same = (identity[:, :, None] == identity[:, None]) & (identity > 0)[:, None]
    assert torch.equal(same & real[:, :, None], dense.same)


def test_earlier_occurrences_are_those_of_clips() -> None:
    pairs = random_pairs(tiny_relations(), 3, 8, seed=4)
    (slots, seen), (dense_slots, dense_seen) = previous_occurrences_in_video(pairs), previous_occurrences(pairs)
    real = pairs.mask.flatten(1)
    assert torch.equal(seen[real], dense_seen[real])
    assert torch.equal(slots[real], dense_slots[real])
    assert 0 < seen[real].float().mean() < 1


def test_in_a_long_video_a_pair_sees_as_far_as_promised_and_not_the_whole() -> None:
    network = lively(make_relation_network(tiny_relations("tr2", whole_video=True, decoder_layers=1)))
    time = 4 * REACH
    pairs = only_one_class(random_pairs(network.config, 1, time, slots=2, filled=1.0))
    middle = time // 2

    def changed(frame: int) -> bool:
        features = pairs.object_features.clone()
        features[0, frame] += 3
        with torch.inference_mode():
            before, after = network(pairs), network(replace(pairs, object_features=features))
        return not torch.allclose(before.decoded[0, middle], after.decoded[0, middle], atol=1e-6)

    assert changed(middle - REACH // 2 + 1), "two pairs a frame: REACH pairs are half as many frames"
    assert changed(middle + REACH // 2 - 1)
    assert not changed(0), "memory is bounded"


def only_one_class(pairs: Pairs) -> Pairs:
    scores = torch.zeros_like(pairs.object_scores)
    scores[..., 5] = 1
    return replace(pairs, object_scores=scores)


def test_it_is_exported_for_any_length(tmp_path: Path) -> None:
    network = lively(make_relation_network(tiny_relations("mosa", whole_video=True)))
    assert largest_export_difference(network, tmp_path, [(1, 1), (1, 40), (2, 5)]) < 1e-4


def test_several_subjects_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"follows one subject, but detector\.persons is 2"):
        TwoStageConfig(tiny_detector(persons=2), tiny_relations("tr2", whole_video=True))
