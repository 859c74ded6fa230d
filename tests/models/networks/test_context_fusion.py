"""RS-Net's video token in the host's predicate classifiers, and the scorer as its authors' figures show it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.bundle import export_bundle
from export.check import check_bundle
from models.errors import ConfigurationError
from models.networks.checkpoint import save_checkpoint
from models.networks.rs_net import RelationScorer
from models.networks.scored import HostConfig, Scored, ScoredConfig
from models.networks.two_stage import TwoStage
from tests.models.networks.test_scored import seen_by, video
from tests.support.networks import make_lively, run_network, tiny, tiny_scored, tiny_scorer, tiny_two_stage

HOSTS: dict[str, HostConfig] = {
    "arn": tiny(),
    "sttran": tiny_two_stage("sttran"),
    "tr2 over whole videos": tiny_two_stage("tr2", whole_video=True),
    "fremure": tiny_two_stage("fremure-gmm"),
}
LIKE_THE_FIGURES = {"video_tokens": 1, "attention": "full", "frame_token": False, "reads_confidence": False}


def fused_config(host: HostConfig, **scorer: Any) -> ScoredConfig:
    plain = tiny_scored(host)
    return replace(plain, scorer=replace(plain.scorer, context_fusion=True, **scorer))


@pytest.fixture(params=HOSTS)
def fused(request: pytest.FixtureRequest) -> Scored:
    network = make_lively(fused_config(HOSTS[request.param]))
    assert network.fusion is not None
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        nn.init.normal_(network.fusion.output.weight, std=0.5)
    return network


def groups_of(network: Scored) -> tuple[str, ...]:
    return network.vocabulary.group_names


def test_before_training_a_host_says_what_it_says_alone(fused: Scored) -> None:
    assert fused.fusion is not None
    nn.init.zeros_(fused.fusion.output.weight)
    nn.init.zeros_(fused.fusion.output.bias)
    frames, timestamps = video(1, 3)
    with torch.inference_mode():
        alone, both = run_network(fused.host, frames, timestamps), run_network(fused, frames, timestamps)
    for group in groups_of(fused):
        torch.testing.assert_close(both[group], alone[group])


def test_a_far_frame_changes_the_predicates_of_the_first(fused: Scored) -> None:
    frames, timestamps = video(1, 3)
    frames, other = frames[:, [2, 2, 2]], frames[:, [2, 2, 0]]  # two-stage hosts find pairs in the last one alone
    with torch.inference_mode():
        first, second = run_network(fused, frames, timestamps), run_network(fused, other, timestamps)
    mask = first["pair_mask"][0, 0]
    assert mask.any()
    assert torch.equal(mask, second["pair_mask"][0, 0])
    difference = max((first[group][0, 0] - second[group][0, 0])[mask].abs().max() for group in groups_of(fused))
    assert difference > 1e-4


def test_training_sees_what_the_stages_say(fused: Scored) -> None:
    frames, timestamps = video(1, 3)
    with torch.inference_mode():
        said = run_network(fused, frames, timestamps)
        output, logits = fused(seen_by(fused.host, frames, timestamps))
        assert isinstance(fused.host, TwoStage) == hasattr(output, "probabilities")
        forward = output.probabilities if isinstance(fused.host, TwoStage) else fused.host.describe(output)  # type: ignore[union-attr, operator, arg-type]
    mask = said["pair_mask"]
    for group in groups_of(fused):
        torch.testing.assert_close(forward[group][mask], said[group][mask], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused.scorer.scores(logits), said["relation_scores"], atol=1e-5, rtol=1e-4)


def test_the_fusion_and_the_scorer_learn_from_the_predicates(fused: Scored) -> None:
    frames, timestamps = video(1, 2)
    output, _ = fused.train()(seen_by(fused.host, frames, timestamps))
    said = output.probabilities if isinstance(fused.host, TwoStage) else output.predicate_layers[-1]  # type: ignore[union-attr]
    sum(each.square().sum() for each in said.values()).backward()  # type: ignore[union-attr]
    assert fused.fusion is not None
    for module in (fused.fusion.of_video, fused.scorer.temporal_encoder[0]):
        gradients = [parameter.grad for parameter in module.parameters()]
        assert any(each is not None and each.abs().sum() > 0 for each in gradients)


@pytest.mark.bench  # exporting takes most of a minute
@pytest.mark.parametrize("name", ["arn", "tr2 over whole videos"])
def test_a_bundle_says_what_the_network_says(name: str, tmp_path: Path) -> None:
    network = make_lively(fused_config(HOSTS[name], **LIKE_THE_FIGURES))
    assert network.fusion is not None
    nn.init.normal_(network.fusion.output.weight, std=0.5)
    save_checkpoint(tmp_path / "checkpoint.pt", network, {})
    bundle = export_bundle(tmp_path / "checkpoint.pt", tmp_path / "bundle", name="x", version="1", description="x")
    assert bundle.manifest.stages[-1].span == "video"
    agreed = check_bundle(bundle.folder, tmp_path / "checkpoint.pt", batches=(1, 2), times=(1, 3))
    assert {"relation_scores", *groups_of(network)} <= {each.output for each in agreed}


def test_a_layout_host_has_no_classifiers_to_fuse_into() -> None:
    from models.networks.relations.layout import LayoutConfig

    host = LayoutConfig(width=16, name_width=8, heads=2, feed_forward=16, layers=1)
    with pytest.raises(ConfigurationError, match=r"context_fusion needs ARN or a two-stage network"):
        Scored(fused_config(host))


def scorer_with(**changes: Any) -> RelationScorer:
    torch.manual_seed(0)
    scorer = RelationScorer(tiny_scorer(**changes)).eval()
    for parameter in scorer.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return scorer


def pairs_of(scorer: RelationScorer, time: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    mask = torch.ones(1, time, 3, dtype=torch.bool)
    return torch.randn(1, time, 3, scorer.config.input_width), torch.rand(1, time, 3, 2), mask


@pytest.mark.parametrize("attention", ["sparse", "full"])
def test_a_scorer_of_single_frames_sees_no_other_frame(attention: str) -> None:
    scorer = scorer_with(context="frame", attention=attention)
    representation, confidence, mask = pairs_of(scorer, 4)
    with torch.inference_mode():
        whole = scorer(representation, confidence, mask)
        alone = [scorer(representation[:, [t]], confidence[:, [t]], mask[:, [t]]) for t in range(4)]
    torch.testing.assert_close(whole, torch.cat(alone, 1))


def test_with_full_attention_frames_see_each_other_and_frames_without_pairs_are_not_seen() -> None:
    scorer = scorer_with(**LIKE_THE_FIGURES)
    representation, confidence, mask = pairs_of(scorer, 6)
    mask[:, 4] = False
    changed = representation.clone()
    with torch.inference_mode():
        before = scorer(representation, confidence, mask)
        changed[:, 4] = changed[:, 4].flip(-1)
        assert torch.equal(scorer(changed, confidence, mask)[:, 0], before[:, 0])
        changed[:, 5] = changed[:, 5].flip(-1)
        assert not torch.allclose(scorer(changed, confidence, mask)[:, 0], before[:, 0], atol=1e-5)
        assert torch.equal(scorer(representation, 1 - confidence, mask), before), "it reads no confidence"
