"""TR² against loops over trajectories written by hand, and what padding must not do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, GroupName
from models.networks.arn.classifiers import TextEmbeddings
from models.networks.relations.pairs import Pairs
from models.networks.relations.temporal import timing_frequencies, timing_signal
from models.networks.relations.tr2 import MessageToken, Tr2, Tr2Config
from tests.models.networks.relations.samples import (
    SIZES,
    SMALL,
    largest_export_difference,
    lively,
    random_pairs,
    with_more_slots,
    with_other_leftovers,
)

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices
OBJECTS = ACTION_GENOME.objects

TEXT_WIDTH = 10


def make(**changes: Any) -> Tr2:
    """A small network with random sentences."""
    network = lively(Tr2(Tr2Config(**SMALL | {"text_width": TEXT_WIDTH} | changes)))
    network.initialise_text(TextEmbeddings(torch.randn(35, TEXT_WIDTH), torch.randn(35, 26, TEXT_WIDTH)))
    return network


def trajectories_by_hand(pairs: Pairs, clip: int) -> list[list[tuple[int, int]]]:
    """Frame and slot of each pair of a clip, in order, one list for each object class."""
    by_class: dict[int, list[tuple[int, int]]] = {}
    for frame, slot in pairs.mask[clip].nonzero().tolist():
        by_class.setdefault(int(pairs.object_scores[clip, frame, slot].argmax()), []).append((frame, slot))
    return list(by_class.values())


def decoded_by_hand(network: Tr2, pairs: Pairs, clip: int) -> dict[tuple[int, int], Tensor]:
    """What a clip's pairs are before the classifiers, one trajectory at a time, without padding."""
    represented = network.representation(pairs)[clip]
    encoded: dict[tuple[int, int], Tensor] = {}
    for frame in range(represented.shape[0]):
        slots = pairs.mask[clip, frame].nonzero().flatten().tolist()
        if slots:
            tokens = represented[frame, slots]
            every = torch.ones(len(slots), dtype=torch.bool)
            encoded.update(zip([(frame, slot) for slot in slots], network.encoder(tokens, every), strict=True))
    decoded = {}
    for places in trajectories_by_hand(pairs, clip):
        tokens = torch.stack([encoded[place] for place in places])
        timing = timing_signal(torch.arange(len(places)), timing_frequencies(network.config.width))
        for layer in network.decoder.layers:
            tokens = layer(tokens, timing)
        for number, place in enumerate(places):
            token = tokens[number]
            if network.message is not None:
                compared_with = tokens[number - 1] if number else torch.zeros_like(token)
                passed_on = tokens[number - 1] if number else token
                hidden = network.message.compare(torch.cat((compared_with, token)))
                gate = torch.tanh(network.message.gate(torch.tanh(network.message.hidden(hidden))))
                token = torch.cat((token, gate * passed_on))
            decoded[place] = token
    return decoded


@pytest.mark.parametrize("message_token", [True, False])
@pytest.mark.parametrize("clip_features", [True, False])
def test_decoded_pairs_equal_a_loop_over_trajectories(message_token: bool, clip_features: bool) -> None:
    network = make(message_token=message_token, clip_features=clip_features)
    pairs = random_pairs(network.config, 2, 4)
    decoded = network(pairs).decoded
    assert decoded.shape == (2, 4, 4, network.config.width * (2 if message_token else 1))
    for clip in range(2):
        for (frame, slot), wanted in decoded_by_hand(network, pairs, clip).items():
            torch.testing.assert_close(decoded[clip, frame, slot], wanted, atol=1e-4, rtol=1e-4)


def test_fusion_has_the_published_size() -> None:
    with torch.device("meta"):
        network = Tr2(Tr2Config(clip_features=True))
    assert isinstance(network.message, MessageToken)
    parts = (network.encoder, network.decoder, network.message)
    assert sum(weight.numel() for part in parts for weight in part.parameters()) == 106_753_424


def test_linear_classifiers_give_probabilities_of_each_group() -> None:
    network = make()
    relations = network(random_pairs(network.config, 2, 3))
    heads = network.heads
    for group in GROUPS:
        logits = heads[group](relations.decoded)
        wanted = logits.softmax(-1) if group == "attention" else logits.sigmoid()
        assert wanted.shape[-1] == SIZES[group]
        torch.testing.assert_close(relations.probabilities[group], wanted)


