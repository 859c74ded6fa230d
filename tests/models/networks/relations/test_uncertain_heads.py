"""The three predicate heads: what they compute, and when they draw noise."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME, GroupName
from models.networks.relations.uncertain_heads import (
    SMALLEST_WANTED_VARIANCE,
    VARIANCE_BOUNDS,
    BayesianHead,
    LinearHead,
    MixtureHead,
    PredicateHead,
    gauss_hermite,
)
from tests.models.networks.relations.samples import SIZES

GROUPS = ACTION_GENOME.group_names
BY_NAME = {group.name: group for group in ACTION_GENOME.groups}

WIDTH = 6


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, WIDTH) * 2


def make(kind: str, name: GroupName) -> PredicateHead:
    group = BY_NAME[name]
    heads = {
        "linear": LinearHead(group, WIDTH),
        "bayesian": BayesianHead(group, WIDTH, 5),
        "gmm": MixtureHead(group, WIDTH, 3),
    }
    return heads[kind]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kind", ["linear", "bayesian", "gmm"])
@pytest.mark.parametrize("training", [False, True])
def test_probabilities_have_the_groups_shape_and_range(kind: str, group: GroupName, training: bool) -> None:
    prediction = make(kind, group).train(training)(features(2, 3, 4) * 100)
    shape = (2, 3, 4, SIZES[group])
    assert prediction.probabilities.shape == shape
    assert prediction.probabilities.min() >= 0
    assert prediction.probabilities.max() <= 1
    if group == "attention":
        torch.testing.assert_close(prediction.probabilities.sum(-1), torch.ones(2, 3, 4))
    if kind == "linear":
        assert prediction.epistemic is None
        assert prediction.aleatoric is None
    else:
        assert prediction.epistemic is not None
        assert prediction.aleatoric is not None
        assert prediction.epistemic.shape == prediction.aleatoric.shape == shape
        assert prediction.epistemic.min() >= 0
        assert prediction.aleatoric.min() > 0


@pytest.mark.parametrize("kind", ["bayesian", "gmm"])
@pytest.mark.parametrize("group", GROUPS)
def test_training_draws_noise_and_evaluation_does_not(kind: str, group: GroupName) -> None:
    head, pairs = make(kind, group), features(5)
    assert not torch.equal(head.train()(pairs).probabilities, head(pairs).probabilities)
    assert torch.equal(head.eval()(pairs).probabilities, head(pairs).probabilities)


@pytest.mark.parametrize("kind", ["bayesian", "gmm"])
def test_training_agrees_with_evaluation_where_the_variance_is_least(kind: str) -> None:
    head = make(kind, "spatial")
    variances = head.log_variance if isinstance(head, BayesianHead) else head.variances
    torch.nn.init.zeros_(variances.weight)
    torch.nn.init.constant_(variances.bias, -50.0)
    pairs = features(4)
    drawn = torch.stack([head.train()(pairs).probabilities for _ in range(200)])
    wanted = head.eval()(pairs).probabilities
    torch.testing.assert_close(drawn.mean(0), wanted, atol=0.004, rtol=0)
    # Sigmoids are no steeper than a quarter, and noise has a deviation of sqrt(0.001).
    assert (drawn - wanted).abs().max() < 6 * 0.25 * math.sqrt(VARIANCE_BOUNDS[0])


@pytest.mark.parametrize("kind", ["bayesian", "gmm"])
@pytest.mark.parametrize(("bias", "bound"), [(-1e4, 0), (1e4, 1)])
def test_variances_stay_within_their_bounds(kind: str, bias: float, bound: int) -> None:
    head = make(kind, "contacting")
    variances = head.log_variance if isinstance(head, BayesianHead) else head.variances
    torch.nn.init.constant_(variances.bias, bias)
    prediction = head(features(3))
    assert prediction.aleatoric is not None
    torch.testing.assert_close(prediction.aleatoric, torch.full((3, 17), VARIANCE_BOUNDS[bound]))
    assert prediction.probabilities.isfinite().all()


@pytest.mark.parametrize("group", GROUPS)
def test_a_mixture_of_one_component_equals_a_linear_head(group: GroupName) -> None:
    head, pairs = MixtureHead(BY_NAME[group], WIDTH, 1).eval(), features(4)
    prediction = head(pairs)
    logits = head.means(pairs)
    torch.testing.assert_close(
        prediction.probabilities, logits.softmax(-1) if group == "attention" else logits.sigmoid()
    )
    assert prediction.epistemic is not None
    assert prediction.epistemic.abs().max() < 1e-12


@pytest.mark.parametrize("group", GROUPS)
def test_a_mixture_equals_a_case_by_hand(group: GroupName) -> None:
    head, pair = MixtureHead(BY_NAME[group], WIDTH, 3).eval(), features(1)
    predicates = SIZES[group]
    prediction = head(pair)
    means, variances = head.means(pair)[0].tolist(), head.variances(pair)[0].tolist()
    raised = [math.exp(logit) for logit in head.mixing(pair)[0].tolist()]
    assert prediction.epistemic is not None
    assert prediction.aleatoric is not None
    for predicate in range(predicates):
        mean = variance = second_moment = 0.0
        for component in range(3):
            logits = means[component * predicates : (component + 1) * predicates]
            if group == "attention":
                probability = math.exp(logits[predicate]) / sum(math.exp(logit) for logit in logits)
            else:
                probability = 1 / (1 + math.exp(-logits[predicate]))
            share = raised[component] / sum(raised)
            mean += share * probability
            second_moment += share * probability**2
            variance += share * math.log1p(math.exp(variances[component * predicates + predicate]))
        assert prediction.probabilities[0, predicate].item() == pytest.approx(mean, abs=1e-6)
        assert prediction.epistemic[0, predicate].item() == pytest.approx(second_moment - mean**2, abs=1e-6)
        assert prediction.aleatoric[0, predicate].item() == pytest.approx(variance, abs=1e-6)


def test_the_shortfall_of_variance_is_what_is_missing_and_pulls_it_up() -> None:
    head = MixtureHead(BY_NAME["attention"], WIDTH, 2)
    torch.nn.init.zeros_(head.variances.weight)
    # Softplus(b) far above, far below, and half way to the smallest wanted variance.
    half = math.log(math.expm1(SMALLEST_WANTED_VARIANCE / 2))
    head.variances.bias.data = torch.tensor((5.0, -30.0, half, 5.0, 5.0, -30.0))
    shortfall = head.variance_shortfall(features(7))
    assert shortfall[0].tolist() == pytest.approx(
        [0, SMALLEST_WANTED_VARIANCE / 2, 0.75 * SMALLEST_WANTED_VARIANCE], abs=1e-6
    )
    shortfall.sum().backward()
    gradient = head.variances.bias.grad
    assert gradient is not None
    assert gradient[2] < 0
    assert gradient[0] == 0


def test_the_bayesian_mean_lies_between_the_means_answer_and_one_half() -> None:
    head, pairs = BayesianHead(BY_NAME["spatial"], WIDTH, 5).eval(), features(50)
    centre, answer = head.mean(pairs).sigmoid(), head(pairs).probabilities
    low, high = torch.minimum(centre, torch.tensor(0.5)), torch.maximum(centre, torch.tensor(0.5))
    assert torch.all((answer > low - 1e-6) & (answer < high + 1e-6))
    assert (answer - centre).abs().max() > 0.01


@pytest.mark.parametrize("group", ["attention", "spatial"])
def test_the_bayesian_answer_is_the_mean_of_many_draws(group: GroupName) -> None:
    head, pairs = BayesianHead(BY_NAME[group], WIDTH, 5).eval(), features(4)
    prediction = head(pairs)
    deviation = head.log_variance(pairs).exp().sqrt()
    logits = head.mean(pairs) + torch.randn(50_000, 4, head.predicates) * deviation
    drawn = (logits.softmax(-1) if group == "attention" else logits.sigmoid()).mean(0)
    torch.testing.assert_close(prediction.probabilities, drawn, atol=6e-3, rtol=0)
    torch.testing.assert_close(prediction.aleatoric, deviation**2)


def test_the_bayesian_epistemic_part_is_entropy() -> None:
    pairs = features(3)
    for group in GROUPS:
        prediction = BayesianHead(BY_NAME[group], WIDTH, 5).eval()(pairs)
        assert prediction.epistemic is not None
        for pair, predicate in product(range(3), range(SIZES[group])):
            p = prediction.probabilities[pair, predicate].item()
            wanted = -p * math.log(p) - (0 if group == "attention" else (1 - p) * math.log(1 - p))
            assert prediction.epistemic[pair, predicate].item() == pytest.approx(wanted, abs=1e-5)


def test_fixed_points_integrate_powers_of_normal_numbers() -> None:
    points, weights = gauss_hermite(7, 2)
    assert points.shape == (49, 2)
    x, y = points.unbind(-1)
    moments = [(weights * value).sum().item() for value in (torch.ones(49), x, x**2, y**4, x**2 * y**2, x * y)]
    assert moments == pytest.approx([1, 0, 1, 3, 1, 0], abs=1e-5)
