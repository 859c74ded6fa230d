"""Networks whose outputs react to their input, so that comparing outputs proves something.

DETR-like networks as they are initialised hardly look at the image: batch norms that were never calibrated let the
signal die out, and boxes start at one place. A tolerance of 1e-4 would hold between any two frames of such a network.
A detector as it is initialised finds nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from export.check import sample_frames
from models.engines import run_stages
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from models.networks.arn import Arn, ArnConfig
from models.networks.checkpoint import Network, NetworkConfig, make_network
from models.networks.detectors import Detector, DetectorConfig
from models.networks.oed import Oed, OedConfig
from models.networks.relations.fremure import FremureConfig
from models.networks.relations.layout import Layout, LayoutConfig
from models.networks.relations.mosa import MosaConfig
from models.networks.relations.names import NameTable
from models.networks.relations.network import RelationNetwork
from models.networks.relations.sttran import SttranConfig
from models.networks.relations.tr2 import Tr2Config
from models.networks.rs_net import RsNetConfig
from models.networks.scored import HostConfig, Scored, ScoredConfig
from models.networks.stages import FRAMES, TIMESTAMPS, NetworkStage, SceneGraphNetwork
from models.networks.two_stage import RelationNetworkConfig, TwoStage, TwoStageConfig, what_it_gives

RELATION_CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "sttran": (SttranConfig, {"decoder_layers": 1}),
    "tr2": (Tr2Config, {"decoder_layers": 1, "text_width": 16}),
    "mosa": (MosaConfig, {"decoder_layers": 1, "text_width": 16, "motion_width": 8}),
    "fremure-linear": (FremureConfig, {"decoder_layers": 1, "head": "linear"}),
    "fremure-bayesian": (FremureConfig, {"decoder_layers": 1, "head": "bayesian"}),
    "fremure-gmm": (FremureConfig, {"decoder_layers": 1, "head": "gmm", "mixtures": 2}),
}
"""The relation networks of the two-stage family by their name in tests, each with changes that make it tiny."""

SMALL_RELATIONS: dict[str, Any] = {"visual_width": 8, "word_width": 4, "heads": 2, "feed_forward": 16, "dropout": 0.0}


SMALL_WORLD = Vocabulary(
    objects=("robot", "lamp", "person", "crate", "bench", "kettle", "mop"),
    subjects=("person", "robot"),
    groups=(
        PredicateGroup(
            name="place", predicates=("over", "under", "beside"), direction="object_to_subject", exclusive=True
        ),
        PredicateGroup(name="action", predicates=("lifting", "pushing"), phrases={"lifting": "lifts"}),
    ),
)
"""A vocabulary unlike Action Genome's: two subjects, neither of which comes first, and two groups."""


def tiny(**changes: Any) -> ArnConfig:
    """A configuration of ARN that runs in milliseconds, with `changes` applied."""
    small: dict[str, Any] = {
        "frame_height": 64, "frame_width": 64, "clip_length": 3, "backbone": "compact",
        "width": 32, "heads": 2, "feed_forward": 32, "dropout": 0.0, "queries": 5, "text_width": 16,
        "encoder_layers": 1, "entity_layers": 2, "predicate_layers": 2,
        "compact_widths": (8, 16, 16), "compact_blocks": (1, 1, 1),
    }  # fmt: skip
    return ArnConfig(**(small | changes))


def tiny_detector(**changes: Any) -> DetectorConfig:
    """A configuration of a detector that runs in milliseconds. `pairs` are so few that some frames fill them all."""
    small: dict[str, Any] = {
        "frame_height": 64, "frame_width": 64, "clip_length": 40, "backbone": "compact",
        "anchor_sizes": (16, 32), "anchor_ratios": (0.5, 1.0), "proposals": 8, "proposals_before_suppression": 24,
        "object_iou": 0.5, "least_score": 0.1, "pairs": 4,
        "region_size": 3, "region_samples": 1, "sampled_regions": 16,
        "compact_widths": (8, 16, 16), "compact_blocks": (1, 1, 1), "compact_channels": 16, "compact_features": 24,
    }  # fmt: skip
    return DetectorConfig(**(small | changes))


def tiny_relations(name: str = "sttran", **changes: Any) -> RelationNetworkConfig:
    """A relation network by its name in `RELATION_CONFIGS`, for the pairs of `tiny_detector`."""
    kind, small = RELATION_CONFIGS[name]
    config: RelationNetworkConfig = kind(**(SMALL_RELATIONS | small | what_it_gives(tiny_detector()) | changes))
    return config


def tiny_two_stage(name: str = "sttran", task: str = "sgdet", **changes: Any) -> TwoStageConfig:
    """`tiny_detector` with a relation network; `changes` apply to the relation network."""
    return TwoStageConfig(tiny_detector(), tiny_relations(name, **changes), task)  # type: ignore[arg-type]


