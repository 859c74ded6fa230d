"""FReMuRe: frequency-guided relational multi-level reasoning. Rare predicates get parameters of their own.

The published text leaves much open. Where the official code (lcx529955/FReMuRe, MIT) does otherwise, this network
follows the paper, and switches bring the code's way:

* `shared_transformer`: the code runs one transformer three times, with the frequencies of one relation type each. The
  paper gives each type parameters of its own.
* `normalised_gate`: the code's gate reads normalised paths and a projection of the frequencies, has a temperature and
  keeps off 0 and 1.
* `late_memory`: the code mixes each feature with its attention to a memory of all predicates, as TEMPURA does, which
  the paper puts behind this network.
* `classwise_mixtures`: the code has mixture weights for each predicate, as the paper's formula.

The code also corrects by six statistics of the frequencies and behind the tail's encoder, counts frequencies on the
test set too, and its Bayesian head takes the mean logit in evaluation. This code makes these choices of its own:

* Frequencies are shares of the predicates of one relation type, because each branch knows only its own type.
* Without the dual branch the frequency correction precedes the only path, so that each switch removes one thing.
* The layers are STTran's.
* The memory is a moving mean of each predicate's features, where the code computes it anew after each epoch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, GroupName, PredicateGroup, Vocabulary
from models.networks.frequencies import class_weights, predicate_shares
from models.networks.layers import Attention
from models.networks.processes import mean_over_processes
from models.networks.relations.config import RelationConfig
from models.networks.relations.network import RelationNetwork
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.temporal import Aggregation, SpatialEncoder, WindowDecoder
from models.networks.relations.uncertain_heads import BayesianHead, LinearHead, MixtureHead, PredicateHead, Prediction


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class FremureConfig(RelationConfig):
    """Shape of a FReMuRe network. `relation_specific` to `head` are the switches of the paper's ablation (Table 2).

    Raises ConfigurationError where `branch_width` is not a multiple of `heads`, or `shared_transformer` has nothing to
    share.

    relation_specific: gives each predicate group a branch with parameters of its own, instead of one that all share.
    frequency_gate: corrects features by frequency (eq 1-2), and makes frequency an input of the fusion gate (eq 3).
    dual_branch: has a head and a tail path, fused by a gate (DPEG, eq 3-4), instead of the head path only.
    head: kind of classifier; see `uncertain_heads`.
    shared_transformer: shares encoders and decoder between the branches.
    normalised_gate: fuses the paths by the official code's gate.
    late_memory: adds a memory of predicates behind the branches.
    classwise_mixtures: gives each predicate mixture weights of its own.
    mixtures: components of the mixture.
    samples: draws of the Bayesian head in training.
    regulariser: weight of the loss term that keeps the mixture's variances from vanishing, above all those of rare
        predicates.
    branch_width: d, width inside a branch; None for the representation's own, D. Three branches of width D, as in the
        paper, hold some 340 million parameters.
    """

    network: Literal["fremure"] = "fremure"
    relation_specific: bool = True
    frequency_gate: bool = True
    dual_branch: bool = True
    head: Literal["linear", "bayesian", "gmm"] = "gmm"
    shared_transformer: bool = False
    normalised_gate: bool = False
    late_memory: bool = False
    classwise_mixtures: bool = False
    mixtures: PositiveInt = 4
    samples: PositiveInt = 5
    regulariser: NonNegativeFloat = 0.01
    decoder_layers: NonNegativeInt = 3
    aggregation: Aggregation = "mean"
    branch_width: PositiveInt | None = None

    @property
    def inner_width(self) -> int:
        """d, the width inside a branch: `branch_width`, or D without it."""
        return self.width if self.branch_width is None else self.branch_width

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared_transformer and not self.relation_specific:
            raise ConfigurationError("shared_transformer shares the branches of relation_specific: switch that on too")
        if self.inner_width % self.heads:
            raise ConfigurationError(f"branch_width is {self.branch_width}: give a multiple of heads ({self.heads})")


class Fremure(RelationNetwork):
    """Scores predicates through a branch for each predicate group, or one for all, and a head for each group.

    predicate_counts: label counts of the training data. The network reads them in evaluation too; checkpoints keep
        them.
    """

    config: FremureConfig

    def __init__(self, config: FremureConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__(config, vocabulary)
        frequencies = [len(group.predicates) for group in vocabulary.groups]
        self.branches = nn.ModuleList(
            Branch(config, count) for count in (frequencies if config.relation_specific else [sum(frequencies)])
        )
        if config.shared_transformer:
            for branch in self.branches[1:]:
                branch.share(self.branches[0])  # type: ignore[operator]
        self.memory = PredicateMemory(len(vocabulary.predicates), config.inner_width) if config.late_memory else None
        self.heads = nn.ModuleDict({group.name: make_head(group, config) for group in vocabulary.groups})

    @property
    def knows_uncertainty(self) -> bool:
        """Whether `Relations` carry uncertainties, as the Bayesian and the mixture head give them."""
        return self.config.head != "linear"

    @property
    def decoded_width(self) -> int:
        """G d, the G groups one after the other, or d where they share a branch."""
        return self.config.inner_width * len(self.branches)

    def decode(self, pairs: Pairs, represented: Tensor) -> Tensor:
        """See `RelationNetwork`."""
        shares, slices = predicate_shares(self.predicate_counts, self.vocabulary), self.vocabulary.group_slices.values()
        by_branch = [shares[columns] for columns in slices] if self.config.relation_specific else [shares]
        features = [branch(represented, pairs.mask, own) for branch, own in zip(self.branches, by_branch, strict=True)]
        if self.memory is not None:
            features = [self.memory(each) for each in features]
        return torch.cat(features, -1)

    def classify(self, labels: Tensor, represented: Tensor, decoded: Tensor) -> Relations:
        """See `RelationNetwork`."""
        predictions: dict[GroupName, Prediction] = {
            group: self.heads[group](features) for group, features in self._by_group(decoded).items()
        }
        return Relations(
            {group: prediction.probabilities for group, prediction in predictions.items()},
            representation=represented,
            decoded=decoded,
            epistemic=_all_or_none({group: prediction.epistemic for group, prediction in predictions.items()}),
            aleatoric=_all_or_none({group: prediction.aleatoric for group, prediction in predictions.items()}),
        )

    def loss_terms(self, pairs: Pairs, relations: Relations, predicates: Tensor) -> dict[str, Tensor]:
        """Returns `variance` with the mixture head, else nothing. With a memory, it remembers the pairs in training.

        The term is the shortfall of variances below the smallest wanted one, weighted by inverse frequency: a sum over
        the predicates and a mean over the pairs (§2.4).
        """
        if self.memory is not None and self.training:
            for group, features in self._by_group(relations.decoded).items():
                columns = self.vocabulary.group_slices[group]
                self.memory.remember(features.detach().float(), predicates[..., columns], columns)
        if self.config.head != "gmm":
            return {}
        weights = class_weights(self.predicate_counts, 1.0, self.vocabulary)
        shortfall = pairs.mask.new_zeros(pairs.mask.shape, dtype=torch.float32)
        for group, features in self._by_group(relations.decoded.float()).items():
            by_predicate = self.heads[group].variance_shortfall(features)  # type: ignore[operator]
            shortfall = shortfall + (by_predicate * weights[self.vocabulary.group_slices[group]]).sum(-1)  # (B, T, P)
        mean = (shortfall * pairs.mask).sum() / mean_over_processes(pairs.mask.sum()).clamp(min=1)
        return {"variance": self.config.regulariser * mean}

    def _by_group(self, decoded: Tensor) -> dict[GroupName, Tensor]:
        """Returns the features that each group's head reads, (B, T, P, d) each."""
        groups = self.vocabulary.group_names
        parts = decoded.chunk(len(groups), -1) if self.config.relation_specific else [decoded] * len(groups)
        return dict(zip(groups, parts, strict=True))


