"""A network with a relation scorer beside it: RS-Net on any host.

The scorer ranks pairs. With `context_fusion` the video's token also enters the host's predicate classifiers: a
two-stage network's `classify`, or ARN's classifiers of the last layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated_dataclass
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
from models.networks.rs_net import (
    CONTEXT_INPUTS,
    ContextFusion,
    RelationScorer,
    RsNetConfig,
    context_stage,
    scoring_stage,
    scoring_stages,
)
from models.networks.stages import DECODED, RELATION_SCORES, REPRESENTATION, NetworkStage
from models.networks.two_stage import TwoStage, TwoStageConfig, predicate_outputs, predicate_tensors

Host = Arn | TwoStage | Layout
HostConfig = Annotated[ArnConfig | TwoStageConfig | LayoutConfig, Field(discriminator="network")]


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ScoredConfig:
    """Configurations of a host and its scorer."""

    host: HostConfig
    scorer: RsNetConfig
    network: Literal["scored"] = "scored"


@dataclass(frozen=True)
class DescribedPairs:
    """Pairs of B clips, as a scorer reads them.

    representation: (B, T, P, D) float32, the host's.
    confidence: (B, T, P, 2) float32, probabilities that the subject and the object are there.
    mask: (B, T, P) bool, true where a slot holds a pair.
    boxes: (B, T, P, 2, 4) float32, corner boxes of subject and object as fractions of the frame.
    """

    representation: Tensor
    confidence: Tensor
    mask: Tensor
    boxes: Tensor


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
        if config.scorer.reads_boxes and isinstance(self.host, Layout):
            raise ConfigurationError("a layout network represents boxes itself: leave out scorer.reads_boxes")
        self.scorer = RelationScorer(config.scorer)
        self.fusion = _fusion(self.host, config.scorer) if config.scorer.context_fusion else None
        self.host_is_frozen = False

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
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

    def describe(self, seen: Tensor | Pairs | LayoutPairs, output: ArnOutput | Relations) -> DescribedPairs:
        """Returns what the scorer reads, from the host's input and output."""
        if isinstance(seen, Tensor):
            said: dict[str, Tensor] = self.host.describe(output)  # type: ignore[arg-type, operator]
            confidence = torch.stack((said["subject_scores"], said["object_scores"].amax(-1)), -1)
            mask, sides = said["pair_mask"], (said["subject_boxes"], said["object_boxes"])
        else:
            confidence, mask, sides = seen.confidence, seen.mask, (seen.subject_boxes, seen.object_boxes)
        return DescribedPairs(output.representation, confidence, mask, torch.stack(sides, -2))

    def score(self, pairs: DescribedPairs) -> tuple[Tensor, Tensor]:
        """Returns the scorer's logits (B, T, P, 2), and the video's token as each frame knows it (B, T, W)."""
        frames = self.scorer.encode_frames(pairs.representation, pairs.confidence, pairs.mask, pairs.boxes)
        return self.scorer.decode(*frames, pairs.mask)

    def forward(
        self, seen: Tensor | Pairs | LayoutPairs | DescribedPairs, shown: Tensor | None = None
    ) -> tuple[ArnOutput | Relations | None, Tensor]:
        """Returns the host's output, and the scorer's logits (B, T, P, 2).

        seen: the host's input (frames or pairs); or what it said before, then there is no output.
        shown: (B, T, P) bool, the pairs that the scorer sees; by default all that the host does.
        """
        if isinstance(seen, DescribedPairs):
            return None, self.score(seen)[0]
        output: ArnOutput | Relations = self.host(seen)
        described = self.describe(seen, output)
        if shown is not None:
            described = replace(described, mask=described.mask & shown)
        logits, video = self.score(described)
        if self.fusion is None:
            return output, logits
        if isinstance(output, ArnOutput):
            assert isinstance(self.host, Arn)
            features = self.host.predicate_features(output.representation)
            return self.host.with_predicates(output, self.fusion(features, video)), logits
        assert isinstance(self.host, TwoStage)
        assert isinstance(seen, Pairs)
        fused = self.fusion(output.decoded, video)
        return self.host.relations.classify(seen.labels, output.representation, fused), logits

    def stages(self) -> list[NetworkStage]:
        """Returns the host's stages, then the scorer's. The last one sees the whole video."""
        host, scorer = self._host_of_frames, self.scorer
        if self.fusion is None:
            if isinstance(host, Arn):
                return [*host.stages(), *scoring_stages(scorer)]
            return [*host.stages_of_clips(), context_stage(scorer), *host.stages_of_videos(), scoring_stage(scorer)]
        if isinstance(host, Arn):
            reads: tuple[str, ...] = (REPRESENTATION,)
            before = [host.stages(classified=False)[0], context_stage(scorer)]
            outputs: tuple[str, ...] = host.vocabulary.group_names
        else:
            reads = (REPRESENTATION, DECODED, "object_scores")
            clips, videos = (make(classified=False) for make in (host.stages_of_clips, host.stages_of_videos))
            before = [*clips, context_stage(scorer), *videos]
            outputs = predicate_outputs(host.relations)
        last = NetworkStage(
            "relation_scores", _Fused(self), (*CONTEXT_INPUTS, *reads), (RELATION_SCORES, *outputs), "video"
        )
        return [*before, last]

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


class _Fused(nn.Module):
    """Scores the pairs of a whole video, and their predicates with the video's token fused into them."""

    def __init__(self, network: Scored) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, pairs: Tensor, frames: Tensor, mask: Tensor, represented: Tensor, *decoded_and_objects: Tensor
    ) -> tuple[Tensor, ...]:
        scorer, fusion = self.network.scorer, self.network.fusion
        assert fusion is not None
        logits, video = scorer.decode(pairs, frames, mask)
        scores = scorer.scores(logits)
        of_host = self.network.host
        if isinstance(of_host, Arn):
            said = of_host.predicates_of(fusion(of_host.predicate_features(represented), video))
            return scores, *(said[group] for group in of_host.vocabulary.group_names)
        assert isinstance(of_host, TwoStage)
        decoded, object_scores = decoded_and_objects
        relations = of_host.relations.classify(object_scores.argmax(-1), represented, fusion(decoded, video))
        return scores, *predicate_tensors(relations, of_host.vocabulary)


def _fusion(host: Host, scorer: RsNetConfig) -> ContextFusion:
    """Raises ConfigurationError where the host has no predicate classifiers that a token can enter."""
    match host:
        case Arn():
            return ContextFusion(len(host.vocabulary.groups) * host.config.width, scorer.width)
        case TwoStage():
            return ContextFusion(host.relations.decoded_width, scorer.width)
    raise ConfigurationError("scorer.context_fusion needs ARN or a two-stage network as the host: switch it off")


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
