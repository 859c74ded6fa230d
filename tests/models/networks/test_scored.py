"""RS-Net on any host: it adds scores and changes nothing else; with a frozen host it alone learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export.check import sample_frames
from models.errors import ConfigurationError
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME
from models.networks.arn import Arn
from models.networks.relations.pairs import Pairs
from models.networks.scored import Host, HostConfig, Scored, ScoredConfig
from models.networks.two_stage import TwoStage
from tests.support.networks import detector_of, make_lively, run_network, tiny, tiny_scored, tiny_scorer, tiny_two_stage

HOSTS: dict[str, HostConfig] = {
    "arn": tiny(),
    "arn with proposals": tiny(dense_proposals=True, region_grid=2, sigmoid_classes=True),
    "sttran": tiny_two_stage("sttran"),
    "fremure": tiny_two_stage("fremure-gmm"),
}


@pytest.fixture(params=HOSTS)
def scored(request: pytest.FixtureRequest) -> Scored:
    return make_lively(tiny_scored(HOSTS[request.param]))


def video(batch: int, time: int) -> tuple[Tensor, Tensor]:
    frames = torch.from_numpy(sample_frames(np.random.default_rng(5), batch, time, 64, 64))
    return frames, torch.arange(time).float().expand(batch, -1) / 2


def seen_by(host: Host, frames: Tensor, timestamps: Tensor) -> Tensor | Pairs:
    """What the host's `forward` takes."""
    return detector_of(host).pairs(frames, timestamps) if isinstance(host, TwoStage) else frames


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 3)])
def test_the_scorer_adds_scores_and_changes_no_bit_of_what_the_host_says(scored: Scored, batch: int, time: int) -> None:
    frames, timestamps = video(batch, time)
    with torch.inference_mode():
        alone, both = run_network(scored.host, frames, timestamps), run_network(scored, frames, timestamps)
    scores, mask = both.pop("relation_scores"), both["pair_mask"]
    assert all(torch.equal(both[name], alone[name]) for name in alone)
    assert (scores[~mask] == 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    if batch == 2:
        assert scores[mask].std() > 1e-3
        outputs = {name: each.numpy() for name, each in (both | {"relation_scores": scores}).items()}
        assert PairPredictions.from_outputs(outputs, ACTION_GENOME).relation_scores is not None


def test_forward_gives_the_hosts_output_and_the_logits_behind_the_scores(scored: Scored) -> None:
    frames, timestamps = video(1, 3)
    with torch.inference_mode():
        seen = seen_by(scored.host, frames, timestamps)
        output, logits = scored(seen)
        scores = run_network(scored, frames, timestamps)["relation_scores"]
        assert torch.equal(output.representation, scored.host(seen).representation)
    torch.testing.assert_close(scored.scorer.scores(logits), scores)


def test_a_scored_network_takes_its_sizes_from_the_host(scored: Scored) -> None:
    assert scored.frame_size == scored.host.frame_size == (64, 64)
    assert scored.clip_length == scored.host.clip_length
    assert scored.slots_are_ranked == scored.host.slots_are_ranked
    assert [stage.span for stage in scored.stages()] == [
        *(stage.span for stage in scored.host.stages()),
        "clip",
        "video",
    ]


def train_a_little(scored: Scored) -> dict[str, bool]:
    """Two steps in which everything that may move does; whether each tensor of the state has moved."""
    before = {name: value.clone() for name, value in scored.state_dict().items()}
    frames, timestamps = video(2, 3)
    scored.train()
    optimizer = torch.optim.SGD([each for each in scored.parameters() if each.requires_grad], 0.1)
    for _ in range(2):
        with torch.no_grad():
            seen = seen_by(scored.host, frames, timestamps)
        output, logits = scored(seen)
        loss = logits[..., 1][logits[..., 1] > -1e3].mean()
        if output.representation.requires_grad:
            loss = loss + output.representation.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: not torch.equal(value, before[name]) for name, value in scored.state_dict().items()}


def test_with_a_frozen_host_only_the_scorer_learns(scored: Scored) -> None:
    scored.freeze_host()
    moved = train_a_little(scored)
    assert not any(changed for name, changed in moved.items() if not name.startswith("scorer.")), "statistics too"
    assert any(moved[f"scorer.{name}"] for name, _ in scored.scorer.named_parameters())
    assert scored.scorer.training
    assert not any(module.training for module in scored.host.modules())


def test_with_an_unfrozen_host_all_but_the_detector_learns(scored: Scored) -> None:
    moved = train_a_little(scored)
    assert any(changed for name, changed in moved.items() if name.startswith("host.") and "running_mean" in name)
    assert not any(changed for name, changed in moved.items() if name.startswith("host.detector."))
    scored.eval()
    assert not any(module.training for module in scored.modules())


def test_a_scorer_sees_only_the_pairs_that_are_shown(scored: Scored) -> None:
    frames, timestamps = video(1, 3)
    seen = seen_by(scored.host, frames, timestamps)
    with torch.no_grad():
        output, _ = scored.eval()(seen)
        described = scored.describe(seen, output)
        shown = described.mask & (torch.arange(described.mask.shape[-1]) < 2)
        said, logits = scored(seen, shown)
        alone, wanted = scored(replace(described, mask=shown))
    assert alone is None, "the host was not asked"
    torch.testing.assert_close(logits, wanted)
    torch.testing.assert_close(said.representation, output.representation)
    assert (logits[~shown][:, 1] < -1e3).all()
    assert (logits[shown][:, 1] > -1e3).all()


def test_a_given_host_network_is_used_without_copying() -> None:
    host = Arn(tiny())
    assert Scored(tiny_scored(host.config), host=host).host is host


@pytest.mark.parametrize(("name", "width"), [("arn", 160), ("sttran", 32)])
def test_a_scorer_of_another_width_is_refused(name: str, width: int) -> None:
    config: dict[str, Any] = {"host": HOSTS[name], "scorer": tiny_scorer(input_width=31)}
    with pytest.raises(
        ConfigurationError,
        match=f"scorer.input_width is 31, but the host represents a pair by {width} numbers",
    ):
        Scored(ScoredConfig(**config))