def make_head(group: PredicateGroup, config: FremureConfig) -> PredicateHead:
    """Builds the configured head of one group."""
    match config.head:
        case "linear":
            return LinearHead(group, config.inner_width)
        case "bayesian":
            return BayesianHead(group, config.inner_width, config.samples)
        case "gmm":
            return MixtureHead(group, config.inner_width, config.mixtures, classwise=config.classwise_mixtures)


class Branch(nn.Module):
    """Turns a pair's representation into the feature that the heads of one or all groups read (§2.3)."""

    def __init__(self, config: FremureConfig, predicates: int) -> None:
        super().__init__()
        width = config.inner_width
        layers = (width, config.heads, config.feed_forward, config.dropout)
        self.project = nn.Linear(config.width, width) if width != config.width else nn.Identity()
        self.correction = FrequencyCorrection(predicates, width) if config.frequency_gate else None
        self.head_path = SpatialEncoder(*layers, 1)
        self.tail_path = SpatialEncoder(*layers, 1) if config.dual_branch else None
        gate = NormalisedFusion if config.normalised_gate else Fusion
        self.fusion = gate(width, predicates if config.frequency_gate else 0) if config.dual_branch else None
        self.decoder = WindowDecoder(*layers, config.decoder_layers, config.aggregation)

    def share(self, other: Branch) -> None:
        """Takes another branch's encoders and decoder, and its gate where that does not depend on the group."""
        self.project, self.decoder = other.project, other.decoder
        self.head_path, self.tail_path = other.head_path, other.tail_path
        if isinstance(self.fusion, NormalisedFusion) and isinstance(other.fusion, NormalisedFusion):
            self.fusion.gate = other.fusion.gate

    def forward(self, represented: Tensor, mask: Tensor, shares: Tensor) -> Tensor:
        """Returns the features, (B, T, P, d).

        represented: (B, T, P, D).
        mask: (B, T, P) bool, true where a slot holds a pair.
        shares: (C,), the predicates' shares of the labels of their group.
        """
        features = self.project(represented)
        corrected = features if self.correction is None else self.correction(features, shares)
        if self.tail_path is None or self.fusion is None:
            local = self.head_path(corrected, mask)
        else:
            local = self.fusion(self.head_path(features, mask), self.tail_path(corrected, mask), shares)
        decoded: Tensor = self.decoder(local, mask)
        return decoded


