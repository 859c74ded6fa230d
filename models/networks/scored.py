"""A network with a relation scorer beside it: RS-Net on any host."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.arn import Arn, ArnConfig
from models.networks.arn.network import ArnOutput
from models.networks.relations.layout import Layout, LayoutConfig, LayoutPairs
from models.networks.relations.layout_stage import layout_stage
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.pose_evidence import PoseEvidence
from models.networks.relations.prior_shift import PriorShift
from models.networks.rs_net import RelationScorer, RsNetConfig, scoring_stages
from models.networks.stages import NetworkStage
from models.networks.two_stage import TwoStage, TwoStageConfig

Host = Arn | TwoStage | Layout
HostConfig = Annotated[ArnConfig | TwoStageConfig | LayoutConfig, Field(discriminator="network")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ScoredConfig:
    """Configurations of a host and its scorer."""

    host: HostConfig
    scorer: RsNetConfig
    network: Literal["scored"] = "scored"


class Scored(nn.Module):
    """A host network and a relation scorer that reads its pairs. The host knows nothing of the scorer."""

    def __init__(
        self, config: ScoredConfig, vocabulary: Vocabulary = ACTION_GENOME, *, host: Host | None = None
    ) -> None:
        """Raises ConfigurationError where the scorer does not fit the host.

        host: used as it is, with its own vocabulary. Without it, a fresh one is made.
        """
        super().__init__()
        self.config = config
        if host is None:
            host = _make_host(config.host, vocabulary)
        self.host = host
        self.vocabulary = host.vocabulary
        if config.scorer.input_width != self.host.representation_width:
            raise ConfigurationError(
                f"scorer.input_width is {config.scorer.input_width}, but the host represents a pair by "
                f"{self.host.representation_width} numbers: make them agree"
            )
        self.scorer = RelationScorer(config.scorer)
        self.host_is_frozen = False

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width that frames are stretched to."""
        return self._host_of_frames.frame_size

    @property
    def slots_are_ranked(self) -> bool:
        """Whether the host sorts slots by a score, so that near ties may change places."""
        return self._host_of_frames.slots_are_ranked

    @property
    def clip_length(self) -> int:
        """Most frames that the host takes at once. The scorer takes whole videos."""
        return self._host_of_frames.clip_length

    def freeze_host(self) -> None:
        """Freezes the host's weights, so that from now on only the scorer learns."""
        self.host.requires_grad_(False)
        self.host_is_frozen = True

    def train(self, mode: bool = True) -> Scored:
        """Sets the training mode of all parts but a frozen host."""
        super().train(mode)
        self.host.train(mode and not self.host_is_frozen)
        return self

    def forward(self, seen: Tensor | Pairs | LayoutPairs) -> tuple[ArnOutput | Relations, Tensor]:
        """Returns the host's output for its input (frames or pairs), and the scorer's logits (B, T, P, 2)."""
        output: ArnOutput | Relations = self.host(seen)
        if isinstance(seen, Tensor):
            said: dict[str, Tensor] = self.host.describe(output)  # type: ignore[arg-type, operator]
            confidence = torch.stack((said["subject_scores"], said["object_scores"].amax(-1)), -1)
            return output, self.scorer(output.representation, confidence, said["pair_mask"])
        return output, self.scorer(output.representation, seen.confidence, seen.mask)

    def stages(self) -> list[NetworkStage]:
        """Returns the host's stages, then the scorer's. The last one sees the whole video."""
        return [*self._host_of_frames.stages(), *scoring_stages(self.scorer)]

    def relation_stages(
        self, evidence: PoseEvidence | None = None, shift: PriorShift | None = None
    ) -> list[NetworkStage]:
        """Returns the stages behind a detector, of a host that needs no pixels. Raises ConfigurationError elsewhere."""
        return [*relation_stages(self.host, evidence, shift), *scoring_stages(self.scorer)]

    @property
    def _host_of_frames(self) -> Arn | TwoStage:
        if isinstance(self.host, Layout):
            raise ConfigurationError("a layout network reads no frames; join it with a detector by `vsg join`")
        return self.host


def _make_host(config: HostConfig, vocabulary: Vocabulary) -> Host:
    match config:
        case ArnConfig():
            return Arn(config, vocabulary)
        case TwoStageConfig():
            return TwoStage(config, vocabulary)
        case LayoutConfig():
            return Layout(config, vocabulary)


def relation_stages(
    network: nn.Module, evidence: PoseEvidence | None = None, shift: PriorShift | None = None
) -> list[NetworkStage]:
    """Returns the stages of a relation network that needs no pixels, to be put behind a detector.

    They take the detector stage's tensors; see `models.networks.relations.layout_stage`.

    evidence: shifts scores by pose; see `layout_stage`.
    shift: moves scores to the habits of other data.

    Raises ConfigurationError where the network needs pixels.
    """
    match network:
        case Layout():
            return [layout_stage(network, evidence, shift)]
        case Scored():
            return network.relation_stages(evidence, shift)
        case _:
            raise ConfigurationError(
                f"{type(network).__name__} needs its own detector's features: give a checkpoint of a layout network"
            )
