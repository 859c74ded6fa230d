"""ARN: the end-to-end entity-predicate association reasoning network (Wang et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, GroupName, Vocabulary
from models.networks.arn.classifiers import PredicateClassifier, TextEmbeddings, ThingClassifier
from models.networks.arn.config import ArnConfig
from models.networks.arn.entity_decoder import EntityDecoder
from models.networks.arn.predicate_decoder import PredicateDecoder
from models.networks.arn.proposals import DenseDetections, DenseHead, RegionSampler
from models.networks.backbone import CompactBackbone, Normalise, ResNet50
from models.networks.boxes import paired_generalised_iou, to_corners
from models.networks.layers import EncoderLayer, Perceptron, sine_position
from models.networks.stages import FRAMES, REPRESENTATION, NetworkStage


@dataclass(frozen=True)
class EntityOutput:
    """Output of one entity layer.

    object_logits: (B, T, Q, H or H + 1), logits of the H things.
    subject_boxes: (B, T, Q, 4) centre boxes.
    object_boxes: (B, T, Q, 4) centre boxes.
    """

    object_logits: Tensor
    subject_boxes: Tensor
    object_boxes: Tensor


@dataclass(frozen=True)
class ArnOutput:
    """Output of the network, with all that the losses need. The last layer of each list is the network's answer.

    entity_layers: by layer.
    predicate_layers: by layer and group, (B, T, Q, H or 1, predicates) logits.
    subject_scores: (B, T), P(there is a subject); ones without a dense head.
    subject_classes: (B, T) int64, the subject's index in the vocabulary's objects.
    dense: the dense head's detections of B * T frames, or None.
    image_features: (B, T, Q, E), the predicate queries in CLIP's image space, or None.
    representation: (B, T, Q, (2 + G) D) for G groups, the inputs of the classifiers of entities and predicates, side
        by side.
    """

    entity_layers: list[EntityOutput]
    predicate_layers: list[dict[GroupName, Tensor]]
    subject_scores: Tensor
    subject_classes: Tensor
    dense: DenseDetections | None
    image_features: Tensor | None
    representation: Tensor


class Arn(nn.Module):
    """Turns clips of frames into scored pairs of the frame's best subject and an object, Q for each frame.

    Raises ConfigurationError where the configuration does not fit the vocabulary.
    """

    place: Tensor

    def __init__(self, config: ArnConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        _require_fit(config, vocabulary)
        self.config = config
        self.vocabulary = vocabulary
        width = config.width
        self.normalise = Normalise()
        self.backbone: ResNet50 | CompactBackbone
        if config.backbone == "resnet50":
            self.backbone, stride = ResNet50(), 32
        else:
            self.backbone, stride = CompactBackbone(config.compact_widths, config.compact_blocks), 16
        rows, columns = config.frame_height // stride, config.frame_width // stride
        self.input_projection = nn.Conv2d(self.backbone.channels, width, 1)
        self.register_buffer("place", sine_position(rows, columns, width), persistent=False)
        self.grid = (rows, columns)
        self.encoder = nn.ModuleList(
            EncoderLayer(width, config.heads, config.feed_forward, config.dropout) for _ in range(config.encoder_layers)
        )
        self.dense_head: DenseHead | None = None
        if config.dense_proposals and isinstance(self.backbone, CompactBackbone):
            self.fine_projection = nn.Conv2d(self.backbone.fine_channels, width, 1, bias=False)
            self.fuse = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            self.dense_head = DenseHead(width, rows * 2, columns * 2, vocabulary)
        self.entity_decoder = EntityDecoder(config)
        self.object_classifier = ThingClassifier(
            width, config.text_width, vocabulary, text=config.triplet_prediction, sigmoid=config.sigmoid_classes
        )
        self.pair_regions = (
            nn.ModuleList(RegionSampler(width, config.region_grid) for _ in range(2)) if config.region_grid else None
        )
        self.pair_geometry = Perceptron(12, width, width, 2) if config.region_grid else None
        self.predicate_decoder = PredicateDecoder(config, vocabulary.group_names)
        self.predicate_classifiers = nn.ModuleDict(
            {
                group.name: PredicateClassifier(
                    group, vocabulary, width, config.text_width, triplets=config.triplet_prediction
                )
                for group in vocabulary.groups
            }
        )
        self.image_projection = nn.Linear(width, config.text_width) if config.mimicry else None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.config.frame_height, self.config.frame_width

    @property
    def slots_are_ranked(self) -> bool:
        """Whether the dense head sorts slots by a score, so that near ties may change places."""
        return self.dense_head is not None

    @property
    def clip_length(self) -> int:
        """Most frames that run at once."""
        return self.config.clip_length

    @property
    def representation_width(self) -> int:
        """Width of the representation that a relation scorer reads: two entities and all predicate groups."""
        return (2 + len(self.vocabulary.groups)) * self.config.width

    def initialise_text(self, embeddings: TextEmbeddings) -> None:
        """Copies CLIP's text embeddings into the classifiers (eq 6); does nothing without triplet prediction.

        Raises ConfigurationError where they belong to another vocabulary.
        """
        if not self.config.triplet_prediction:
            return
        embeddings.require(self.vocabulary)
        centred = self.config.centred_text
        self.object_classifier.known.initialise(embeddings.objects, centred=centred)  # type: ignore[operator]
        for classifier in self.predicate_classifiers.values():
            classifier.initialise(embeddings, centred=centred)  # type: ignore[operator]

    def forward(self, frames: Tensor) -> ArnOutput:
        """Runs the network on frames (B, T, H, W, 3) uint8 RGB, with T up to the configured clip length."""
        batch, time = frames.shape[:2]
        memory, fine = self._encode(frames.flatten(0, 1))  # (B * T, S, D), (B * T, D, h, w) or None
        dense, proposals = None, None
        if self.dense_head is not None and fine is not None:
            dense = self.dense_head(fine)
            proposals = self.dense_head.propose(fine, dense, self.config.queries)
        entities = self.entity_decoder(memory + self.place, memory, fine, proposals)

        def by_clip(tokens: Tensor) -> Tensor:
            split: Tensor = tokens.unflatten(0, (batch, time))
            return split

        entity_layers = [
            EntityOutput(
                by_clip(self.object_classifier(layer.object_features)),
                by_clip(layer.subject_boxes),
                by_clip(layer.object_boxes),
            )
            for layer in entities.layers
        ]
        last = entities.layers[-1]
        pair_features = None
        if (
            self.pair_regions is not None
            and self.pair_geometry is not None
            and fine is not None
            and proposals is not None
        ):
            subject_boxes, object_boxes = last.subject_boxes.detach(), last.object_boxes.detach()
            # The dense head names one subject a frame, whose region all pairs share.
            pair_features = by_clip(
                self.pair_regions[0](fine, proposals.subject_boxes[:, :1])
                + self.pair_regions[1](fine, object_boxes)
                + self.pair_geometry(pair_geometry(subject_boxes, object_boxes))
            )
        predicate_features = self.predicate_decoder(
            by_clip(memory),
            self.place,
            by_clip(torch.cat((entities.subject_features, entities.object_features), -1)),
            by_clip(entities.object_position),
            pair_features,
        )
        predicate_layers = [
            {group: classifier(features[group]) for group, classifier in self.predicate_classifiers.items()}
            for features in predicate_features
        ]
        image_features = None
        if self.image_projection is not None:
            image_features = self.image_projection(torch.stack(list(predicate_features[-1].values())).mean(0))
        if proposals is None:
            scores = torch.ones(batch, time, device=frames.device)
            classes = torch.full((batch, time), self.vocabulary.subject_indices[0], device=frames.device)
        else:
            scores, classes = by_clip(proposals.subject_score), by_clip(proposals.subject_class)
        representation = torch.cat(
            [
                by_clip(torch.cat((entities.subject_features, entities.object_features), -1)),
                *predicate_features[-1].values(),
            ],
            -1,
        )
        return ArnOutput(entity_layers, predicate_layers, scores, classes, dense, image_features, representation)

    def predicate_features(self, representation: Tensor) -> Tensor:
        """Returns the part of the representation that the predicate classifiers read, (B, T, Q, G D)."""
        return representation[..., 2 * self.config.width :]

    def with_predicates(self, output: ArnOutput, features: Tensor) -> ArnOutput:
        """Returns an output whose last predicate logits are those of other features (B, T, Q, G D)."""
        return replace(output, predicate_layers=[*output.predicate_layers[:-1], self._logits_of(features)])

    def predicates_of(self, features: Tensor) -> dict[GroupName, Tensor]:
        """Returns the predicate scores of features (B, T, Q, G D), by group."""
        return self._probabilities(self._logits_of(features))

    def _logits_of(self, features: Tensor) -> dict[GroupName, Tensor]:
        parts = features.chunk(len(self.predicate_classifiers), -1)
        return {
            group: classifier(part)
            for (group, classifier), part in zip(self.predicate_classifiers.items(), parts, strict=True)
        }

    def _probabilities(self, logits: dict[GroupName, Tensor]) -> dict[GroupName, Tensor]:
        return {
            group: classifier.probabilities(logits[group])  # type: ignore[operator]
            for group, classifier in self.predicate_classifiers.items()
        }

    def predict(self, frames: Tensor) -> dict[str, Tensor]:
        """Returns the predictions for frames (B, T, H, W, 3) uint8, by name and each (B, T, Q, …).

        They are the tensors of `models.graph.predictions.prediction_names` and the pairs' `representation`.
        """
        return self.describe(self(frames))

    def describe(self, output: ArnOutput) -> dict[str, Tensor]:
        """Returns what `predict` returns, from an output of `forward`."""
        last = output.entity_layers[-1]
        slots = last.subject_boxes.shape[:-1]
        pair_scores = output.subject_scores[..., None].expand(slots)
        classes = {"subject_classes": output.subject_classes[..., None].expand(slots)}
        return {
            "pair_mask": torch.ones_like(pair_scores, dtype=torch.bool),
            "subject_boxes": to_corners(last.subject_boxes).clamp(0, 1),
            "subject_scores": pair_scores,
            "object_boxes": to_corners(last.object_boxes).clamp(0, 1),
            "object_scores": self.object_classifier.probabilities(last.object_logits),
            **self._probabilities(output.predicate_layers[-1]),
            **(classes if len(self.vocabulary.subjects) > 1 else {}),
            REPRESENTATION: output.representation,
        }

    def stages(self, *, classified: bool = True) -> list[NetworkStage]:
        """Returns the only stage, which turns frames into scored pairs.

        classified: false to leave the predicates to a later stage, which reads `representation`.
        """
        scene_graph = _SceneGraph(self, classified=classified)
        return [NetworkStage("scene_graph", scene_graph, (FRAMES,), scene_graph.outputs)]

    def _encode(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encodes frames (N, H, W, 3) uint8.

        Returns the encoder's tokens F_v (N, S, D) and the fine map (N, D, H / 8, W / 8), None without a dense head.
        """
        images = self.normalise(frames)
        if isinstance(self.backbone, CompactBackbone):
            detail, coarse = self.backbone(images.contiguous(memory_format=torch.channels_last))
        else:
            detail, coarse = None, self.backbone(images)
        tokens = self.input_projection(coarse).flatten(2).transpose(1, 2)  # (N, S, D)
        for layer in self.encoder:
            tokens = layer(tokens, self.place)
        if detail is None or self.dense_head is None:
            return tokens, None
        context = tokens.transpose(1, 2).unflatten(-1, self.grid)
        fine = self.fuse(self.fine_projection(detail) + F.interpolate(context, scale_factor=2.0, mode="nearest"))
        return tokens, fine