class FrequencyCorrection(nn.Module):
    """Draws features towards their normalised form: the rarer the predicates, the further (eq 1-2)."""

    def __init__(self, predicates: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(predicates, width)
        nn.init.zeros_(self.gate.bias)

    def forward(self, features: Tensor, shares: Tensor) -> Tensor:
        """Maps features (..., d) to the same shape; `shares` (C,) are the predicates' shares."""
        gate = self.gate(torch.log(1 / shares + 1e-6)).sigmoid()  # (d,)
        corrected: Tensor = gate * F.layer_norm(features, features.shape[-1:]) + (1 - gate) * features
        return corrected


class Fusion(nn.Module):
    """Fuses head and tail path by a gate (DPEG, eq 3-4).

    The paper stabilises it by a LayerNorm, here of the fused features, and by a gate bias that starts from zero.

    frequencies: number of predicates whose shares the gate reads; 0 for none.
    """

    def __init__(self, width: int, frequencies: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.gate = nn.Linear(2 * width + frequencies, width)
        nn.init.zeros_(self.gate.bias)
        self.norm = nn.LayerNorm(width)

    def forward(self, head: Tensor, tail: Tensor, shares: Tensor) -> Tensor:
        """Maps head and tail features (B, T, P, d) to (B, T, P, d).

        shares: (C,), ignored where the gate reads no frequencies.
        """
        seen = [head, tail]
        if self.frequencies:
            seen.append(shares.expand(*head.shape[:-1], -1))
        gate = self.gate(torch.cat(seen, -1)).sigmoid()
        fused: Tensor = self.norm(gate * head + (1 - gate) * tail)
        return fused


class NormalisedFusion(nn.Module):
    """Fuses head and tail path as the official code does: normalised inputs, a temperature, and a gate off 0 and 1.

    frequencies: number of predicates whose shares the gate reads; 0 for none.
    """

    _PROJECTED, _TEMPERATURE, _LEAST = 64, 1.5, 0.02

    def __init__(self, width: int, frequencies: int) -> None:
        super().__init__()
        self.project = nn.Linear(frequencies, self._PROJECTED) if frequencies else None
        self.gate = nn.Linear(2 * width + (self._PROJECTED if frequencies else 0), width)

    def forward(self, head: Tensor, tail: Tensor, shares: Tensor) -> Tensor:
        """Does as `Fusion`."""
        head, tail = (F.layer_norm(each, each.shape[-1:]) for each in (head, tail))
        seen = [head, tail]
        if self.project is not None:
            projected = F.layer_norm(self.project(shares), (self._PROJECTED,))
            seen.append(projected.expand(*head.shape[:-1], -1))
        gate = (self.gate(torch.cat(seen, -1)) / self._TEMPERATURE).sigmoid().clamp(self._LEAST, 1 - self._LEAST)
        fused: Tensor = head + (1 - gate) * (tail - head)
        return fused


class PredicateMemory(nn.Module):
    """Mixes each feature with its attention to a memory of the R predicates (TEMPURA's late, joint memory).

    features: (R, d), a moving mean of the features of each predicate's pairs; checkpoints keep it.
    filled: (R,) float32, over 0 for predicates that occurred. Before any has, features stay as they are. A moving
        average of the weights can hold it, as it could not hold booleans.
    """

    features: Tensor
    filled: Tensor
    _SHARE, _MOMENTUM = 0.5, 0.05

    def __init__(self, predicates: int, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, 1)
        self.register_buffer("features", torch.zeros(predicates, width))
        self.register_buffer("filled", torch.zeros(predicates))

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (B, T, P, d) to the same shape."""
        flat = features.flatten(1, 2)  # (B, N, d)
        memory = self.features.expand(flat.shape[0], -1, -1)
        attended = self.attention(flat, memory, memory, (self.filled > 0).expand(flat.shape[0], -1)).view_as(features)
        share = self._SHARE * (self.filled > 0).any()
        mixed: Tensor = (1 - share) * features + share * attended
        return mixed

    @torch.no_grad()
    def remember(self, features: Tensor, predicates: Tensor, columns: slice) -> None:
        """Moves the memory of a group's predicates towards the mean features of their pairs.

        features: (B, T, P, d).
        predicates: (B, T, P, predicates of the group), 1 where a pair has the predicate.
        columns: the group's among all predicates.
        """
        labelled = predicates.flatten(0, 2).T  # (predicates, pairs)
        counts = labelled.sum(-1, keepdim=True)
        mean = labelled @ features.flatten(0, 2) / counts.clamp(min=1)
        seen, known = counts > 0, self.filled[columns, None] > 0
        moved = torch.where(known, self.features[columns].lerp(mean, self._MOMENTUM), mean)
        self.features[columns] = torch.where(seen, moved, self.features[columns])
        self.filled[columns] = torch.where(seen[:, 0], 1.0, self.filled[columns])


def _all_or_none(tensors: dict[GroupName, Tensor | None]) -> dict[GroupName, Tensor] | None:
    known = {group: tensor for group, tensor in tensors.items() if tensor is not None}
    return known or None