def test_text_classifiers_compare_with_sentences_of_the_pairs_own_class() -> None:
    network = make(text_classifiers=True)
    pairs = random_pairs(network.config, 2, 3)
    relations = network(pairs)
    for clip, frame, slot in pairs.mask.nonzero().tolist():
        label = int(pairs.object_scores[clip, frame, slot].argmax())
        for group in GROUPS:
            features = network.heads[group](relations.decoded[clip, frame, slot])
            logits = torch.stack([features @ sentence for sentence in network.text[label, SLICES[group]]])
            wanted = logits.softmax(-1) if group == "attention" else logits.sigmoid()
            torch.testing.assert_close(relations.probabilities[group][clip, frame, slot], wanted, atol=1e-5, rtol=1e-4)


def test_sentences_are_kept_as_they_are_and_saved_with_the_weights() -> None:
    network = Tr2(Tr2Config(**SMALL, text_width=TEXT_WIDTH))
    triplets = torch.randn(35, 26, TEXT_WIDTH).half() * 10
    network.initialise_text(TextEmbeddings(torch.randn(35, TEXT_WIDTH), triplets))
    text = network.state_dict()["text"]
    assert text.shape == (len(OBJECTS), 26, TEXT_WIDTH)
    assert (text[0] == 0).all()
    assert torch.equal(text[1:], triplets.float())


def test_sentences_of_another_width_are_refused() -> None:
    network = Tr2(Tr2Config(**SMALL, text_width=TEXT_WIDTH))
    with pytest.raises(ConfigurationError, match=r"text_width is 10, .* width 12"):
        network.initialise_text(TextEmbeddings(torch.randn(35, 12), torch.randn(35, 26, 12)))


def random_predicates(pairs: Pairs) -> Tensor:
    """Labels of most pairs: one of attention, some of the others; some pairs match no annotated object."""
    torch.manual_seed(5)
    attention = torch.nn.functional.one_hot(torch.randint(0, 3, pairs.mask.shape), 3)
    others = (torch.rand(*pairs.mask.shape, 23) < 0.2).long()
    others[..., 0], others[..., -1] = 1, 1
    matched = pairs.mask & (torch.rand(pairs.mask.shape) < 0.8)
    return torch.cat((attention, others), -1).float() * matched[..., None]


def guidance_by_hand(network: Tr2, pairs: Pairs, decoded: Tensor, predicates: Tensor, group: GroupName) -> float:
    """Mean over all steps of trajectories of which both ends are annotated."""
    config = network.config
    assert network.guides is not None
    group_slice = SLICES[group]

    def sentence(place: tuple[int, int, int]) -> Tensor:
        label = int(pairs.object_scores[place].argmax())
        chosen = predicates[place][group_slice].nonzero().flatten().tolist()
        offset = 0 if config.reproduce_label_offset_bug else {"attention": 0, "spatial": 3, "contacting": 9}[group]
        return torch.stack([network.text[label, offset + number] for number in chosen]).mean(0)

    errors = []
    for clip in range(pairs.mask.shape[0]):
        for places in trajectories_by_hand(pairs, clip):
            for before, after in pairwise(places):
                first, second = (clip, *before), (clip, *after)
                if not (predicates[first].any() and predicates[second].any()):
                    continue
                visual, text = decoded[second], sentence(second)
                if config.guidance_of_difference:
                    visual, text = visual - decoded[first], text - sentence(first)
                errors.append((network.guides[group](visual) - text).square().mean())
    assert len(errors) > 4
    return torch.stack(errors).mean().item()


