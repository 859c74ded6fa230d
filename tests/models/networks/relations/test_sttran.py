"""STTran against the published transformer's numbers, published checkpoints' names, and what padding must not do."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.sttran import SpatioTemporalTransformer, Sttran, SttranConfig, load_sttran_checkpoint
from tests.conftest import SHARED
from tests.models.networks.relations.samples import (
    SIZES,
    SMALL,
    lively,
    random_pairs,
    with_more_slots,
    with_other_leftovers,
)
from tests.support.sttran import published_shapes, published_state

GROUPS = ACTION_GENOME.group_names

CONFIG = SttranConfig(**SMALL)


@pytest.fixture
def published() -> dict[str, np.ndarray]:
    """Weights, input and output of the published transformer at a small size."""
    path = SHARED / "evaluation" / "sttran_transformer.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not here; reference figures are kept beside the checkout")
    return dict(np.load(path))


def published_transformer(published: dict[str, np.ndarray]) -> tuple[SpatioTemporalTransformer, dict[str, Tensor]]:
    """A network of the published size, not loaded yet, and the weights."""
    hidden = {name: int(published[name]) for name in ("encoder_layers", "decoder_layers")}
    config = SttranConfig(
        **SMALL | {"heads": int(published["heads"]), "feed_forward": int(published["feedforward"])}, **hidden
    )
    state = {name.removeprefix("state/"): torch.from_numpy(v) for name, v in published.items() if "state/" in name}
    return SpatioTemporalTransformer(config).eval(), state


@pytest.mark.parametrize("prefix", ["", "glocal_transformer."])
def test_the_published_transformers_outputs_are_reproduced(published: dict[str, np.ndarray], prefix: str) -> None:
    transformer, state = published_transformer(published)
    transformer.load_reference_state({prefix + name: value for name, value in state.items()})
    features, frames = torch.from_numpy(published["features"]), torch.from_numpy(published["frame_index"])
    torch.manual_seed(0)
    time, slots = int(frames.max()) + 1, int(frames.bincount().max()) + 3
    order = torch.stack([torch.randperm(slots) for _ in range(time)])
    seen = [int((frames[:pair] == frames[pair]).sum()) for pair in range(len(frames))]
    slot = order[frames, seen]
    mask = torch.zeros(1, time, slots, dtype=torch.bool)
    mask[0, frames, slot] = True
    represented = torch.randn(1, time, slots, features.shape[1])
    represented[0, frames, slot] = features
    decoded = transformer(represented, mask)[0, frames, slot]
    torch.testing.assert_close(decoded, torch.from_numpy(published["output"]), atol=1e-5, rtol=0)


def test_weights_of_another_number_of_layers_are_refused(published: dict[str, np.ndarray]) -> None:
    _, state = published_transformer(published)
    sizes = SMALL | {"feed_forward": int(published["feedforward"])}
    with pytest.raises(WeightsError, match=r"global_attention\.layers\.2\..* has no place"):
        SpatioTemporalTransformer(SttranConfig(**sizes, decoder_layers=2)).load_reference_state(state)
    with pytest.raises(WeightsError, match=r"global_attention\.layers\.3\..* is missing"):
        SpatioTemporalTransformer(SttranConfig(**sizes, decoder_layers=4)).load_reference_state(state)


def test_a_published_checkpoint_fills_every_weight() -> None:
    network = Sttran(CONFIG)
    state = published_state(CONFIG)
    unused = load_sttran_checkpoint(network, state)
    assert unused == sorted(name for name in state if name.startswith("object_classifier."))
    own = network.state_dict()
    assert len(own) == len(state) - len(unused) + 1  # and predicate_counts
    renamed = {
        "representation.subj_fc.weight": "subj_fc.weight",
        "representation.union.conv.4.bias": "conv.4.bias",
        "representation.union.conv.6.running_var": "conv.6.running_var",
        "representation.union.union_func1.weight": "union_func1.weight",
        "representation.union.vr_fc.weight": "vr_fc.weight",
        "c_rel_compress.weight": "c_rel_compress.weight",
    }
    transformer = "glocal_transformer."
    renamed |= {
        transformer + "global_attention.position_embedding.weight": transformer + "position_embedding.weight",
        transformer + "global_attention.layers.2.norm3.bias": transformer + "global_attention.layers.2.norm3.bias",
    }
    for ours, theirs in renamed.items():
        assert torch.equal(own[ours], state[theirs]), ours
    # Published tables of words start with the background class.
    assert torch.equal(own["representation.obj_embed.weight"], state["obj_embed.weight"][1:])
    assert torch.equal(own["representation.obj_embed2.weight"], state["obj_embed2.weight"][1:])
    assert network.predicate_counts.tolist() == [1.0] * 26


@pytest.mark.parametrize("damaged", ["conv.4.weight", "obj_embed2.weight", "conv.6.num_batches_tracked"])
def test_a_missing_or_misshaped_key_is_named(damaged: str) -> None:
    network = Sttran(CONFIG)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = published_state(CONFIG)
    with pytest.raises(WeightsError, match=f"'{damaged}'.* is missing"):
        load_sttran_checkpoint(network, {name: value for name, value in state.items() if name != damaged})
    with pytest.raises(WeightsError, match=f"'{damaged}' has shape"):
        load_sttran_checkpoint(network, state | {damaged: torch.zeros(36, CONFIG.word_width)})
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_cannot_hold_the_published_weights_says_so() -> None:
    with pytest.raises(WeightsError, match="clip_features"):
        load_sttran_checkpoint(Sttran(SttranConfig(**SMALL, clip_features=True)), published_state(CONFIG))
    with pytest.raises(WeightsError, match=r"layers\.2\..* has no place"):
        load_sttran_checkpoint(Sttran(SttranConfig(**SMALL, decoder_layers=2)), published_state(CONFIG))


def test_the_papers_network_has_the_published_size_and_shapes() -> None:
    config = SttranConfig()
    assert config.width == 1936
    shapes = published_shapes(config)
    trainable = {name: prod(shape) for name, shape in shapes.items() if "running" not in name}
    assert sum(trainable.values()) == 103_398_359
    with torch.device("meta"):
        network = Sttran(config)
    classifier = sum(size for name, size in trainable.items() if name.startswith("object_classifier."))
    background = 2 * config.word_width
    assert sum(weight.numel() for weight in network.parameters()) == 103_398_359 - classifier - background
    assert sum(weight.numel() for weight in network.glocal_transformer.parameters()) == 91_759_104
    load_sttran_checkpoint(network, published_state(config, "meta"))


def test_predicates_of_a_pair_are_probabilities_from_what_was_decoded() -> None:
    network = lively(Sttran(CONFIG))
    relations = network(random_pairs(CONFIG, 2, 3))
    assert relations.representation.shape == relations.decoded.shape == (2, 3, 4, CONFIG.width)
    for group in GROUPS:
        assert relations.probabilities[group].shape == (2, 3, 4, SIZES[group])
        assert relations.probabilities[group].dtype == torch.float32
    torch.testing.assert_close(
        relations.probabilities["attention"], network.a_rel_compress(relations.decoded).softmax(-1)
    )
    torch.testing.assert_close(relations.probabilities["spatial"], network.s_rel_compress(relations.decoded).sigmoid())
    torch.testing.assert_close(
        relations.probabilities["contacting"], network.c_rel_compress(relations.decoded).sigmoid()
    )


def test_slots_without_a_pair_change_nothing() -> None:
    network = lively(Sttran(CONFIG))
    pairs = random_pairs(CONFIG, 2, 5)
    changed = with_more_slots(with_other_leftovers(pairs), 3)
    wanted, given = network(pairs), network(changed)
    for group in GROUPS:
        torch.testing.assert_close(given.probabilities[group][changed.mask], wanted.probabilities[group][pairs.mask])
    torch.testing.assert_close(given.decoded[changed.mask], wanted.decoded[pairs.mask], atol=1e-4, rtol=1e-4)


def test_the_order_of_a_frames_slots_does_not_matter() -> None:
    network = lively(Sttran(CONFIG))
    pairs = random_pairs(CONFIG, 1, 3)
    order = torch.stack([torch.randperm(4) for _ in range(3)])[None]  # (1, 3, P)

    def shuffled(values: Tensor) -> Tensor:
        wide = order.reshape(1, 3, -1, *[1] * (values.dim() - 3)).expand_as(values)
        return values.gather(2, wide)

    names = ("mask", "object_boxes", "object_scores", "object_features", "union_features")
    changed = replace(pairs, **{name: shuffled(getattr(pairs, name)) for name in names})
    given, wanted = network(changed).decoded, shuffled(network(pairs).decoded)
    torch.testing.assert_close(given[changed.mask], wanted[changed.mask], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("aggregation", ["latter", "mean"])
@pytest.mark.parametrize(("time", "filled"), [(1, 1.0), (1, 0.0), (4, 0.0), (4, 0.2)])
@pytest.mark.parametrize("training", [False, True])
def test_short_and_empty_clips_give_finite_numbers(time: int, filled: float, training: bool, aggregation: str) -> None:
    network = lively(Sttran(SttranConfig(**SMALL, aggregation=aggregation))).train(training)  # type: ignore[arg-type]
    relations = network(random_pairs(CONFIG, 2, time, filled=filled))
    assert torch.isfinite(relations.decoded).all()
    assert all(torch.isfinite(values).all() for values in relations.probabilities.values())
    relations.decoded.sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


@pytest.mark.parametrize("changes", [{"aggregation": "both"}, {"decoder_layers": -1}, {"network": "tr2"}, {"depth": 1}])
def test_a_configuration_of_something_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SttranConfig(**SMALL | changes)
