"""A detector and a relation network as one: the stages say what the parts say, training leaves the detector alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.check import sample_frames
from models.errors import ConfigurationError
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.representation import union_boxes
from models.networks.two_stage import TwoStage, TwoStageConfig, with_labels
from tests.support.networks import (
    RELATION_CONFIGS,
    detector_of,
    make_lively,
    run_network,
    run_stage,
    tiny_detector,
    tiny_relations,
    tiny_two_stage,
)

GROUPS = ACTION_GENOME.group_names

UNCERTAIN = {"fremure-bayesian", "fremure-gmm"}


@pytest.fixture(scope="module", params=RELATION_CONFIGS)
def network(request: pytest.FixtureRequest) -> TwoStage:
    return make_lively(tiny_two_stage(request.param))


@pytest.fixture(scope="module")
def sttran() -> TwoStage:
    return make_lively(tiny_two_stage("sttran"))


@pytest.fixture(scope="module")
def sgcls() -> TwoStage:
    return make_lively(tiny_two_stage("sttran", task="sgcls"))


def video(batch: int, time: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    frames = torch.from_numpy(sample_frames(np.random.default_rng(seed), batch, time, 64, 64))
    return frames, torch.arange(time).float().expand(batch, -1) / 2


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 8)])
def test_the_stages_outputs_are_predictions(network: TwoStage, batch: int, time: int) -> None:
    with torch.inference_mode():
        outputs = run_network(network, *video(batch, time))
    for index in range(batch):
        arrays = {name: each.numpy() for name, each in outputs.items()}
        said = PairPredictions.from_outputs(arrays, ACTION_GENOME, index)
        assert said.pair_mask.shape == (time, 4)
        probabilities = ("subject_scores", "object_scores", "predicate_scores")
        assert all((getattr(said, name) >= 0).all() and (getattr(said, name) <= 1).all() for name in probabilities)
        assert (said.object_scores[..., 0] == 0).all(), "a person is never the object"
        np.testing.assert_allclose(said.predicate_scores[..., :3].sum(-1), 1, atol=1e-5)
        for boxes in (said.subject_boxes, said.object_boxes):
            assert ((boxes >= 0) & (boxes <= 1)).all()
            assert (boxes[..., 2:] >= boxes[..., :2]).all()
        assert (said.epistemic is not None) == (network.config.relations in UNCERTAIN_CONFIGS)
        assert said.relation_scores is None


UNCERTAIN_CONFIGS = [tiny_relations(name) for name in UNCERTAIN]


def test_the_stages_give_the_outputs_of_the_parts(network: TwoStage) -> None:
    frames, timestamps = video(2, 8)
    with torch.inference_mode():
        outputs = run_network(network, frames, timestamps)
        pairs = detector_of(network).pairs(frames, timestamps)
        relations = network(pairs)
    assert pairs.mask.any()
    assert torch.equal(outputs["pair_mask"], pairs.mask)
    assert torch.equal(outputs["subject_boxes"], pairs.subject_boxes)
    assert torch.equal(outputs["subject_scores"], pairs.subject_scores)
    assert torch.equal(outputs["object_boxes"], pairs.object_boxes)
    assert torch.equal(outputs["object_scores"], pairs.object_scores)
    assert all(torch.equal(outputs[group], relations.probabilities[group]) for group in GROUPS)
    assert outputs["representation"].shape[-1] == network.representation_width
    if relations.epistemic is not None and relations.aleatoric is not None:
        for name, parts in (("epistemic", relations.epistemic), ("aleatoric", relations.aleatoric)):
            assert torch.equal(outputs[name], torch.cat([parts[group] for group in GROUPS], -1))


def test_frames_with_no_one_or_all_pairs_give_finite_numbers(network: TwoStage) -> None:
    detector, relations = network.stages()
    frames, timestamps = video(1, 6)
    with torch.inference_mode():
        tensors = {"frames": frames, "timestamps": timestamps, **run_stage(detector, {"frames": frames})}
        for filled in ([0] * 6, [1] * 6, [4] * 6, [0, 1, 4, 0, 0, 2]):
            mask = torch.arange(4) < torch.tensor(filled)[:, None]
            outputs = run_stage(relations, tensors | {"pair_mask": mask[None]})
            assert all(each.isfinite().all() for each in outputs.values()), filled
        alone = {name: each[:, :1] for name, each in tensors.items()}
        outputs = run_stage(relations, alone | {"pair_mask": torch.zeros(1, 1, 4, dtype=torch.bool)})
        assert all(each.isfinite().all() for each in outputs.values()), "a clip of one frame without pairs"


def test_the_detector_never_trains(network: TwoStage) -> None:
    network.train()
    try:
        assert not any(module.training for module in network.detector.modules())
        assert not any(parameter.requires_grad for parameter in network.detector.parameters())
        assert network.relations.training
        assert all(parameter.requires_grad for parameter in network.relations.parameters())
    finally:
        network.eval()
    assert not network.relations.training


@pytest.fixture
def given() -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (1, 8, 4, 4), labels (1, 8, 4) and mask (1, 8, 4): the person, two things and sometimes a third."""
    random = torch.rand(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    corner = random[..., :2] * 0.5
    mask = torch.ones(1, 8, 4, dtype=torch.bool)
    mask[:, ::3, 3] = False
    labels = torch.tensor((0, 8, 14, 3)).expand(1, 8, 4) * mask
    return torch.cat((corner, corner + 0.1 + random[..., 2:] * 0.4), -1), labels, mask


def test_predcls_takes_boxes_and_labels_as_they_are(sttran: TwoStage, given: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes, labels, mask = given
    with torch.inference_mode():
        pairs = sttran.given_pairs(*video(1, 8), boxes, labels, mask)
    assert not pairs.mask[..., 0].any(), "the person's own slot"
    assert torch.equal(pairs.mask[..., 1:], mask[..., 1:])
    assert (pairs.subject_scores == 1).all()
    torch.testing.assert_close(pairs.subject_boxes, boxes[:, :, :1].expand(-1, -1, 4, -1))
    torch.testing.assert_close(pairs.object_boxes[pairs.mask], boxes[pairs.mask])
    assert torch.equal(pairs.labels[pairs.mask], labels[pairs.mask])
    assert (pairs.object_scores[pairs.mask].amax(-1) == 1).all()
    assert (pairs.object_scores[~pairs.mask] == 0).all()


def test_sgcls_ignores_given_labels_and_uses_its_classifier(
    sgcls: TwoStage, given: tuple[Tensor, Tensor, Tensor]
) -> None:
    boxes, labels, mask = given
    frames, timestamps = video(1, 8)
    with torch.inference_mode():
        pairs = sgcls.given_pairs(frames, timestamps, boxes, labels, mask)
        other = sgcls.given_pairs(frames, timestamps, boxes, torch.zeros_like(labels), mask)
        detected = detector_of(sgcls).given_pairs(frames, timestamps, boxes, mask, person_first=False)
        wanted = sgcls.classify(detected).softmax(-1)
    assert torch.equal(pairs.object_scores, other.object_scores)
    assert torch.equal(pairs.mask, detected.mask)
    assert (pairs.mask.sum(-1) == mask.sum(-1) - 1).all(), "one box is the person's"
    assert pairs.mask[..., 0].any(), "who the person is, the detector says"
    torch.testing.assert_close(pairs.object_scores[pairs.mask], wanted[pairs.mask])
    assert (pairs.object_scores[~pairs.mask] == 0).all()
    assert (pairs.object_scores[..., 0] == 0).all()
    assert torch.equal(pairs.subject_scores, detected.subject_scores)


def test_given_tensors_are_named_as_the_detector_stage_names_them(
    sttran: TwoStage, given: tuple[Tensor, Tensor, Tensor]
) -> None:
    frames, timestamps = video(1, 8)
    boxes, labels, mask = given
    detector, relations = sttran.stages()
    with torch.inference_mode():
        tensors = sttran.given_tensors(
            {"frames": frames, "timestamps": timestamps, "boxes": boxes, "labels": labels, "mask": mask}
        )
        said = run_stage(relations, tensors | {"timestamps": timestamps})
        wanted = sttran(sttran.given_pairs(frames, timestamps, boxes, labels, mask))
    assert tuple(tensors) == detector.outputs
    assert all(torch.equal(said[group], wanted.probabilities[group]) for group in GROUPS)


def test_only_sgcls_has_a_classifier_of_objects(sttran: TwoStage, sgcls: TwoStage) -> None:
    with torch.inference_mode():
        pairs = detector_of(sttran).pairs(*video(1, 2))
        logits = sgcls.classify(pairs)
    assert logits.shape == (1, 2, 4, 36)
    assert (logits.argmax(-1) > 0).all(), "never the person"
    with pytest.raises(ConfigurationError, match="a network for sgdet has no object classifier"):
        sttran.classify(pairs)


def test_known_labels_leave_empty_slots_empty(sttran: TwoStage) -> None:
    with torch.inference_mode():
        pairs = detector_of(sttran).pairs(*video(1, 8))
    labelled = with_labels(pairs, torch.full_like(pairs.labels, 9))
    assert not pairs.mask.all()
    assert torch.equal(labelled.object_scores.argmax(-1) == 9, pairs.mask)
    assert torch.equal(labelled.mask, pairs.mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_width": 25}, "relations.feature_width is 25, but the detector gives 24"),
        ({"union_channels": 8}, "relations.union_channels is 8, but the detector gives 16"),
        ({"union_size": 7}, "relations.union_size is 7, but the detector gives 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TwoStageConfig(tiny_detector(), tiny_relations(**changes))


def test_clips_features_are_those_of_the_regions_around_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    # CLIP itself is large; what matters here is what it is shown, and where its answer goes.
    seen: list[Tensor] = []

    class Crops(nn.Module):
        def __init__(self, *, pretrained: bool) -> None:
            super().__init__()
            assert not pretrained, "a checkpoint brings the weights"

        def forward(self, frames: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
            seen.append(boxes)
            return boxes.sum(-1, keepdim=True).expand(*mask.shape, 8) * mask[..., None]

    monkeypatch.setattr("models.networks.two_stage.ClipCropEncoder", Crops)
    network = make_lively(tiny_two_stage("tr2", clip_features=True, clip_width=8))
    frames, timestamps = video(1, 8)
    with torch.inference_mode():
        outputs = run_network(network, frames, timestamps)
        pairs = detector_of(network).pairs(frames, timestamps)
        wanted = network(network.with_crops(pairs, frames))
    around = union_boxes(pairs.subject_boxes, pairs.object_boxes)
    assert torch.equal(seen[0], around)
    torch.testing.assert_close(outputs["crop_features"][..., 0], around.sum(-1) * pairs.mask)
    assert all(torch.equal(outputs[group], wanted.probabilities[group]) for group in GROUPS)
