"""STTran and its detector from their published files: `{state_dict}` and `{model}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from models.errors import ConfigurationError, WeightsError
from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME
from models.networks.detectors.sttran_detector import SttranDetector, SttranDetectorConfig
from models.networks.published.transfer import (
    fill_network,
    read_weights,
    require_no_more,
    require_rows,
)
from models.networks.relations.sttran import SttranConfig, load_sttran_checkpoint
from models.networks.two_stage import Task, TwoStage, TwoStageConfig, what_it_gives

TITLE = "STTran"
DETECTOR_TITLE = "STTran's detector"
ORIGIN = "https://github.com/yrcong/STTran"
LICENCE = "MIT (yrcong/STTran); trained on Action Genome"

_DETECTOR_NAMES = (
    ("base.", "RCNN_base."),
    ("top.", "RCNN_top.0."),
    ("rpn_conv.", "RCNN_rpn.RPN_Conv."),
    ("rpn_scores.", "RCNN_rpn.RPN_cls_score."),
    ("rpn_deltas.", "RCNN_rpn.RPN_bbox_pred."),
    ("class_scores.", "RCNN_cls_score."),
    ("box_deltas.", "RCNN_bbox_pred."),
)
"""Beginnings of our names and of the published ones."""
_CLASSIFIER = "object_classifier."
_COUNTERS = ".num_batches_tracked"
"""End of the names of what batch norms count in training and nothing reads."""


def import_sttran(
    path: Path, detector_path: Path, task: Task = "sgdet", frame_size: tuple[int, int] = (600, 800)
) -> tuple[TwoStage, list[str]]:
    """Builds STTran with its detector from published files, in evaluation mode.

    Returns the network and the published names that the task has no use for. Raises WeightsError where a file cannot
    be read, asks to run code, is of another network, or has another vocabulary than Action Genome's.

    task: what the weights of STTran were trained for; the file does not say.
    frame_size: height and width that frames are stretched to.
    """
    _, state = read_weights(path, "state_dict", "a_rel_compress.weight", TITLE)
    _, detector_state = read_weights(detector_path, "model", "RCNN_base.0.weight", DETECTOR_TITLE)
    objects, groups = len(ACTION_GENOME.objects), {group.name: group.predicates for group in ACTION_GENOME.groups}
    require_rows(state, {"obj_embed.weight": ("objects", objects, 1)}, path)
    heads = {f"{name[0]}_rel_compress.weight": (f"{name} predicates", len(own), 0) for name, own in groups.items()}
    require_rows(state, heads, path)
    require_rows(detector_state, {"RCNN_cls_score.weight": ("objects", objects, 1)}, detector_path)
    try:
        detector = _detector_config(detector_state, frame_size)
        network = TwoStage(TwoStageConfig(detector, _relations_config(state, detector), task))
    except (ConfigurationError, ValidationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else error
        raise WeightsError(f"{path} and {detector_path} make no network: {reason}") from error
    assert isinstance(network.detector, SttranDetector)
    left = fill_network(network.detector, detector_state, published_detector_name, detector_path, DETECTOR_TITLE)
    require_no_more((name for name in left if not name.endswith(_COUNTERS)), detector_path, DETECTOR_TITLE)
    try:
        unused = load_sttran_checkpoint(network.relations, state)  # type: ignore[arg-type]
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    require_no_more((name for name in unused if not name.startswith(_CLASSIFIER)), path, TITLE)
    if network.object_classifier is not None:
        classifier = {name: state[name] for name in unused}
        unused = fill_network(network.object_classifier, classifier, _CLASSIFIER.__add__, path, TITLE)
    return network.eval(), unused


def published_detector_name(name: str) -> str:
    """Returns the name that the detector's file gives to a weight of `SttranDetector`."""
    own, theirs = next((own, theirs) for own, theirs in _DETECTOR_NAMES if name.startswith(own))
    return theirs + name.removeprefix(own)


def _detector_config(state: Mapping[str, Tensor], frame_size: tuple[int, int]) -> SttranDetectorConfig:
    blocks = tuple(
        _count(state, rf"^{layer}\.(\d+)\.conv1\.weight$")
        for layer in (r"RCNN_base\.4", r"RCNN_base\.5", r"RCNN_base\.6", r"RCNN_top\.0")
    )
    inner = state.get("RCNN_base.4.0.conv1.weight")
    return SttranDetectorConfig(
        frame_height=frame_size[0],
        frame_width=frame_size[1],
        blocks=blocks,  # type: ignore[arg-type]
        group_width=64 if inner is None else len(inner),
    )


def _relations_config(state: Mapping[str, Tensor], detector: SttranDetectorConfig) -> SttranConfig:
    """Reads the sizes off the weights, as far as they tell; the number of heads they do not."""
    widths: dict[str, Any] = {
        field: len(state[name])
        for field, name in {
            "visual_width": "subj_fc.weight",
            "feed_forward": "glocal_transformer.local_attention.layers.0.linear1.weight",
        }.items()
        if name in state
    }
    return SttranConfig(
        **widths,
        word_width=state["obj_embed.weight"].shape[1],
        encoder_layers=_count(state, r"^glocal_transformer\.local_attention\.layers\.(\d+)\.linear1\.weight$"),
        decoder_layers=_count(state, r"^glocal_transformer\.global_attention\.layers\.(\d+)\.linear1\.weight$"),
        **what_it_gives(detector),
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Returns how many weights have a name of a pattern."""
    return sum(re.match(pattern, name) is not None for name in state)
