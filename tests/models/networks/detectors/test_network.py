"""The detector's dense way against torchvision's own modules, image by image, with the same weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

from models.errors import ConfigurationError
from models.networks.detectors import Detector, DetectorConfig
from models.networks.detectors.candidates import Regions
from models.networks.detectors.network import place_anchors
from models.networks.relations.pairs import Pairs
from tests.support.networks import make_lively, tiny_detector

SIZE = (64, 64)


@torch.inference_mode()
def one_image(detector: Detector, frame: Tensor) -> dict[str, Tensor] | None:
    """What torchvision's modules find in one frame (H, W, 3); None where there is no person."""
    config, heads = detector.config, detector.roi_heads
    images = detector.normalise(frame[None])
    maps = {"map": detector.feature_map(images)}
    (proposals,), _ = detector.rpn(ImageList(images, [SIZE]), maps)
    features = heads.box_head(heads.box_roi_pool(maps, [proposals], [SIZE]))
    logits, deltas = heads.box_predictor(features)
    scores = logits.softmax(-1)
    boxes = clip_boxes_to_image(heads.box_coder.decode(deltas, [proposals]), SIZE)  # (R, 37, 4)
    person = scores[:, 1].argmax()
    if scores[person, 1] <= config.least_score:
        return None
    regions, classes = (scores[:, 2:] > config.least_score).nonzero().unbind(1)
    classes = classes + 2
    values, places = scores[regions, classes], boxes[regions, classes]
    kept = batched_nms(places, values, classes, config.object_iou)[: config.pairs]
    regions, classes, places = regions[kept], classes[kept], places[kept]
    around = torch.cat(
        (torch.minimum(places[:, :2], boxes[person, 1, :2]), torch.maximum(places[:, 2:], boxes[person, 1, 2:])), 1
    )
    return {
        "subject_box": boxes[person, 1] / 64, "subject_score": scores[person, 1], "subject_feature": features[person],
        "object_boxes": places / 64, "labels": classes - 1, "object_features": features[regions],
        "scores": scores[regions, 1:], "union_features": heads.box_roi_pool(maps, [around], [SIZE]),
    }  # fmt: skip


def test_pairs_are_those_of_torchvisions_modules_image_by_image(
    detector: Detector, frames: Tensor, found: Pairs
) -> None:
    counts = []
    for clip, time in ((clip, time) for clip in range(2) for time in range(8)):
        wanted = one_image(detector, frames[clip, time])
        mask = found.mask[clip, time]
        counts.append(0 if wanted is None else len(wanted["labels"]))
        assert mask.tolist() == [slot < counts[-1] for slot in range(4)]
        if wanted is None:
            continue

        def close(name: str, given: Tensor, wanted: dict[str, Tensor] = wanted, where: Any = (clip, time)) -> None:
            torch.testing.assert_close(given, wanted[name], atol=1e-5, rtol=1e-5, msg=f"{name} of {where}")

        close("subject_box", found.subject_boxes[clip, time, 0])
        close("subject_score", found.subject_scores[clip, time, 0])
        close("subject_feature", found.subject_features[clip, time, 0])
        close("object_boxes", found.object_boxes[clip, time][mask])
        close("object_features", found.object_features[clip, time][mask])
        close("union_features", found.union_features[clip, time][mask])
        assert torch.equal(found.labels[clip, time][mask], wanted["labels"])
        own = wanted["scores"].gather(1, wanted["labels"][:, None])
        shown = torch.where(wanted["scores"] <= own, wanted["scores"], 0.0)
        shown[:, 0] = 0
        torch.testing.assert_close(found.object_scores[clip, time][mask], shown, atol=1e-5, rtol=1e-5)
    assert {0, 4} < set(counts), "frames with nobody, with few and with many things"


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_proposals_are_torchvisions(frames: Tensor, shift: float) -> None:
    detector = make_lively(tiny_detector(proposals=24, proposals_before_suppression=60))
    detector.rpn.head.bbox_pred.bias.data[::4] += shift
    with torch.inference_mode():
        images = detector.normalise(frames[0])
        maps = detector.feature_map(images)
        theirs, _ = detector.rpn(ImageList(images, [SIZE] * 8), {"map": maps})
        boxes, mask = detector.propose(maps)
    for wanted, own, real in zip(theirs, boxes, mask, strict=True):
        torch.testing.assert_close(own[real], wanted, atol=1e-3, rtol=1e-5)
    assert mask.any(1).all()
    # Many boxes leave the frame, and what is cut to nothing is no proposal.
    assert mask.all() == (shift == 0)


