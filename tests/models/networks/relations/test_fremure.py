"""FReMuRe as a whole: its switches, its frequencies, what may and may not influence an output, and its export."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.frequencies import ACTION_GENOME_COUNTS
from models.networks.relations.fremure import Branch, Fremure, FremureConfig, FrequencyCorrection, Fusion
from models.networks.relations.uncertain_heads import SMALLEST_WANTED_VARIANCE, MixtureHead
from tests.models.networks.relations.samples import (
    SIZES,
    SMALL,
    lively,
    random_pairs,
    with_more_slots,
    with_other_leftovers,
)

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices

VARIANTS: list[dict[str, Any]] = [
    {},
    {"head": "linear", "dual_branch": False},
    {"head": "bayesian", "frequency_gate": False, "branch_width": 8},
    {"relation_specific": False, "aggregation": "latter"},
    {"dual_branch": False, "frequency_gate": False},
]


def make(**changes: Any) -> Fremure:
    """A small network that knows Action Genome's frequencies."""
    network = lively(Fremure(FremureConfig(**SMALL | {"decoder_layers": 1, "mixtures": 3} | changes)))
    network.predicate_counts.copy_(torch.tensor(ACTION_GENOME_COUNTS))
    return network


def test_a_branch_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="branch_width is 10: give a multiple of heads"):
        FremureConfig(**SMALL, branch_width=10)


def test_the_papers_width_costs_what_the_configuration_says() -> None:
    with torch.device("meta"):
        wide, narrow = Fremure(FremureConfig()), Fremure(FremureConfig(branch_width=256))
    sizes = [sum(weight.numel() for weight in network.branches.parameters()) for network in (wide, narrow)]
    assert 3.3e8 < sizes[0] < 3.7e8
    assert sizes[1] < sizes[0] / 10


@pytest.mark.parametrize("changes", VARIANTS)
def test_only_what_is_switched_on_has_parameters(changes: dict[str, Any]) -> None:
    network = make(**changes)
    config = network.config
    assert len(network.branches) == (3 if config.relation_specific else 1)
    for branch in network.branches:
        assert isinstance(branch, Branch)
        assert (branch.correction is not None) == config.frequency_gate
        assert (branch.tail_path is not None) == (branch.fusion is not None) == config.dual_branch
        assert isinstance(branch.project, nn.Linear) == (config.branch_width is not None)


@pytest.mark.parametrize("changes", VARIANTS)
def test_relations_have_the_contracts_shapes_and_ranges(changes: dict[str, Any]) -> None:
    network = make(**changes)
    config = network.config
    relations = network(random_pairs(config, 2, 3))
    assert relations.decoded.shape == (2, 3, 4, config.inner_width * (3 if config.relation_specific else 1))
    assert relations.representation.shape == (2, 3, 4, config.width)
    for group in GROUPS:
        shape = (2, 3, 4, SIZES[group])
        probabilities = relations.probabilities[group]
        assert probabilities.shape == shape
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        for uncertainty in (relations.epistemic, relations.aleatoric):
            assert (uncertainty is None) == (config.head == "linear")
            if uncertainty is not None:
                assert uncertainty[group].shape == shape
    torch.testing.assert_close(relations.probabilities["attention"].sum(-1), torch.ones(2, 3, 4))


@pytest.mark.parametrize("changes", VARIANTS)
def test_leftovers_and_further_empty_slots_change_nothing(changes: dict[str, Any]) -> None:
    network = make(**changes)
    pairs = random_pairs(network.config, 2, 4)
    predicates = torch.zeros(2, 4, 4, 26)
    first, second = network(pairs), network(with_other_leftovers(pairs))
    wider_pairs = with_more_slots(pairs, 3)
    wider = network(wider_pairs)
    for group in GROUPS:
        wanted = first.probabilities[group][pairs.mask]
        torch.testing.assert_close(second.probabilities[group][pairs.mask], wanted)
        torch.testing.assert_close(wider.probabilities[group][:, :, :4][pairs.mask], wanted)
    terms = network.loss_terms(pairs, first, predicates)
    torch.testing.assert_close(network.loss_terms(wider_pairs, wider, predicates), terms)


def test_one_frame_and_frames_without_pairs_are_finite() -> None:
    network = make()
    for batch, time in ((1, 1), (2, 3)):
        pairs = random_pairs(network.config, batch, time)
        pairs = replace(pairs, mask=torch.zeros_like(pairs.mask))
        relations = network(pairs)
        assert all(relations.probabilities[group].isfinite().all() for group in GROUPS)
        assert network.loss_terms(pairs, relations, torch.zeros(batch, time, 4, 26))["variance"] == 0


@pytest.mark.parametrize("head", ["bayesian", "gmm"])
def test_training_draws_noise_and_evaluation_does_not(head: str) -> None:
    network = make(head=head, dropout=0.0)
    pairs = random_pairs(network.config, 1, 2, filled=1.0)

    def answer() -> Tensor:
        return network(pairs).probabilities["contacting"]

    assert torch.equal(answer(), answer())
    network.train()
    assert not torch.equal(answer(), answer())


def test_predicate_groups_share_no_parameters_behind_the_representation() -> None:
    network = make()
    network(random_pairs(network.config, 1, 2)).probabilities["spatial"].sum().backward()
    learning = [name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()]
    reached = {name.split(".")[1] for name in learning if name.startswith(("branches.", "heads."))}
    assert reached == {"1", "spatial"}


