"""MoSA: motion-guided semantic alignment. Motion queries the pairs of a frame; pairs are compared with sentences.

The published text has lost its formulas, and there is no published code. This code makes these choices of its own:

* Widths, layers and the grouping into trajectories are TR²'s, which the paper refers to.
* The text embeddings have unit length, as CLIP compares them, and are frozen. The dot product with the projected
  feature (eq 10) gets a learned scale, 1 at first, and a learned bias for each predicate. Without them, the part that
  all prompts share would pull on every logit.
* `centred_text` subtracts from each prompt the part that all predicates of its group share for the same object. CLIP's
  ViT-B/32 embeddings of one object have a mean cosine of 0.96 (attention), 0.97 (spatial) and 0.90 (contacting). With
  the mean of all prompts subtracted, as in ARN, it is still 0.78, 0.82 and 0.58, because the object decides where a
  prompt lies. With the object's own mean subtracted it is -0.48, -0.19 and -0.06. The object of a pair is known here,
  so nothing is lost.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import ConfigDict, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from models.networks.arn.classifiers import TextEmbeddings
from models.networks.relations.config import RelationConfig
from models.networks.relations.motion import MotionConcatenation, MotionFeatures, MotionInteraction
from models.networks.relations.network import RelationNetwork, activate
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.temporal import SpatialEncoder, TrajectoryDecoder
from models.networks.relations.trajectories import trajectories_of


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class MosaConfig(RelationConfig):
    """Shape of a MoSA network. The first three switches are the paper's ablation (Table 3).

    Raises ConfigurationError where `motion_interaction` is on without `motion_features`.

    motion_features: uses the Motion Feature Extractor (MFE, eq 3-6).
    motion_interaction: uses the Motion-guided Interaction Module (MIM, eq 7-8) instead of concatenation; needs
        `motion_features`.
    semantic_matching: uses Action Semantic Matching (ASM, eq 10) instead of plain linear classifiers.
    iou_window: number of occurrences of a pair over which its IoU is averaged (eq 5).
    motion_width: hidden width of the perceptron that encodes motion.
    text_width: E, width of the text embeddings.
    centred_text: subtracts from the text embeddings what all predicates of a group share for an object.
    """

    network: Literal["mosa"] = "mosa"
    encoder_layers: NonNegativeInt = 1
    decoder_layers: NonNegativeInt = 3
    motion_features: bool = True
    motion_interaction: bool = True
    semantic_matching: bool = True
    iou_window: PositiveInt = 5
    motion_width: PositiveInt = 128
    text_width: PositiveInt = 512
    centred_text: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.motion_interaction and not self.motion_features:
            raise ConfigurationError(
                "motion_interaction is on, but needs motion_features: switch those on too, or both off"
            )


class Mosa(RelationNetwork):
    """Scores predicates through an encoder of each frame, motion, a decoder over trajectories, and sentences.

    text: (objects, predicates, E), embeddings of a sentence for each object and predicate; exists with semantic
        matching only. `initialise_text` fills it before training, and checkpoints keep it.
    """

    config: MosaConfig
    text: Tensor

    def __init__(self, config: MosaConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__(config, vocabulary)
        width = config.width
        sizes = (width, config.heads, config.feed_forward, config.dropout)
        self.encoder = SpatialEncoder(*sizes, config.encoder_layers)
        self.motion: MotionFeatures | None = None
        self.fusion: MotionInteraction | MotionConcatenation | None = None
        if config.motion_features:
            self.motion = MotionFeatures(width, config.motion_width, config.iou_window, whole_video=config.whole_video)
            self.fusion = (
                MotionInteraction(width, config.heads, config.dropout)
                if config.motion_interaction
                else MotionConcatenation(width)
            )
        self.decoder = TrajectoryDecoder(*sizes, config.decoder_layers)
        self.heads = nn.ModuleDict(
            {
                group.name: SemanticMatching(width, config.text_width, len(group.predicates))
                if config.semantic_matching
                else nn.Linear(width, len(group.predicates))
                for group in vocabulary.groups
            }
        )
        if config.semantic_matching:
            shape = len(vocabulary.objects), len(vocabulary.predicates), config.text_width
            text = F.normalize(torch.randn(*shape), dim=-1)
            text[list(vocabulary.subject_indices)] = 0  # a subject is never the object of a pair
            self.register_buffer("text", text)

    @torch.no_grad()
    def initialise_text(self, embeddings: TextEmbeddings) -> None:
        """Copies the sentences' embeddings; does nothing without semantic matching.

        Raises ConfigurationError where their width is not `text_width`, or they belong to another vocabulary.
        """
        if not self.config.semantic_matching:
            return
        embeddings.require(self.vocabulary)
        width = embeddings.triplets.shape[-1]
        if width != self.config.text_width:
            raise ConfigurationError(
                f"text_width is {self.config.text_width}, but the text embeddings have width {width}; make them agree"
            )
        prepared = prepare_text(embeddings.triplets, self.vocabulary, centred=self.config.centred_text)
        self.text[list(self.vocabulary.thing_indices)] = prepared

    @property
    def decoded_width(self) -> int:
        """The representation's width."""
        return self.config.width

    def decode(self, pairs: Pairs, represented: Tensor) -> Tensor:
        """See `RelationNetwork`."""
        time, slots = pairs.mask.shape[1:]
        fused = self.encoder(represented, pairs.mask)  # (B, T, P, D)
        if self.motion is not None and self.fusion is not None:
            fused = self.fusion(fused, self.motion(pairs), pairs.mask)
        trajectories = trajectories_of(pairs, whole_video=self.config.whole_video)
        decoded: Tensor = self.decoder(fused.flatten(1, 2), trajectories, slots).unflatten(1, (time, slots))
        return decoded

    def classify(self, labels: Tensor, represented: Tensor, decoded: Tensor) -> Relations:
        """See `RelationNetwork`."""
        probabilities = {
            group.name: activate(self._logits(group, decoded, labels), group) for group in self.vocabulary.groups
        }
        return Relations(probabilities, representation=represented, decoded=decoded)

    def _logits(self, group: PredicateGroup, decoded: Tensor, labels: Tensor) -> Tensor:
        """Returns a group's logits (B, T, P, predicates of the group) from (B, T, P, D) and labels (B, T, P)."""
        columns = self.vocabulary.group_slices[group.name]
        sentences = (labels, self.text[:, columns]) if self.config.semantic_matching else ()
        logits: Tensor = self.heads[group.name](decoded, *sentences)
        return logits


