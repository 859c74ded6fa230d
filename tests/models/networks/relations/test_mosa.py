"""MoSA as a whole: its switches, its sentences, what may and may not influence an output, and its export."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.arn.classifiers import TextEmbeddings
from models.networks.relations.mosa import Mosa, MosaConfig, SemanticMatching
from models.networks.relations.motion import MotionConcatenation, MotionInteraction
from tests.models.networks.relations.samples import (
    SIZES,
    SMALL,
    lively,
    random_pairs,
    with_more_slots,
    with_other_leftovers,
)

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices

TEXT_WIDTH = 10
WITHOUT_MOTION = {"motion_features": False, "motion_interaction": False}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"motion_interaction": False},
    WITHOUT_MOTION,
    {"semantic_matching": False, "clip_features": True},
]


@pytest.fixture
def embeddings() -> TextEmbeddings:
    generator = torch.Generator().manual_seed(0)
    # Like CLIP's: far from unit length, and within a narrow cone.
    return TextEmbeddings(
        objects=5 + torch.randn(35, TEXT_WIDTH, generator=generator),
        triplets=5 + torch.randn(35, 26, TEXT_WIDTH, generator=generator),
    )


def small(**changes: Any) -> MosaConfig:
    return MosaConfig(**SMALL | {"text_width": TEXT_WIDTH, "motion_width": 6} | changes)


def make(**changes: Any) -> Mosa:
    return lively(Mosa(small(**changes)))


def test_motion_interaction_without_motion_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"motion_interaction .* needs motion_features"):
        small(motion_features=False)


@pytest.mark.parametrize("changes", VARIANTS)
def test_only_what_is_switched_on_has_parameters(changes: dict[str, Any]) -> None:
    network = make(**changes)
    config, names = network.config, list(network.state_dict())
    assert any(name.startswith("motion.") for name in names) == config.motion_features
    assert any(name.startswith("fusion.") for name in names) == config.motion_features
    if config.motion_features:
        assert isinstance(network.fusion, MotionInteraction if config.motion_interaction else MotionConcatenation)
    assert ("text" in names) == config.semantic_matching
    heads = SemanticMatching if config.semantic_matching else torch.nn.Linear
    assert all(isinstance(head, heads) for head in network.heads.values())


@pytest.mark.parametrize("changes", VARIANTS)
def test_probabilities_have_the_groups_shapes_and_ranges(changes: dict[str, Any]) -> None:
    network = make(**changes)
    relations = network(random_pairs(network.config, 2, 3))
    for group in GROUPS:
        probabilities = relations.probabilities[group]
        assert probabilities.shape == (2, 3, 4, SIZES[group])
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
    torch.testing.assert_close(relations.probabilities["attention"].sum(-1), torch.ones(2, 3, 4))
    assert relations.representation.shape == relations.decoded.shape == (2, 3, 4, network.config.width)
    assert relations.epistemic is None


@pytest.mark.parametrize("changes", VARIANTS)
def test_leftovers_and_further_empty_slots_change_nothing(changes: dict[str, Any]) -> None:
    network = make(**changes)
    pairs = random_pairs(network.config, 2, 4)
    first, second = network(pairs), network(with_other_leftovers(pairs))
    wider = network(with_more_slots(pairs, 3))
    for group in GROUPS:
        wanted = first.probabilities[group][pairs.mask]
        torch.testing.assert_close(second.probabilities[group][pairs.mask], wanted)
        torch.testing.assert_close(wider.probabilities[group][:, :, :4][pairs.mask], wanted)


def test_motion_matters_only_where_it_is_on() -> None:
    for changes, wanted in ((VARIANTS[0], True), (VARIANTS[1], True), (WITHOUT_MOTION, False)):
        network = make(clip_features=True, **changes)  # which no box masks reach
        pairs = random_pairs(network.config, 1, 3, filled=1.0)
        faster = replace(pairs, timestamps=pairs.timestamps / 10)
        differs = (network(pairs).decoded - network(faster).decoded).abs().max() > 1e-3
        assert differs.item() == wanted


def test_one_frame_and_frames_without_pairs_are_finite() -> None:
    network = make()
    for batch, time in ((1, 1), (2, 3)):
        pairs = random_pairs(network.config, batch, time)
        relations = network(replace(pairs, mask=torch.zeros_like(pairs.mask)))
        assert all(relations.probabilities[group].isfinite().all() for group in GROUPS)


def test_matching_is_a_scaled_dot_product_with_the_sentences_of_the_pairs_object() -> None:
    network = make()
    pairs = random_pairs(network.config, 2, 3)
    relations = network(pairs)
    for clip, time, place in pairs.mask.nonzero().tolist():
        label = pairs.labels[clip, time, place]
        for group in GROUPS:
            head = network.heads[group]
            assert isinstance(head, SemanticMatching)
            feature = head.project(relations.decoded[clip, time, place])
            sentences = network.text[label, SLICES[group]]
            logits = torch.stack([feature @ sentence for sentence in sentences]) * head.log_scale.exp() + head.bias
            wanted = logits.softmax(-1) if group == "attention" else logits.sigmoid()
            torch.testing.assert_close(relations.probabilities[group][clip, time, place], wanted, atol=1e-5, rtol=1e-4)


def test_logits_start_within_the_slope_of_the_sigmoid() -> None:
    torch.manual_seed(0)
    head = SemanticMatching(64, 32, 17)
    sentences = F.normalize(torch.randn(36, 17, 32), dim=-1)
    logits = head(torch.randn(1, 50, 4, 64), torch.randint(1, 36, (1, 50, 4)), sentences)
    assert 0.3 < logits.std() < 1


@pytest.mark.parametrize("centred", [False, True])
def test_sentences_are_of_unit_length_and_if_asked_for_centred_by_object_and_group(
    embeddings: TextEmbeddings, centred: bool
) -> None:
    network = make(centred_text=centred)
    network.initialise_text(embeddings)
    assert network.text.shape == (36, 26, TEXT_WIDTH)
    assert network.text[0].abs().max() == 0, "a person is never the object of a pair"

    def unit(vector: Tensor) -> Tensor:
        return vector / vector.norm()

    for thing in (0, 17, 34):
        for group in GROUPS:
            sentences = [unit(sentence) for sentence in embeddings.triplets[thing, SLICES[group]]]
            shared = sum(sentences, torch.zeros(TEXT_WIDTH)) / len(sentences)
            wanted = torch.stack([unit(sentence - shared) if centred else sentence for sentence in sentences])
            torch.testing.assert_close(network.text[thing + 1, SLICES[group]], wanted)


def test_sentences_are_saved_with_the_weights_and_not_trained(embeddings: TextEmbeddings) -> None:
    first, second = make(), make()
    first.initialise_text(embeddings)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.text, second.text)
    assert "text" not in dict(first.named_parameters())


def test_sentences_of_another_width_are_refused(embeddings: TextEmbeddings) -> None:
    with pytest.raises(ConfigurationError, match=r"text_width is 12, .* width 10"):
        make(text_width=12).initialise_text(embeddings)


def test_without_matching_sentences_are_ignored(embeddings: TextEmbeddings) -> None:
    make(semantic_matching=False).initialise_text(embeddings)


def test_every_parameter_learns() -> None:
    network = make(semantic_matching=True).train()
    relations = network(random_pairs(network.config, 2, 3, filled=1.0))
    sum((relations.probabilities[group][..., 0].sum() for group in GROUPS), torch.zeros(())).backward()
    silent = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    # Attention is blind to a bias that all keys share, up to rounding, and may or may not show in the gradient.
    assert silent <= {name for name, _ in network.named_parameters() if name.endswith("in_proj_bias")}