class _SceneGraph(nn.Module):
    """Returns the tensors of `Arn.predict` as a tuple."""

    def __init__(self, network: Arn, *, classified: bool) -> None:
        super().__init__()
        self.network = network
        self.outputs = (
            "pair_mask",
            "subject_boxes",
            "subject_scores",
            "object_boxes",
            "object_scores",
            *(network.vocabulary.group_names if classified else ()),
            *(("subject_classes",) if len(network.vocabulary.subjects) > 1 else ()),
            REPRESENTATION,
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        predicted = self.network.predict(frames)
        return tuple(predicted[name] for name in self.outputs)


def _require_fit(config: ArnConfig, vocabulary: Vocabulary) -> None:
    """Raises ConfigurationError where a network of this configuration cannot handle the vocabulary."""
    if not vocabulary.things:
        raise ConfigurationError("every object of the vocabulary is a subject: name objects to pair subjects with")
    if len(vocabulary.subjects) > 1 and not config.dense_proposals:
        raise ConfigurationError(
            f"the vocabulary has {len(vocabulary.subjects)} subjects, which only the dense head tells apart: "
            "set dense_proposals"
        )
    others = len(vocabulary.groups) - 1
    if config.predicate_association and not others:
        raise ConfigurationError(
            "predicate_association needs two groups of predicates, but the vocabulary has one: switch it off, and "
            "hierarchical_attention with it"
        )
    if config.hierarchical_attention and config.weight_mapping != "add" and config.width % (others * config.heads):
        raise ConfigurationError(
            f"width is {config.width}: for weight_mapping {config.weight_mapping!r}, give a multiple of heads x other "
            f"groups ({config.heads} x {others})"
        )


def pair_geometry(subject_boxes: Tensor, object_boxes: Tensor) -> Tensor:
    """Describes the positions of a pair's boxes to each other by (..., 12) numbers.

    subject_boxes: (..., 4) centre boxes.
    object_boxes: (..., 4) centre boxes.
    """
    size = subject_boxes[..., 2:].clamp(min=1e-3)
    offset = (object_boxes[..., :2] - subject_boxes[..., :2]) / size
    ratio = torch.log(object_boxes[..., 2:].clamp(min=1e-3) / size)
    iou, _ = paired_generalised_iou(to_corners(subject_boxes), to_corners(object_boxes))
    distance = offset.square().sum(-1).sqrt()
    return torch.cat((subject_boxes, object_boxes[..., 2:], offset, ratio, iou[..., None], distance[..., None]), -1)
