"""ARN as a whole: its presets, its switches, and what may and may not influence an output."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export.check import sample_frames
from models.errors import ConfigurationError
from models.networks.arn import Arn, ArnConfig, arn_compact, arn_r50
from models.networks.arn.network import pair_geometry
from tests.support.networks import make_lively, tiny
from training.losses import LossConfig, arn_loss
from training.targets import Targets

PAPERS_PARAMETERS = 54.06e6


def frames(batch: int, time: int, config: ArnConfig, seed: int = 0) -> Tensor:
    return torch.from_numpy(
        sample_frames(np.random.default_rng(seed), batch, time, config.frame_height, config.frame_width)
    )


def targets(batch: int, time: int) -> Targets:
    """Two objects in every frame, with one predicate of each group."""
    predicates = torch.zeros(batch, time, 2, 26)
    predicates[..., [0, 4, 14]] = 1
    return Targets(
        person_boxes=torch.tensor((0.5, 0.5, 0.4, 0.8)).expand(batch, time, 4),
        object_boxes=torch.tensor(((0.3, 0.4, 0.2, 0.3), (0.7, 0.6, 0.3, 0.2))).expand(batch, time, 2, 4),
        object_labels=torch.tensor((3, 20)).expand(batch, time, 2),
        object_mask=torch.ones(batch, time, 2, dtype=torch.bool),
        predicates=predicates,
    )


@pytest.fixture(scope="module")
def learned() -> Arn:
    """The paper's kind of queries."""
    return make_lively(tiny())


@pytest.fixture(scope="module")
def proposed() -> Arn:
    """With all training aids."""
    return make_lively(tiny(dense_proposals=True, region_grid=2, sigmoid_classes=True))


def test_the_papers_network_has_the_papers_number_of_parameters() -> None:
    # 53.92 M: 0.14 M, or 0.3 %, less than the paper's 54.06 M, which says nothing of the widths of its new layers.
    with torch.device("meta"):
        network = Arn(arn_r50())
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 53_916_798
    assert abs(count - PAPERS_PARAMETERS) < 0.005 * PAPERS_PARAMETERS


def test_the_compact_network_has_a_tenth_of_the_parameters() -> None:
    network = Arn(arn_compact())
    assert sum(parameter.numel() for parameter in network.parameters()) < 5.5e6


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("kind", ["learned", "proposed"])
def test_outputs_have_the_shapes_of_the_contract_and_are_fractions(
    kind: str, batch: int, time: int, request: pytest.FixtureRequest
) -> None:
    network: Arn = request.getfixturevalue(kind)
    with torch.inference_mode():
        outputs = network.predict(frames(batch, time, network.config))
    pairs = (batch, time, network.config.queries)
    assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == {
        "pair_mask": pairs,
        "subject_boxes": (*pairs, 4),
        "subject_scores": pairs,
        "object_boxes": (*pairs, 4),
        "object_scores": (*pairs, 36),
        "attention": (*pairs, 3),
        "spatial": (*pairs, 6),
        "contacting": (*pairs, 17),
        "representation": (*pairs, network.representation_width),
    }
    assert outputs.pop("pair_mask").all()
    del outputs["representation"]
    for name, tensor in outputs.items():
        assert tensor.min() >= 0, name
        assert tensor.max() <= 1, name
    for name in ("subject_boxes", "object_boxes"):
        assert (outputs[name][..., 2:] >= outputs[name][..., :2]).all()
    assert (outputs["object_scores"][..., 0] == 0).all(), "a person is never the object"


@pytest.mark.parametrize("kind", ["learned", "proposed"])
def test_a_clip_does_not_depend_on_the_other_clips_of_its_batch(kind: str, request: pytest.FixtureRequest) -> None:
    network: Arn = request.getfixturevalue(kind)
    clips = frames(3, 2, network.config)
    with torch.inference_mode():
        together, alone = network.predict(clips), network.predict(clips[1:2])
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name][1:2], tensor, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("temporal_attention", [True, False])
def test_another_frame_of_the_clip_changes_the_predicates_but_not_the_entities(temporal_attention: bool) -> None:
    network = make_lively(tiny(temporal_attention=temporal_attention))
    clip = frames(1, 3, network.config)
    other = clip.clone()
    other[:, 2] = frames(1, 1, network.config, seed=7)[:, 0]
    with torch.inference_mode():
        before, after = network.predict(clip), network.predict(other)
    torch.testing.assert_close(before["object_boxes"][:, 0], after["object_boxes"][:, 0])
    torch.testing.assert_close(before["object_scores"][:, 0], after["object_scores"][:, 0])
    # Without temporal attention the predicate queries still look at the tokens of the whole clip.
    assert (before["contacting"][:, 0] - after["contacting"][:, 0]).abs().max() > 1e-4


