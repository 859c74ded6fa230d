"""The switches that bring FReMuRe's official code: transformer, gate, memory and mixture weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import ConfigurationError
from models.networks.relations.fremure import Fremure, NormalisedFusion, PredicateMemory
from models.networks.two_stage import make_relation_network
from tests.models.networks.relations.samples import largest_export_difference, lively, random_pairs
from tests.support.networks import tiny_relations


def official(**changes: Any) -> Fremure:
    switches = {"shared_transformer": True, "normalised_gate": True, "late_memory": True, "classwise_mixtures": True}
    config = tiny_relations("fremure-gmm", **(switches | changes))
    network = make_relation_network(config)
    assert isinstance(network, Fremure)
    return network


def test_the_official_transformer_is_shared_and_each_group_keeps_its_frequencies() -> None:
    network, own = official(), official(shared_transformer=False)
    first, *others = network.branches
    for branch in others:
        assert branch.decoder is first.decoder
        assert branch.tail_path is first.tail_path
        assert branch.correction is not first.correction
        assert branch.fusion.gate is first.fusion.gate
        assert branch.fusion.project is not first.fusion.project
    counts = [sum(each.numel() for each in one.parameters()) for one in (network, own)]
    assert counts[0] < counts[1]
    pairs = random_pairs(network.config, 1, 3)
    lively(network)
    decoded = network(pairs).decoded.unflatten(-1, (3, -1))[pairs.mask]
    assert not torch.allclose(decoded[:, 0], decoded[:, 1]), "the frequencies tell the groups apart"


def test_one_branch_has_nothing_to_share() -> None:
    with pytest.raises(ConfigurationError, match="shared_transformer shares the branches of relation_specific"):
        official(relation_specific=False)


def test_the_official_gate_never_closes_a_path() -> None:
    fusion = NormalisedFusion(6, 3)
    torch.nn.init.constant_(fusion.gate.bias, 100.0)
    head, tail, shares = torch.randn(2, 6), torch.randn(2, 6), torch.tensor([0.5, 0.3, 0.2])
    fused = fusion(head, tail, shares)
    normal = [torch.nn.functional.layer_norm(each, (6,)) for each in (head, tail)]
    torch.testing.assert_close(fused, 0.98 * normal[0] + 0.02 * normal[1])


def test_a_memory_changes_nothing_before_it_is_filled_and_recalls_what_it_saw() -> None:
    memory = PredicateMemory(4, 6)
    features = torch.randn(1, 1, 3, 6)
    assert torch.equal(memory(features), features)
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])[None, None]
    memory.remember(features, labels, slice(2, 4))
    assert memory.filled.tolist() == [0, 0, 1, 0]
    torch.testing.assert_close(memory.features[2], features[0, 0, :2].mean(0))
    assert not torch.allclose(memory(features), features)
    before = memory.features[2].clone()
    memory.remember(torch.zeros_like(features), labels, slice(2, 4))
    torch.testing.assert_close(memory.features[2], 0.95 * before), "it follows slowly"


def test_the_memory_fills_in_training_and_is_kept() -> None:
    network = official().train()
    pairs = random_pairs(network.config, 2, 3)
    labels = torch.zeros(2, 3, 4, 26)
    labels[..., [0, 4, 12]] = 1
    network.loss_terms(pairs, network(pairs), labels * pairs.mask[..., None])
    assert network.memory is not None
    assert network.memory.filled.nonzero()[:, 0].tolist() == [0, 4, 12]
    assert {"memory.features", "memory.filled"} <= network.state_dict().keys()
    network.eval().loss_terms(pairs, network(pairs), torch.ones_like(labels))
    assert network.memory.filled.sum() == 3


def test_mixture_weights_of_each_predicate_give_probabilities() -> None:
    network = lively(official(late_memory=False))
    said = network(random_pairs(network.config, 1, 3)).probabilities
    torch.testing.assert_close(said["attention"].sum(-1), torch.ones(1, 3, 4))
    assert all(((each >= 0) & (each <= 1)).all() for each in said.values())
    assert network.heads["spatial"].mixing.out_features == 2 * 6


@pytest.mark.bench  # exporting takes most of a minute
def test_the_official_form_is_exported(tmp_path: Path) -> None:
    network = lively(official())
    network.memory.filled[[0, 4, 12]] = 1
    network.memory.features[[0, 4, 12]] = torch.randn(3, network.memory.features.shape[1])
    assert largest_export_difference(network, tmp_path, [(1, 1), (2, 5)]) < 1e-4
