"""STTran's published files become a network with its detector; other files are refused with what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.check import sample_frames
from models.engines import bundle_inputs, run_stages
from models.errors import WeightsError
from models.graph.bundle import PICTURE_SIZE
from models.graph.vocabulary import ACTION_GENOME
from models.networks.detectors.sttran_detector import SttranDetector
from models.networks.published import import_sttran
from models.networks.relations.sttran import Sttran, SttranConfig
from models.networks.two_stage import TwoStage
from tests.support.sttran import BLOCKS, State, detector_state, published_state

SIZE = (96, 128)
CONFIG = SttranConfig(visual_width=8, word_width=4, feed_forward=16, heads=8, dropout=0.0)


@pytest.fixture(scope="module")
def states() -> tuple[State, State]:
    return published_state(CONFIG), detector_state()


def write(folder: Path, state: Any, detector: Any) -> tuple[Path, Path]:
    """Writes both files as STTran's code does."""
    torch.save({"state_dict": state}, folder / "sttran_sgdet.tar")
    torch.save({"session": 1, "epoch": 6, "model": detector, "pooling_mode": "align"}, folder / "faster_rcnn_ag.pth")
    return folder / "sttran_sgdet.tar", folder / "faster_rcnn_ag.pth"


@pytest.fixture(scope="module")
def network(states: tuple[State, State], tmp_path_factory: pytest.TempPathFactory) -> TwoStage:
    return import_sttran(*write(tmp_path_factory.mktemp("sttran"), *states), frame_size=SIZE)[0]


def test_every_published_weight_arrives_or_is_named(states: tuple[State, State], tmp_path: Path) -> None:
    network, unused = import_sttran(*write(tmp_path, *states), frame_size=SIZE)
    state, published = states
    assert unused == sorted(name for name in state if name.startswith("object_classifier."))
    assert isinstance(network.relations, Sttran)
    assert isinstance(network.detector, SttranDetector)
    assert torch.equal(network.relations.c_rel_compress.weight, state["c_rel_compress.weight"])
    own = network.detector.state_dict()
    assert len(own) == sum(not name.endswith("num_batches_tracked") for name in published)
    for ours, theirs in {
        "base.1.running_var": "RCNN_base.1.running_var",
        "base.6.0.downsample.1.bias": "RCNN_base.6.0.downsample.1.bias",
        "top.0.conv3.weight": "RCNN_top.0.0.conv3.weight",
        "rpn_conv.bias": "RCNN_rpn.RPN_Conv.bias",
        "rpn_scores.weight": "RCNN_rpn.RPN_cls_score.weight",
        "rpn_deltas.weight": "RCNN_rpn.RPN_bbox_pred.weight",
        "class_scores.weight": "RCNN_cls_score.weight",
        "box_deltas.bias": "RCNN_bbox_pred.bias",
    }.items():
        assert torch.equal(own[ours], published[theirs]), ours
    assert network.detector.config.blocks == BLOCKS