def test_boxes_are_decoded_as_torchvision_does(detector: Detector) -> None:
    random = torch.Generator().manual_seed(2)
    corner = torch.rand(50, 2, generator=random) * 40
    boxes = torch.cat((corner, corner + 5 + torch.rand(50, 2, generator=random) * 20), 1)
    deltas = torch.randn(50, 4, generator=random) * 8
    for coder in (detector.roi_heads.box_coder, detector.rpn.box_coder):
        wanted = clip_boxes_to_image(coder.decode(deltas, [boxes])[:, 0], SIZE)
        torch.testing.assert_close(detector._decode(deltas, boxes, coder.weights), wanted)


def test_empty_slots_hold_zeros_and_a_frame_without_a_person_holds_no_pair(
    detector: Detector, frames: Tensor, found: Pairs
) -> None:
    for name in ("subject_boxes", "subject_scores", "subject_features"):
        values = getattr(found, name)
        assert (values == values[:, :, :1]).all(), f"{name}: one person a frame"
    alone = found.subject_scores[..., 0] <= detector.config.least_score
    assert alone.any()
    assert not found.mask[alone].any()
    assert (~found.mask[~alone]).any()
    for name in ("object_boxes", "object_scores", "object_features", "union_features"):
        assert (getattr(found, name)[~found.mask] == 0).all(), name
        assert (getattr(found, name)[found.mask].flatten(1).abs().sum(1) > 0).all(), name


def test_timestamps_pass_through(found: Pairs, timestamps: Tensor) -> None:
    assert torch.equal(found.timestamps, timestamps)


def test_a_frame_does_not_depend_on_the_others(detector: Detector, frames: Tensor, found: Pairs) -> None:
    with torch.inference_mode():
        alone = detector.pairs(frames[1:, 3:4], torch.zeros(1, 1))
    assert torch.equal(alone.mask[0, 0], found.mask[1, 3])
    for name in ("subject_boxes", "object_boxes", "object_scores", "object_features", "union_features"):
        torch.testing.assert_close(getattr(alone, name)[0, 0], getattr(found, name)[1, 3], atol=1e-5, rtol=1e-5)


