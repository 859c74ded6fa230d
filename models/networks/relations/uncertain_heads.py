"""Interchangeable classifiers of one predicate group: linear, Bayesian, and a mixture of Gaussians (FReMuRe §2.4).

All take features (..., D) and give a `Prediction`. Where the paper is silent or garbled, this is chosen:

* Training draws noise. Evaluation draws none, so that a network gives the same answer twice and can be exported: the
  Bayesian head integrates over fixed Gauss-Hermite points, the mixture uses the components' means, as TEMPURA does.
* Variances are of logits and stay within `VARIANCE_BOUNDS`, in both heads.
* The components of a mixture share one set of weights for all predicates, as in TEMPURA: weights of each predicate's
  own would give an exclusive group probabilities that do not add up to 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.graph.vocabulary import PredicateGroup
from models.networks.relations.network import activate

VARIANCE_BOUNDS = (1e-3, 10.0)
SMALLEST_WANTED_VARIANCE = 0.1
"""Below this, the regulariser of the mixture pulls a component's variance up; above, it leaves it alone."""
_SIGMOID_POINTS = 15
_SOFTMAX_POINTS, _SOFTMAX_GRID = 7, 343
"""Along each logit of an exclusive group, and in all: where there are more than three logits, each has fewer points."""


@dataclass(frozen=True)
class Prediction:
    """What a head says: three tensors (..., predicates) float32; no uncertainty from the linear head.

    epistemic  Bayesian: each predicate's part of the entropy of the mean prediction, in nats; mixture: variance of the
               probability between the components
    aleatoric  the predicted variance of the logit, a mean over the components in a mixture
    """

    probabilities: Tensor
    epistemic: Tensor | None = None
    aleatoric: Tensor | None = None


class PredicateHead(nn.Module, ABC):
    """Features of pairs to the probabilities of one predicate group."""

    def __init__(self, group: PredicateGroup) -> None:
        super().__init__()
        self.group = group
        self.predicates = len(group.predicates)

    @abstractmethod
    def forward(self, features: Tensor) -> Prediction:
        """(..., D) -> (..., predicates)."""


class LinearHead(PredicateHead):
    """One linear layer."""

    def __init__(self, group: PredicateGroup, width: int) -> None:
        super().__init__(group)
        self.logits = nn.Linear(width, self.predicates)

    def forward(self, features: Tensor) -> Prediction:
        """See `PredicateHead`."""
        return Prediction(activate(self.logits(features), self.group))


class BayesianHead(PredicateHead):
    """Logits that are normally distributed; the answer is the mean probability (eq 5).

    In training it is a mean over `samples` draws, in evaluation an integral over fixed points: by predicate where each
    has a sigmoid of its own, over all logits together where they share a softmax.
    """

    points: Tensor
    weights: Tensor

    def __init__(self, group: PredicateGroup, width: int, samples: int) -> None:
        super().__init__(group)
        self.samples = samples
        self.mean = nn.Linear(width, self.predicates)
        self.log_variance = nn.Linear(width, self.predicates)
        if group.exclusive:
            nodes = max(2, min(_SOFTMAX_POINTS, round(_SOFTMAX_GRID ** (1 / self.predicates))))
            points, weights = gauss_hermite(nodes, self.predicates)
        else:
            points, weights = gauss_hermite(_SIGMOID_POINTS, 1)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, features: Tensor) -> Prediction:
        """See `PredicateHead`."""
        mean = self.mean(features).float()
        low, high = VARIANCE_BOUNDS
        variance = self.log_variance(features).float().clamp(math.log(low), math.log(high)).exp()
        if self.training:
            noise = torch.randn(*mean.shape[:-1], self.samples, self.predicates, device=mean.device)
            weights = mean.new_full((self.samples,), 1 / self.samples)
        else:
            noise, weights = self.points, self.weights
        drawn = mean[..., None, :] + noise * variance.sqrt()[..., None, :]  # (..., samples or points, predicates)
        probabilities = _average(activate(drawn, self.group), weights[:, None])
        return Prediction(probabilities, epistemic=self._entropy(probabilities), aleatoric=variance)

    def _entropy(self, probabilities: Tensor) -> Tensor:
        entropy = _self_information(probabilities)
        return entropy if self.group.exclusive else entropy + _self_information(1 - probabilities)


class MixtureHead(PredicateHead):
    """GMM-Plus: logits that are a mixture of Gaussians, with variances held away from 0 (eq 6).

    It classifies as TEMPURA's head does: the mean over the components of their probabilities, not a density.
    """

    def __init__(self, group: PredicateGroup, width: int, mixtures: int) -> None:
        super().__init__(group)
        self.mixtures = mixtures
        self.means = nn.Linear(width, mixtures * self.predicates)
        self.variances = nn.Linear(width, mixtures * self.predicates)
        self.mixing = nn.Linear(width, mixtures)

    def forward(self, features: Tensor) -> Prediction:
        """See `PredicateHead`."""
        means = self._by_component(self.means(features))  # (..., K, predicates)
        variances = self._raw_variances(features).clamp(*VARIANCE_BOUNDS)
        mixing = self.mixing(features).float().softmax(-1)[..., None]  # (..., K, 1)
        drawn = means + variances.sqrt() * torch.randn_like(means) if self.training else means
        by_component = activate(drawn, self.group)
        probabilities = _average(by_component, mixing)
        spread = (mixing * (by_component - probabilities[..., None, :]) ** 2).sum(-2)
        return Prediction(probabilities, epistemic=spread, aleatoric=(mixing * variances).sum(-2))

    def variance_shortfall(self, features: Tensor) -> Tensor:
        """How far the components' variances lie below the smallest wanted, on average: (..., D) -> (..., predicates).

        Taken before the clamp, beyond which a variance would have no gradient to come back by.
        """
        return (SMALLEST_WANTED_VARIANCE - self._raw_variances(features)).relu().mean(-2)

    def _raw_variances(self, features: Tensor) -> Tensor:
        return F.softplus(self._by_component(self.variances(features)))

    def _by_component(self, values: Tensor) -> Tensor:
        """(..., K * predicates) -> (..., K, predicates) float32."""
        split: Tensor = values.float().unflatten(-1, (self.mixtures, self.predicates))
        return split


def gauss_hermite(nodes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Points (nodes ** dimensions, dimensions) and weights, 1 in sum, of means over standard normal numbers."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(product(points, repeat=dimensions)), dtype=torch.float32)
    shares = torch.tensor(list(product(weights / weights.sum(), repeat=dimensions)), dtype=torch.float32)
    return grid, shares.prod(-1)


def _average(probabilities: Tensor, weights: Tensor) -> Tensor:
    """(..., S, predicates) and weights that are 1 in sum over S -> (..., predicates), not above 1 by rounding."""
    return (probabilities * weights).sum(-2).clamp(max=1)


def _self_information(probabilities: Tensor) -> Tensor:
    """-p log p, which vanishes at p = 0."""
    positive = probabilities.clamp(min=1e-9)
    return -positive * positive.log()