def test_temporal_attention_mixes_frames_at_one_place_only(learned: Arn) -> None:
    temporal = learned.predicate_decoder.temporal
    assert temporal is not None
    tokens = torch.randn(1, 3, 4, learned.config.width, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 2, 1] += 1
    with torch.inference_mode():
        code = learned.predicate_decoder.frame_code[:3]
        difference = (temporal(changed, code) - temporal(tokens, code)).abs().amax((0, 1, 3))
    assert difference[1] > 1e-3
    assert difference[[0, 2, 3]].max() == 0


SWITCHES: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "without triplets": {"triplet_prediction": False},
    "without hierarchical attention": {"hierarchical_attention": False},
    "without association": {"predicate_association": False, "hierarchical_attention": False},
    "added weights": {"weight_mapping": "add"},
    "nonlinear weights": {"weight_mapping": "nonlinear"},
    "without temporal attention": {"temporal_attention": False},
    "mimicry": {"mimicry": True},
    "sigmoid classes": {"sigmoid_classes": True},
    "dense proposals": {"dense_proposals": True},
    "region grid": {"dense_proposals": True, "region_grid": 2},
    "direct classes on proposals": {"dense_proposals": True, "triplet_prediction": False, "sigmoid_classes": True},
    "one predicate layer": {"predicate_layers": 1},
    "ResNet-50": {"backbone": "resnet50", "frame_height": 64, "frame_width": 64},
}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_builds_runs_and_teaches_every_parameter(name: str) -> None:
    config = tiny(**SWITCHES[name])
    torch.manual_seed(0)
    network = Arn(config).train()
    output = network(frames(2, 2, config))
    images = torch.ones(2, 2, config.text_width)
    terms = arn_loss(output, targets(2, 2), LossConfig(), images)
    assert ("mimicry" in terms) == config.mimicry
    torch.stack(list(terms.values())).sum().backward()
    trainable = {key: parameter for key, parameter in network.named_parameters() if parameter.requires_grad}
    assert {key for key, parameter in trainable.items() if parameter.grad is None} == set()
    assert all(torch.isfinite(parameter.grad).all() for parameter in trainable.values() if parameter.grad is not None)


def test_resnets_stem_and_first_stage_are_frozen_as_in_detr() -> None:
    with torch.device("meta"):
        network = Arn(arn_r50())
    frozen = {name.split(".")[2] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "layer1"}


def test_heads_read_entities_behind_detrs_norm() -> None:
    network = make_lively(tiny(entity_norm=True))
    decoder = network.entity_decoder
    assert decoder.norm is not None
    torch.nn.init.uniform_(decoder.norm.weight, 0.5, 2.0)
    decoded: list[Tensor] = []
    decoder.layers[-1].register_forward_hook(lambda module, given, output: decoded.append(output))
    frames = torch.from_numpy(sample_frames(np.random.default_rng(3), 1, 1, *network.frame_size))
    with torch.inference_mode():
        boxes = network(frames).entity_layers[-1].object_boxes[0, 0]
        _, objects = decoder.norm(decoded[0]).chunk(2, dim=1)
        torch.testing.assert_close(boxes, decoder.object_box(objects)[0].sigmoid())
        _, unnormed = decoded[0].chunk(2, dim=1)
        assert (boxes - decoder.object_box(unnormed)[0].sigmoid()).abs().max() > 1e-3


def test_mimicry_projects_to_clips_width() -> None:
    network = Arn(tiny(mimicry=True)).eval()
    with torch.inference_mode():
        output = network(frames(1, 2, network.config))
    assert output.image_features is not None
    assert output.image_features.shape == (1, 2, network.config.queries, network.config.text_width)


def test_pair_geometry_equals_a_case_by_hand() -> None:
    person, thing = torch.tensor((0.5, 0.5, 0.4, 0.8)), torch.tensor((0.6, 0.3, 0.2, 0.4))
    wanted = [0.5, 0.5, 0.4, 0.8, 0.2, 0.4, 0.25, -0.25, np.log(0.5), np.log(0.5), 0.08 / 0.32, np.hypot(0.25, 0.25)]
    assert pair_geometry(person, thing).tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, r"width is 30: give a multiple of 4 and of heads \(2\)"),
        ({"predicate_association": False}, "hierarchical_attention needs predicate_association"),
        ({"backbone": "resnet50", "dense_proposals": True}, "need the compact backbone's fine feature map"),
        ({"region_grid": 2}, "region_grid needs dense_proposals"),
        ({"frame_width": 70}, "the frame is 70x64 pixels: give multiples of 16"),
        ({"backbone": "resnet50", "frame_height": 48}, "the frame is 64x48 pixels: give multiples of 32"),
    ],
)
def test_contradictions_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ArnConfig(**{**asdict(tiny()), **change})