def test_the_best_of_sixty_objects_fill_the_slots(
    detector: Detector, frames: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sixty regions side by side, of which one is the person; region i is class 1 + i % 35 with a score of its own.
    row = torch.arange(60.0)
    boxes = torch.stack((row, torch.zeros(60), row + 1, torch.full((60,), 64.0)), 1)[None]
    probabilities = torch.zeros(1, 60, 37)
    scores = torch.randperm(60, generator=torch.Generator().manual_seed(0)) / 100 + 0.2
    probabilities[0, torch.arange(60), 2 + torch.arange(60) % 35] = scores
    probabilities[0, 7] = torch.nn.functional.one_hot(torch.tensor(1), 37).float()
    crowd = Regions(boxes, torch.ones(1, 60, dtype=torch.bool), torch.rand(1, 60, 24), probabilities,
                    torch.zeros(1, 60, 37, 4))  # fmt: skip
    monkeypatch.setattr(detector, "classify", lambda *_: crowd)
    with torch.inference_mode():
        pairs = detector.pairs(frames[:1, :1], torch.zeros(1, 1))
    assert pairs.mask.all()
    best = [index for index in scores.argsort(descending=True).tolist() if index != 7][:4]
    assert pairs.labels.flatten().tolist() == [1 + index % 35 for index in best]
    torch.testing.assert_close(pairs.object_boxes[0, 0] * 64, boxes[0, best])
    torch.testing.assert_close(pairs.object_features[0, 0], crowd.features[0, best])
    torch.testing.assert_close(pairs.subject_boxes[0, 0] * 64, boxes[0, [7] * 4])


def test_one_region_may_count_under_two_classes(
    detector: Detector, frames: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities = torch.zeros(1, 1, 37)
    probabilities[0, 0, [1, 2, 5, 9]] = torch.tensor((0.2, 0.4, 0.3, 0.05))
    region = Regions(torch.tensor(((((8.0, 8.0, 40.0, 40.0)),),)), torch.ones(1, 1, dtype=torch.bool),
                     torch.rand(1, 1, 24), probabilities, torch.zeros(1, 1, 37, 4))  # fmt: skip
    monkeypatch.setattr(detector, "classify", lambda *_: region)
    with torch.inference_mode():
        pairs = detector.pairs(frames[:1, :1], torch.zeros(1, 1))
    assert pairs.mask[0, 0].tolist() == [True, True, False, False]
    assert pairs.labels[0, 0, :2].tolist() == [1, 4]
    assert pairs.object_scores[0, 0, 0, [0, 1, 4, 8]].tolist() == pytest.approx([0, 0.4, 0.3, 0.05])
    assert pairs.object_scores[0, 0, 1, [0, 1, 4, 8]].tolist() == pytest.approx([0, 0, 0.3, 0.05])


def test_losses_fall_in_a_few_steps_on_two_frames(frames: Tensor) -> None:
    torch.manual_seed(0)
    detector = Detector(tiny_detector()).train()
    boxes = [torch.tensor(((4.0, 4.0, 24.0, 60.0), (30.0, 30.0, 56.0, 50.0))), torch.tensor(((8.0, 2.0, 40.0, 62.0),))]
    labels = [torch.tensor((1, 12)), torch.tensor((1,))]
    optimizer = torch.optim.Adam(detector.parameters(), 3e-3)
    totals = []
    for _ in range(20):
        terms = detector(frames[0, :2], boxes, labels)
        assert set(terms) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_a_frame_without_any_annotation_can_be_learned_from(frames: Tensor) -> None:
    terms = Detector(tiny_detector()).train()(frames[0, :1], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
    assert all(term.isfinite() for term in terms.values())


def test_the_default_is_resnet_101_with_its_last_stage_on_the_regions() -> None:
    with torch.device("meta"):
        detector = Detector(DetectorConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in detector.named_parameters()}
    assert shapes["body.backbone.conv1.weight"] == (64, 3, 7, 7)
    assert shapes["body.backbone.layer3.22.conv3.weight"] == (1024, 256, 1, 1)
    assert shapes["roi_heads.box_head.0.0.conv1.weight"] == (512, 1024, 1, 1)
    assert shapes["roi_heads.box_head.0.2.conv3.weight"] == (2048, 512, 1, 1)
    assert shapes["rpn.head.cls_logits.weight"][0] == 4 * 3
    assert shapes["rpn.head.bbox_pred.weight"][0] == 4 * 4 * 3
    assert shapes["roi_heads.box_predictor.cls_score.weight"] == (37, 2048)
    assert shapes["roi_heads.box_predictor.bbox_pred.weight"] == (37 * 4, 2048)
    assert not any("layer4" in name for name in shapes), "it is the regions' alone"
    frozen = {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name in shapes if ".conv1." in name[:22] or "backbone.layer1" in name}
    assert detector.anchors.shape == (38 * 67 * 12, 4)


def test_anchors_stand_a_stride_apart_also_where_the_frame_is_no_multiple_of_it() -> None:
    config = DetectorConfig()  # 600 pixels are 37.5 rows of 16
    anchors = place_anchors(AnchorGenerator((config.anchor_sizes,), (config.anchor_ratios,)), config)
    centres = ((anchors[:, :2] + anchors[:, 2:]) / 2).unflatten(0, (38, 67, 12))
    torch.testing.assert_close(centres[:, 0, 0, 1], torch.arange(38) * 16.0)
    torch.testing.assert_close(centres[0, :, 0, 0], torch.arange(67) * 16.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_height": 70}, "the frame is 64x70 pixels: give multiples of 16"),
        ({"proposals": 25}, r"proposals is 25: give no more than proposals_before_suppression \(24\)"),
        ({"persons": 5}, r"persons is 5: give no more than proposals \(8\) or pairs \(4\)"),
        ({"proposals": 300, "proposals_before_suppression": 300}, "the frame's 256 anchors"),
    ],
)
def test_contradictions_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(tiny_detector(), **changes)
