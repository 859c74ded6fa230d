"""TR²: the time-variant relation-aware transformer (Wang et al., ICRA 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import ConfigDict, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, GroupName, Vocabulary
from models.networks.arn.classifiers import TextEmbeddings
from models.networks.processes import mean_over_processes
from models.networks.relations.config import RelationConfig
from models.networks.relations.motion import MotionFeatures, MotionInteraction
from models.networks.relations.network import RelationNetwork, activate
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.temporal import SpatialEncoder, TrajectoryDecoder
from models.networks.relations.trajectories import AnyTrajectories, gather_slots, trajectories_of

_MOTION_WIDTH, _IOU_WINDOW = 128, 5
"""MoSA's."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Tr2Config(RelationConfig):
    """Shape of a TR² network.

    The paper's network has `clip_features`, and `text_classifiers` where object classes or boxes are given.

    message_token: adds the short-term message token (eq 1; "Token" in Table IV).
    guidance: guides changes of relations by changes of sentences in training (eq 2).
    guidance_of_difference: if off, guides the relations themselves by the sentences themselves (eq 4, Table III).
    text_classifiers: classifies by likeness to sentences about the object's class instead of by linear layers.
    motion: adds MoSA's motion features and their interaction before the decoder; not a part of TR².
    text_width: E, width of the text embeddings.
    reproduce_label_offset_bug: guides spatial and contacting predicates by the sentences of the first 6 and 17
        predicates, as the public code does. That code counts labels within their group, but sentences over all groups.
        Use it only to compare with that code.
    """

    network: Literal["tr2"] = "tr2"
    encoder_layers: NonNegativeInt = 1
    decoder_layers: NonNegativeInt = 3
    message_token: bool = True
    guidance: bool = True
    guidance_of_difference: bool = True
    text_classifiers: bool = False
    motion: bool = False
    text_width: PositiveInt = 512
    reproduce_label_offset_bug: bool = False