def test_frames_become_scored_pairs_whose_size_is_the_pictures(network: TwoStage) -> None:
    frames = sample_frames(np.random.default_rng(0), 1, 2, *SIZE)
    assert network.stages()[0].inputs == ("frames", PICTURE_SIZE)
    outputs = {}
    for width in (640, 4):
        given = bundle_inputs(frames, np.arange(2), (width, width * 3 // 4))
        outputs[width] = run_stages(network.stages(), given, clip_length=2)
    found = outputs[640]
    assert found["pair_mask"].any()
    for group in ACTION_GENOME.groups:
        assert found[group.name].shape == (1, 2, network.detector.config.pairs, len(group.predicates))
    assert found["object_boxes"].min() >= 0
    assert found["object_boxes"].max() <= 1
    # In a picture of a few pixels each, the last pixel counts so much that boxes of one class are one.
    assert outputs[4]["pair_mask"].sum() < found["pair_mask"].sum()


def test_predcls_takes_given_boxes_and_labels(states: tuple[State, State], tmp_path: Path) -> None:
    network, _ = import_sttran(*write(tmp_path, *states), task="predcls", frame_size=SIZE)
    assert network.config.task == "predcls"
    frames = torch.from_numpy(sample_frames(np.random.default_rng(0), 1, 2, *SIZE))
    boxes = torch.rand(1, 2, 4, 4).sort(-1).values[..., [0, 1, 2, 3]]
    labels = torch.tensor([[[0, 3, 9, 0], [0, 35, 0, 0]]])
    mask = torch.tensor([[[True, True, True, False], [True, True, False, False]]])
    pairs = network.given_pairs(frames, torch.zeros(1, 2), boxes, labels, mask)
    assert pairs.mask.tolist() == [[[False, True, True, False], [False, True, False, False]]]
    assert pairs.labels[pairs.mask].tolist() == [3, 9, 35]
    relations = network(pairs)
    assert torch.isfinite(relations.probabilities["contacting"]).all()


def test_sgcls_has_the_published_classifier(states: tuple[State, State], tmp_path: Path) -> None:
    network, unused = import_sttran(*write(tmp_path, *states), task="sgcls", frame_size=SIZE)
    assert unused == []
    assert network.object_classifier is not None
    own = network.object_classifier.state_dict()
    assert torch.equal(own["decoder_lin.1.running_var"], states[0]["object_classifier.decoder_lin.1.running_var"])
    assert torch.equal(own["obj_embed.weight"], states[0]["object_classifier.obj_embed.weight"])
    frames = torch.from_numpy(sample_frames(np.random.default_rng(0), 1, 2, *SIZE))
    corners = torch.rand(1, 2, 5, 2, generator=torch.Generator().manual_seed(0)) * 0.5
    boxes = torch.cat((corners, corners + 0.3), -1)
    mask = torch.ones(1, 2, 5, dtype=torch.bool)
    labels = torch.zeros(1, 2, 5, dtype=torch.int64)
    pairs = network.given_pairs(frames, torch.zeros(1, 2), boxes, labels, mask, torch.tensor([[[640.0, 480.0]] * 2]))
    assert 0 < pairs.mask.sum() <= 8
    assert not (pairs.labels[pairs.mask] == 0).any()
    assert torch.isfinite(network(pairs).probabilities["spatial"]).all()


@pytest.mark.parametrize(
    ("change", "detector_change", "words"),
    [
        (
            {"obj_embed.weight": torch.ones(152, 4)},
            {},
            r"sgdet\.tar knows 151 objects, but Action Genome has 36",
        ),
        ({"s_rel_compress.weight": torch.ones(9, 32)}, {}, r"sgdet\.tar knows 9 spatial predicates, but Action"),
        (
            {},
            {"RCNN_cls_score.weight": torch.ones(81, 2048)},
            r"rcnn_ag\.pth knows 80 objects, but Action Genome has 36",
        ),
        (
            {},
            {"RCNN_mask.weight": torch.ones(2)},
            r"rcnn_ag\.pth holds 'RCNN_mask\.weight', which STTran's",
        ),
        ({"tracker.weight": torch.ones(2)}, {}, r"sgdet\.tar holds 'tracker\.weight', which STTran has no place for"),
        ({"vr_fc.bias": torch.ones(3)}, {}, r"sgdet\.tar: the published key 'vr_fc\.bias' has shape"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    states: tuple[State, State], tmp_path: Path, change: State, detector_change: State, words: str
) -> None:
    files = write(tmp_path, states[0] | change, states[1] | detector_change)
    with pytest.raises(WeightsError, match=words):
        import_sttran(*files, frame_size=SIZE)


def test_files_in_the_wrong_place_say_what_they_are(states: tuple[State, State], tmp_path: Path) -> None:
    relations, detector = write(tmp_path, *states)
    with pytest.raises(WeightsError, match=r"rcnn_ag\.pth is not a file of STTran's weights: it holds the"):
        import_sttran(detector, relations)
    with pytest.raises(WeightsError, match=r"sgdet\.tar is not a file of STTran's detector's weights: it holds"):
        import_sttran(relations, relations)


def test_a_layer_that_is_missing_is_named(states: tuple[State, State], tmp_path: Path) -> None:
    lacking = {name: value for name, value in states[1].items() if name != "RCNN_rpn.RPN_Conv.bias"}
    with pytest.raises(WeightsError, match=r"rcnn_ag\.pth lacks 'RCNN_rpn\.RPN_Conv\.bias', which STTran's det"):
        import_sttran(*write(tmp_path, states[0], lacking), frame_size=SIZE)