def tiny_layout(vocabulary: Vocabulary = ACTION_GENOME, seed: int = 0) -> Layout:
    """A layout network that runs in milliseconds, with random weights and the embeddings of the objects' names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Layout(LayoutConfig(width=16, name_width=8, heads=2, feed_forward=16, layers=1), vocabulary)
    network.object_embeddings.copy_(NameTable().embeddings(vocabulary.objects))
    return network.eval()


def tiny_scorer(**changes: Any) -> RsNetConfig:
    """A relation scorer for `tiny_two_stage`; for another host give its `input_width`."""
    small: dict[str, Any] = {
        "input_width": tiny_relations().width, "width": 16, "heads": 2, "feed_forward": 16, "dropout": 0.0,
        "temporal_layers": 2, "video_tokens": 2,
    }  # fmt: skip
    return RsNetConfig(**(small | changes))


def tiny_scored(host: HostConfig, vocabulary: Vocabulary = ACTION_GENOME) -> ScoredConfig:
    """A host with a relation scorer."""
    match host:
        case ArnConfig():
            width = (2 + len(vocabulary.groups)) * host.width
        case TwoStageConfig():
            width = host.relations.width
        case LayoutConfig():
            width = host.width
    return ScoredConfig(host, tiny_scorer(input_width=width))


@overload
def make_lively(config: ArnConfig, seed: int = 0, vocabulary: Vocabulary = ...) -> Arn: ...
@overload
def make_lively(config: OedConfig, seed: int = 0, vocabulary: Vocabulary = ...) -> Oed: ...
@overload
def make_lively(config: DetectorConfig, seed: int = 0, vocabulary: Vocabulary = ...) -> Detector: ...
@overload
def make_lively(config: TwoStageConfig, seed: int = 0, vocabulary: Vocabulary = ...) -> TwoStage: ...
@overload
def make_lively(config: ScoredConfig, seed: int = 0, vocabulary: Vocabulary = ...) -> Scored: ...
def make_lively(config: NetworkConfig, seed: int = 0, vocabulary: Vocabulary = ACTION_GENOME) -> Network:
    """A network in evaluation mode with random weights that react: Kaiming's, and batch norms calibrated on sample
    frames.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(config, vocabulary).eval()
        for module in network.modules():
            if isinstance(module, Arn):
                _spread(module)
                _calibrate(module, module.config, seed)
            elif isinstance(module, Detector):
                torch.manual_seed(seed)  # the same detector, whatever is built on it
                _spread_scores(module)
                _calibrate(module, module.config, seed)
                _show_people(module, seed)
            elif isinstance(module, RelationNetwork):
                _shake(module)
        if isinstance(network, Scored):
            _shake(network.scorer)
    return network


def run_network(network: SceneGraphNetwork, frames: Tensor, timestamps: Tensor) -> dict[str, Tensor]:
    """Runs all stages on B videos of one clip each: (B, T, H, W, 3) uint8 and (B, T) to all outputs by name."""
    known = run_stages(network.stages(), {FRAMES: frames.numpy(), TIMESTAMPS: timestamps.numpy()})
    return {name: torch.from_numpy(array) for name, array in known.items() if name not in (FRAMES, TIMESTAMPS)}


def run_stage(stage: NetworkStage, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Runs one stage; returns its outputs by name."""
    outputs = stage.run({name: tensors[name].numpy() for name in stage.inputs})
    return {name: torch.from_numpy(array) for name, array in outputs.items()}


@torch.no_grad()
def _spread(network: Arn) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for head in (network.entity_decoder.subject_box, network.entity_decoder.object_box):
        nn.init.normal_(head.layers[-1].weight, std=0.1)  # type: ignore[arg-type]
    if network.dense_head is not None:
        # Scores that lie well apart, so that rounding does not change which cells become queries.
        nn.init.normal_(network.dense_head.classes.weight, std=0.2)
        nn.init.normal_(network.dense_head.distances.weight, std=0.05)


@torch.no_grad()
def _spread_scores(detector: Detector) -> None:
    """Spreads the scores, so that rounding does not change which objects are found."""
    for module in detector.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.normal_(detector.rpn.head.bbox_pred.weight, std=0.1)
    nn.init.normal_(detector.roi_heads.box_predictor.bbox_pred.weight, std=0.3)


@torch.no_grad()
def _show_people(detector: Detector, seed: int) -> None:
    """Shifts the first subject's logit so that a quarter of the sample frames has none of it."""
    config = detector.config
    frames = sample_frames(np.random.default_rng(seed + 1), 1, 16, config.frame_height, config.frame_width)
    scores = detector.pairs(torch.from_numpy(frames), torch.zeros(1, 16)).subject_scores[0, :, 0]
    rise = torch.logit(torch.tensor(config.least_score)) - torch.logit(scores).quantile(0.25)
    detector.roi_heads.box_predictor.cls_score.bias[1 + detector.vocabulary.subject_indices[0]] += rise


@torch.no_grad()
def _shake(module: nn.Module) -> None:
    """Fills weights so that they pass the signal on, vectors so that they are neither 0 nor 1, and the buffers that
    training fills from the data.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
        else:
            parameter.add_(torch.randn_like(parameter) * 0.3)
    for name, buffer in module.named_buffers():
        if name == "predicate_counts":
            buffer.copy_(torch.randint(1, 1000, buffer.shape))
        elif name == "text":
            nn.init.normal_(buffer, std=0.25)


@torch.no_grad()
def _calibrate(network: Arn | Detector, config: ArnConfig | DetectorConfig, seed: int) -> None:
    """Sets the statistics of every batch norm to those of its input, from the first to the last in one pass."""
    frames = torch.from_numpy(sample_frames(np.random.default_rng(seed), 2, 1, config.frame_height, config.frame_width))

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))  # type: ignore[operator]
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))  # type: ignore[operator]

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    if isinstance(network, Detector):
        network.feature_map(network.normalise(frames.flatten(0, 1)))
    else:
        network(frames)
    for hook in hooks:
        hook.remove()


def detector_of(network: TwoStage) -> Detector:
    """The Faster R-CNN of a two-stage network."""
    assert isinstance(network.detector, Detector)
    return network.detector