class Tr2(RelationNetwork):
    """Scores predicates through an encoder of each frame, a decoder over trajectories and a message token.

    Sentences are not normalised, as in the public code. CLIP's embeddings have a length of about 10, which scales the
    text classifiers' logits and the guidance's target. Normalised embeddings would make the logits 10 times smaller,
    and the guidance 100 times smaller beside the other terms of the loss.

    text: (objects, predicates, E), embeddings of a sentence for each object and predicate. `initialise_text` fills it
        before training with guidance or text classifiers, and checkpoints keep it.
    """

    config: Tr2Config
    text: Tensor

    def __init__(self, config: Tr2Config, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__(config, vocabulary)
        sizes = (config.width, config.heads, config.feed_forward, config.dropout)
        self.encoder = SpatialEncoder(*sizes, config.encoder_layers)
        self.motion: MotionFeatures | None = None
        self.interaction: MotionInteraction | None = None
        if config.motion:
            self.motion = MotionFeatures(config.width, _MOTION_WIDTH, _IOU_WINDOW, whole_video=config.whole_video)
            self.interaction = MotionInteraction(config.width, config.heads, config.dropout)
        self.decoder = TrajectoryDecoder(*sizes, config.decoder_layers)
        self.message = MessageToken(config.width) if config.message_token else None
        wide = self.decoded_width
        self.heads = nn.ModuleDict(
            {
                group.name: nn.Linear(wide, config.text_width if config.text_classifiers else len(group.predicates))
                for group in vocabulary.groups
            }
        )
        self.guides = (
            nn.ModuleDict({group: nn.Linear(wide, config.text_width) for group in vocabulary.group_names})
            if config.guidance
            else None
        )
        shape = len(vocabulary.objects), len(vocabulary.predicates), config.text_width
        self.register_buffer("text", torch.zeros(*shape))

    @torch.no_grad()
    def initialise_text(self, embeddings: TextEmbeddings) -> None:
        """Copies the sentences' embeddings. A subject keeps zeros, because it is never the object of a pair.

        Raises ConfigurationError where their width is not `text_width`, or they belong to another vocabulary.
        """
        embeddings.require(self.vocabulary)
        width = embeddings.triplets.shape[-1]
        if width != self.config.text_width:
            raise ConfigurationError(
                f"text_width is {self.config.text_width}, but the text embeddings have width {width}; make them agree"
            )
        self.text[list(self.vocabulary.thing_indices)] = embeddings.triplets.float()

    @property
    def decoded_width(self) -> int:
        """The representation's width, twice with a message token."""
        return 2 * self.config.width if self.config.message_token else self.config.width

    def decode(self, pairs: Pairs, represented: Tensor) -> Tensor:
        """See `RelationNetwork`."""
        slots = represented.shape[2]
        trajectories = trajectories_of(pairs, whole_video=self.config.whole_video)
        encoded = self.encoder(represented, pairs.mask)
        if self.motion is not None and self.interaction is not None:
            encoded = self.interaction(encoded, self.motion(pairs), pairs.mask)
        tokens = self.decoder(encoded.flatten(1, 2), trajectories, slots)  # (B, T * P, D)
        if self.message is not None:
            tokens = self.message(tokens, trajectories)  # (B, T * P, 2 * D)
        decoded: Tensor = tokens.unflatten(1, (-1, slots))
        return decoded

    def classify(self, labels: Tensor, represented: Tensor, decoded: Tensor) -> Relations:
        """See `RelationNetwork`."""
        probabilities = {
            group.name: activate(self._logits(group.name, decoded, labels), group) for group in self.vocabulary.groups
        }
        return Relations(probabilities, represented, decoded)

    def _logits(self, group: GroupName, decoded: Tensor, labels: Tensor) -> Tensor:
        """Returns a group's logits (B, T, P, predicates of the group).

        decoded: (B, T, P, D), or 2 * D wide with a message token.
        labels: (B, T, P) int64, indices of the objects.
        """
        features: Tensor = self.heads[group](decoded)
        if not self.config.text_classifiers:
            return features
        sentences = self.text[:, self.vocabulary.group_slices[group]][labels]  # (B, T, P, predicates, E)
        return (sentences @ features[..., None]).squeeze(-1)

    def loss_terms(self, pairs: Pairs, relations: Relations, predicates: Tensor) -> dict[str, Tensor]:
        """Returns the guidance of each group as `guidance_<group>`, with weight 1; nothing without `guidance`."""
        if self.guides is None:
            return {}
        trajectories = trajectories_of(pairs, whole_video=self.config.whole_video)
        labels, labelled = pairs.labels.flatten(1), predicates.flatten(1, 2)  # (B, N) and (B, N, R), N = T * P
        decoded = relations.decoded.flatten(1, 2)
        return {
            f"guidance_{group}": self._guidance(group, trajectories, decoded, labels, labelled)
            for group in self.vocabulary.group_names
        }

    def _guidance(
        self, group: GroupName, trajectories: AnyTrajectories, decoded: Tensor, labels: Tensor, labelled: Tensor
    ) -> Tensor:
        """Returns the mean squared error between a pair's change and its sentence's since the last occurrence (eq 2).

        Pairs count only where the group is annotated at both times; the result is 0 where none counts. The sentence of
        several labels is the mean of theirs.

        decoded: (B, N, D), N = T * P slots.
        labels: (B, N) int64, indices of the objects.
        labelled: (B, N, R) float32, 1 where the pair has the predicate.
        """
        assert self.guides is not None
        of_group = self.vocabulary.group_slices[group]
        own = labelled[..., of_group]  # (B, N, predicates)
        counts = own.sum(-1, keepdim=True)
        columns = slice(0, own.shape[-1]) if self.config.reproduce_label_offset_bug else of_group
        sentences = self.text[:, columns][labels]  # (B, N, predicates, E)
        sentence = ((own / counts.clamp(min=1))[..., None, :] @ sentences).squeeze(-2)  # (B, N, E)
        annotated = counts[..., 0] > 0
        compared = annotated & annotated.gather(1, trajectories.previous) & ~trajectories.first
        if self.config.guidance_of_difference:
            decoded = decoded - gather_slots(decoded, trajectories.previous)
            sentence = sentence - gather_slots(sentence, trajectories.previous)
        guided: Tensor = self.guides[group](decoded)
        squared = (guided.float() - sentence).square().mean(-1)  # (B, N)
        return (squared * compared).sum() / mean_over_processes(compared.sum()).clamp(min=1)


class MessageToken(nn.Module):
    """Passes a part of a pair's previous state on to the present one (eq 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.compare = nn.Linear(2 * width, width)
        self.hidden = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(self, tokens: Tensor, trajectories: AnyTrajectories) -> Tensor:
        """Puts the gated predecessor beside each pair: (B, N, D) to (B, N, 2 * D).

        The first pair of a trajectory is compared with zeros, but its gate is applied to itself.
        """
        previous = gather_slots(tokens, trajectories.previous)
        compared = self.compare(torch.cat((previous * ~trajectories.first[..., None], tokens), -1))
        message = self.gate(self.hidden(compared).tanh()).tanh()
        return torch.cat((tokens, message * previous), -1)