@pytest.mark.parametrize("relation_specific", [True, False])
def test_frequencies_are_those_of_the_predicates_own_relation_type(relation_specific: bool) -> None:
    network = make(relation_specific=relation_specific)
    pairs = random_pairs(network.config, 1, 2, filled=1.0)
    first = network(pairs).probabilities["attention"]
    network.predicate_counts[SLICES["attention"]] *= 10
    torch.testing.assert_close(network(pairs).probabilities["attention"], first)
    network.predicate_counts[0] *= 10
    assert (network(pairs).probabilities["attention"] - first).abs().max() > 1e-3


def test_without_the_gate_frequencies_do_not_matter() -> None:
    network = make(frequency_gate=False)
    pairs = random_pairs(network.config, 1, 2, filled=1.0)
    first = network(pairs).decoded
    network.predicate_counts[0] *= 1000
    assert torch.equal(network(pairs).decoded, first)


@pytest.mark.parametrize(("bias", "corrected"), [(1e3, False), (-1e3, True)])
def test_frequencies_correct_the_tail_path_and_leave_the_head_path_alone(bias: float, corrected: bool) -> None:
    branch = lively(Branch(FremureConfig(**SMALL), 3))
    assert branch.fusion is not None
    nn.init.constant_(branch.fusion.gate.bias, bias)  # one path only, whatever the frequencies
    tokens, mask = torch.randn(1, 2, 4, 32), torch.ones(1, 2, 4, dtype=torch.bool)
    first, second = (branch(tokens, mask, torch.tensor(shares)) for shares in ((0.9, 0.05, 0.05), (0.1, 0.1, 0.8)))
    assert ((first - second).abs().max() > 1e-3).item() == corrected


def test_the_frequency_correction_equals_a_case_by_hand() -> None:
    correction = FrequencyCorrection(2, 3)
    correction.gate.weight.data = torch.tensor(((1.0, 0.0), (0.0, -1.0), (0.0, 0.0)))
    shares, feature = torch.tensor((0.25, 0.75)), torch.tensor((1.0, 2.0, 6.0))
    corrected = correction(feature, shares)
    deviation = math.sqrt((4 + 1 + 9) / 3)
    normalised = [-2 / deviation, -1 / deviation, 3 / deviation]
    # sigmoid(log(1 / f)) is 1 / (1 + f), and sigmoid(-log(1 / f)) is f / (1 + f).
    gates = [1 / 1.25, 0.75 / 1.75, 0.5]
    wanted = [gate * norm + (1 - gate) * x for gate, norm, x in zip(gates, normalised, feature.tolist(), strict=True)]
    assert corrected.tolist() == pytest.approx(wanted, abs=1e-4)


def test_the_fusion_gate_starts_without_a_bias_and_balances_both_paths_at_zero() -> None:
    torch.manual_seed(0)
    fusion = Fusion(8, 3)
    assert not fusion.gate.bias.any()
    head, tail, shares = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 4, 8), torch.tensor((0.2, 0.5, 0.3))
    seen = torch.cat((head, tail, shares.expand(1, 2, 4, 3)), -1)
    gate = (seen @ fusion.gate.weight.T).sigmoid()
    wanted = nn.functional.layer_norm(gate * head + (1 - gate) * tail, (8,))
    torch.testing.assert_close(fusion(head, tail, shares), wanted)
    nn.init.zeros_(fusion.gate.weight)
    torch.testing.assert_close(fusion(head, tail, shares), nn.functional.layer_norm((head + tail) / 2, (8,)))


def test_only_the_mixture_has_a_term_of_its_own_and_its_weight_scales_it() -> None:
    pairs = random_pairs(FremureConfig(**SMALL), 2, 3)
    terms: dict[str, dict[str, Tensor]] = {}
    for name, changes in {"linear": {"head": "linear"}, "bayesian": {"head": "bayesian"}, "gmm": {},
                          "strong": {"regulariser": 0.02}}.items():  # fmt: skip
        network = make(**changes)
        terms[name] = network.loss_terms(pairs, network(pairs), torch.zeros(2, 3, 4, 26))
    assert terms["linear"] == terms["bayesian"] == {}
    assert list(terms["gmm"]) == ["variance"]
    torch.testing.assert_close(terms["strong"]["variance"], 2 * terms["gmm"]["variance"])


@pytest.mark.parametrize("relation_specific", [True, False])
def test_the_term_is_the_weighted_shortfall_of_real_pairs_by_hand(relation_specific: bool) -> None:
    network = make(relation_specific=relation_specific, regulariser=0.5)
    pairs = random_pairs(network.config, 2, 3)
    relations = network(pairs)
    width = network.config.inner_width
    total = 0.0
    for place in map(tuple, pairs.mask.nonzero().tolist()):
        for number, group in enumerate(GROUPS):
            offset = number * width if relation_specific else 0
            head = network.heads[group]
            assert isinstance(head, MixtureHead)
            raw = head.variances(relations.decoded[place][offset : offset + width]).tolist()
            counts = ACTION_GENOME_COUNTS[SLICES[group]]
            inverse = [1 / count for count in counts]
            for predicate in range(len(counts)):
                weight = inverse[predicate] / (sum(inverse) / len(counts))
                for component in range(3):
                    variance = math.log1p(math.exp(raw[component * len(counts) + predicate]))
                    total += weight * max(0.0, SMALLEST_WANTED_VARIANCE - variance) / 3
    term = network.loss_terms(pairs, relations, torch.zeros(2, 3, 4, 26))["variance"].item()
    assert term > 0
    assert term == pytest.approx(0.5 * total / int(pairs.mask.sum()), rel=1e-4)