class SemanticMatching(nn.Module):
    """Action Semantic Matching: compares a pair with the sentences that name its object and each predicate (eq 10)."""

    def __init__(self, width: int, text_width: int, predicates: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, text_width)
        # Scale 1: features of unit variance give logits of a standard deviation of about 0.6.
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(predicates))

    def forward(self, features: Tensor, labels: Tensor, text: Tensor) -> Tensor:
        """Returns logits, (B, T, P, C) float32.

        features: (B, T, P, D).
        labels: (B, T, P) int64, indices of the objects.
        text: (objects, C, E).
        """
        classes, predicates, _ = text.shape
        # Compares with the sentences of all objects: to gather each pair's own would copy C x E numbers for each pair.
        similarity = (self.project(features).float() @ text.flatten(0, 1).T).unflatten(-1, (classes, predicates))
        chosen = labels[..., None, None].expand(-1, -1, -1, 1, predicates)
        matched: Tensor = similarity.gather(-2, chosen).squeeze(-2)
        return matched.float() * self.log_scale.exp() + self.bias


def prepare_text(triplets: Tensor, vocabulary: Vocabulary, *, centred: bool) -> Tensor:
    """Returns unit vectors, (H, R, E), of text embeddings (H, R, E).

    centred: subtracts the mean over each thing's predicates of a group.
    """
    unit = F.normalize(triplets.float(), dim=-1)
    if not centred:
        return unit
    groups = [unit[:, columns] for columns in vocabulary.group_slices.values()]
    return F.normalize(torch.cat([group - group.mean(1, keepdim=True) for group in groups], 1), dim=-1)
