"""Rows that score a network in their own way, and pairs that only the whole video tells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.graph.predictions import PairPredictions
from models.networks.scored import ScoredConfig
from tests.support.networks import make_lively, tiny_scorer, tiny_two_stage
from tests.training.test_ablation import video_of
from training.ablation.scoring import Scorer, Twins
from training.configuration import TrainingConfig
from training.data.action_genome import AnnotatedVideo


def test_leaving_relation_scores_out_is_an_exponent_of_nothing(puppets: Path) -> None:
    host = tiny_two_stage()
    network = make_lively(ScoredConfig(host, tiny_scorer()))
    config = TrainingConfig(name="x", data=puppets, output=puppets, model=host.relations)
    scorer = Scorer(puppets)
    _, _, ranked = scorer(network, config)
    _, _, unranked = scorer(network, config, ranks=False)
    assert (ranked.relation_exponent, unranked.relation_exponent) == (1, 0)
    assert ranked.predicate_temperature == unranked.predicate_temperature == 1


def test_pairs_that_only_the_video_tells_are_ranked_by_relation_scores(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    pair = {"class": "book", "used": [0, 0, 32, 32], "unused": [32, 32, 64, 64]}
    told = {f"v.mp4/{number:06d}.png": pair for number in (0, 12)}
    (tmp_path / "annotations" / "told_by_video.json").write_text(json.dumps(told))
    twins = Twins(tmp_path)
    frame = video_of({"cup": "holding"}).frames[0]
    frames = [replace(frame, path=Path(f"frames/v.mp4/{number:06d}.png")) for number in (0, 12)]
    boxes = np.array([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]] * 2, np.float32)
    ones = np.ones((2, 2), np.float32)
    predictions = PairPredictions(
        np.ones((2, 2), np.bool_), boxes, ones, boxes, np.ones((2, 2, 36), np.float32),
        np.ones((2, 2, 26), np.float32), np.array([[0.9, 0.8], [0.4, 0.5]], np.float32),
    )  # fmt: skip
    twins.add(AnnotatedVideo("v", frames), predictions)
    # Ranked: used, unused, unused, used.
    assert twins.figures() == {"video": {"AP": pytest.approx((1 + 2 / 4) / 2)}}
    assert Twins(tmp_path / "elsewhere").figures() == {}
