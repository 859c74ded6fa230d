"""Interchangeable classifiers of one predicate group: linear, Bayesian, and a mixture of Gaussians (FReMuRe §2.4).

All turn features (..., D) into a `Prediction`. Where the paper is silent or garbled, this code makes its own choices:

* Training draws noise. Evaluation draws none, so that a network gives the same answer twice and can be exported. The
  Bayesian head then integrates over fixed Gauss-Hermite points, and the mixture uses its components' means as TEMPURA
  does.
* Variances are those of logits and stay within `VARIANCE_BOUNDS`, in both heads.
* The components of a mixture share one set of weights for all predicates, as in TEMPURA. With `classwise` each
  predicate has its own, as in FReMuRe's formula; those of an exclusive group are then divided by their sum.
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
"""The regulariser of the mixture pulls up variances of components that are below this, and no others."""
_SIGMOID_POINTS = 15
_SOFTMAX_POINTS, _SOFTMAX_GRID = 7, 343
"""Most points along each logit of an exclusive group, and in all. With more than three, each has fewer points."""


@dataclass(frozen=True)
class Prediction:
    """Output of a head: tensors (..., predicates) float32. The linear head gives no uncertainty.

    epistemic: of the Bayesian head, each predicate's part of the entropy of the mean prediction, in nats. Of the
        mixture, the variance of the probability between the components.
    aleatoric: the predicted variance of the logit; in a mixture, a mean over the components.
    """

    probabilities: Tensor
    epistemic: Tensor | None = None
    aleatoric: Tensor | None = None


class PredicateHead(nn.Module, ABC):
    """Turns features of pairs into the probabilities of one predicate group."""

    def __init__(self, group: PredicateGroup) -> None:
        super().__init__()
        self.group = group
        self.predicates = len(group.predicates)

    @abstractmethod
    def forward(self, features: Tensor) -> Prediction:
        """Predicts (..., predicates) from features (..., D)."""


class LinearHead(PredicateHead):
    """One linear layer."""

    def __init__(self, group: PredicateGroup, width: int) -> None:
        super().__init__(group)
        self.logits = nn.Linear(width, self.predicates)

    def forward(self, features: Tensor) -> Prediction:
        """See `PredicateHead`."""
        return Prediction(activate(self.logits(features), self.group))


class BayesianHead(PredicateHead):
    """Predicts normally distributed logits, and returns the mean probability (eq 5).

    In training it is a mean over draws, in evaluation an integral over fixed points. The integral is over each logit
    alone where each has a sigmoid, and over all logits together where they share a softmax.

    samples: number of draws in training.
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
    """GMM-Plus: predicts logits as a mixture of Gaussians, with variances held away from 0 (eq 6).

    It classifies as TEMPURA's head does, by the mean of the components' probabilities and not by a density.

    mixtures: K, number of components.
    classwise: gives each predicate weights of its own.
    """

    def __init__(self, group: PredicateGroup, width: int, mixtures: int, *, classwise: bool = False) -> None:
        super().__init__(group)
        self.mixtures = mixtures
        self.classwise = classwise
        self.means = nn.Linear(width, mixtures * self.predicates)
        self.variances = nn.Linear(width, mixtures * self.predicates)
        self.mixing = nn.Linear(width, mixtures * self.predicates if classwise else mixtures)

    def forward(self, features: Tensor) -> Prediction:
        """See `PredicateHead`."""
        means = self._by_component(self.means(features))  # (..., K, predicates)
        variances = self._raw_variances(features).clamp(*VARIANCE_BOUNDS)
        logits = (
            self._by_component(self.mixing(features)) if self.classwise else self.mixing(features)[..., None].float()
        )
        mixing = logits.softmax(-2)  # (..., K, predicates or 1)
        drawn = means + variances.sqrt() * torch.randn_like(means) if self.training else means
        by_component = activate(drawn, self.group)
        probabilities = _average(by_component, mixing)
        if self.classwise and self.group.exclusive:
            probabilities = probabilities / probabilities.sum(-1, keepdim=True).clamp(min=1e-6)
        spread = (mixing * (by_component - probabilities[..., None, :]) ** 2).sum(-2)
        return Prediction(probabilities, epistemic=spread, aleatoric=(mixing * variances).sum(-2))

    def variance_shortfall(self, features: Tensor) -> Tensor:
        """Returns the mean shortfall of the components' variances below the smallest wanted one: (..., predicates).

        It is taken before the clamp, since a clamped variance has no gradient that would raise it again.

        features: (..., D).
        """
        return (SMALLEST_WANTED_VARIANCE - self._raw_variances(features)).relu().mean(-2)

    def _raw_variances(self, features: Tensor) -> Tensor:
        return F.softplus(self._by_component(self.variances(features)))

    def _by_component(self, values: Tensor) -> Tensor:
        """Splits (..., K * predicates) into (..., K, predicates) float32."""
        split: Tensor = values.float().unflatten(-1, (self.mixtures, self.predicates))
        return split


def gauss_hermite(nodes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Returns points (nodes ** dimensions, dimensions) and weights (nodes ** dimensions,) of Gauss-Hermite quadrature.

    They give means over standard normal numbers. The weights add up to 1.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(product(points, repeat=dimensions)), dtype=torch.float32)
    shares = torch.tensor(list(product(weights / weights.sum(), repeat=dimensions)), dtype=torch.float32)
    return grid, shares.prod(-1)


def _average(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted mean (..., predicates) of (..., S, predicates), clamped to 1 against rounding.

    weights: add up to 1 over S.
    """
    return (probabilities * weights).sum(-2).clamp(max=1)


def _self_information(probabilities: Tensor) -> Tensor:
    """Returns -p log p, 0 at p = 0."""
    positive = probabilities.clamp(min=1e-9)
    return -positive * positive.log()