@pytest.mark.parametrize("guidance_of_difference", [True, False])
@pytest.mark.parametrize("reproduce_label_offset_bug", [True, False])
def test_guidance_equals_a_loop_over_steps(guidance_of_difference: bool, reproduce_label_offset_bug: bool) -> None:
    network = make(guidance_of_difference=guidance_of_difference, reproduce_label_offset_bug=reproduce_label_offset_bug)
    pairs = random_pairs(network.config, 2, 5)
    predicates = random_predicates(pairs)
    relations = network(pairs)
    terms = network.loss_terms(pairs, relations, predicates)
    wanted = {
        f"guidance_{group}": guidance_by_hand(network, pairs, relations.decoded, predicates, group) for group in GROUPS
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(wanted, rel=1e-4)


def test_the_offset_bug_changes_spatial_and_contacting_only() -> None:
    right, wrong = make(), make(reproduce_label_offset_bug=True)
    wrong.load_state_dict(right.state_dict())
    pairs = random_pairs(right.config, 2, 5)
    predicates = random_predicates(pairs)
    first = right.loss_terms(pairs, right(pairs), predicates)
    second = wrong.loss_terms(pairs, wrong(pairs), predicates)
    changed = {name: abs(first[name] - second[name]).item() > 1e-3 for name in first}
    assert changed == {"guidance_attention": False, "guidance_spatial": True, "guidance_contacting": True}


def test_a_group_not_annotated_in_both_frames_is_not_compared() -> None:
    network = make()
    pairs = replace(
        random_pairs(network.config, 1, 2, slots=1, filled=1.0), object_scores=torch.eye(36)[3].expand(1, 2, 1, 36)
    )
    predicates = torch.zeros(1, 2, 1, 26)
    predicates[0, 0, 0, [1, 4]] = 1
    predicates[0, 1, 0, [0, 20]] = 1
    terms = network.loss_terms(pairs, network(pairs), predicates)
    assert terms["guidance_attention"] > 0
    assert terms["guidance_spatial"] == terms["guidance_contacting"] == 0


@pytest.mark.parametrize(("time", "filled"), [(1, 0.5), (3, 0.0), (3, 0.8)])
def test_guidance_is_zero_where_nothing_is_annotated_twice(time: int, filled: float) -> None:
    network = make().train()
    pairs = random_pairs(network.config, 2, time, slots=1 if time == 1 else 4, filled=filled)
    predicates = random_predicates(pairs) if time == 1 else torch.zeros(*pairs.mask.shape, 26)
    terms = network.loss_terms(pairs, network(pairs), predicates)
    assert {name: value.item() for name, value in terms.items()} == {f"guidance_{group}": 0.0 for group in GROUPS}
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


def test_without_guidance_there_are_neither_terms_nor_weights_of_it() -> None:
    network = make(guidance=False)
    pairs = random_pairs(network.config, 1, 3)
    assert network.loss_terms(pairs, network(pairs), random_predicates(pairs)) == {}
    assert not [name for name in network.state_dict() if "guide" in name]


@pytest.mark.parametrize("text_classifiers", [True, False])
def test_slots_without_a_pair_change_nothing(text_classifiers: bool) -> None:
    network = make(text_classifiers=text_classifiers)
    pairs = random_pairs(network.config, 2, 4)
    changed = with_more_slots(with_other_leftovers(pairs), 3)
    wanted, given = network(pairs), network(changed)
    torch.testing.assert_close(given.decoded[changed.mask], wanted.decoded[pairs.mask], atol=1e-4, rtol=1e-4)
    for group in GROUPS:
        torch.testing.assert_close(
            given.probabilities[group][changed.mask], wanted.probabilities[group][pairs.mask], atol=1e-4, rtol=1e-4
        )
    predicates = random_predicates(pairs)
    grown = torch.cat((predicates, torch.zeros(2, 4, 3, 26)), 2)
    torch.testing.assert_close(
        network.loss_terms(changed, given, grown), network.loss_terms(pairs, wanted, predicates), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("time", "filled"), [(1, 1.0), (1, 0.0), (4, 0.0), (4, 0.2)])
@pytest.mark.parametrize("training", [False, True])
def test_short_and_empty_clips_give_finite_numbers(time: int, filled: float, training: bool) -> None:
    network = make(text_classifiers=True).train(training)
    relations = network(random_pairs(network.config, 2, time, filled=filled))
    assert torch.isfinite(relations.decoded).all()
    assert all(torch.isfinite(values).all() for values in relations.probabilities.values())
    relations.decoded.sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


def test_the_exported_network_gives_the_same_for_any_batch_and_time(tmp_path: Path) -> None:
    # One layer: exporting takes seconds for each.
    network = make(clip_features=True, text_classifiers=True, decoder_layers=1)
    assert largest_export_difference(network, tmp_path, [(1, 1), (3, 7), (2, 2)]) < 1e-4
