"""Every network with a vocabulary that is not Action Genome's: two subjects, two groups, one of them reversed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.check import sample_frames
from models.errors import ConfigurationError
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from models.networks.checkpoint import NetworkConfig, load_checkpoint, make_network, save_checkpoint
from models.networks.detectors import Detector
from tests.support.networks import (
    RELATION_CONFIGS,
    SMALL_WORLD,
    make_lively,
    run_network,
    tiny,
    tiny_detector,
    tiny_scored,
    tiny_two_stage,
)

ONE_STAGE = tiny(dense_proposals=True, region_grid=2, sigmoid_classes=True)
CONFIGS: dict[str, NetworkConfig] = {
    "arn": ONE_STAGE,
    **{name: tiny_two_stage(name) for name in RELATION_CONFIGS},
    "scored arn": tiny_scored(ONE_STAGE, SMALL_WORLD),
    "scored sttran": tiny_scored(tiny_two_stage("sttran")),
}

FOUR_GROUPS = Vocabulary(
    objects=("person", "cup"),
    groups=tuple(PredicateGroup(name=name, predicates=(f"{name}_it",)) for name in ("takes", "gives", "sees", "hears")),
)
ONE_GROUP = Vocabulary(objects=("person", "cup"), groups=SMALL_WORLD.groups[:1])
NO_THINGS = Vocabulary(objects=("person",), groups=SMALL_WORLD.groups)


def video(time: int = 3) -> tuple[Tensor, Tensor]:
    frames = torch.from_numpy(sample_frames(np.random.default_rng(5), 1, time, 64, 64))
    return frames, torch.arange(time).float()[None] / 2


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_follow_the_vocabulary(name: str) -> None:
    network = make_lively(CONFIGS[name], vocabulary=SMALL_WORLD)
    assert not isinstance(network, Detector)
    with torch.inference_mode():
        outputs = {key: each[0].numpy() for key, each in run_network(network, *video()).items()}
    said = PairPredictions.from_tensors(outputs, SMALL_WORLD)
    assert said.pair_mask.any()
    assert said.object_scores.shape[-1] == 7
    assert said.predicate_scores.shape[-1] == 5
    assert (said.object_scores[..., [0, 2]] == 0).all(), "a subject is never the object"
    assert said.subject_classes is not None
    assert set(said.subject_classes[said.pair_mask].tolist()) <= {0, 2}
    if not name.endswith("arn"):
        np.testing.assert_allclose(said.predicate_scores[..., :3][said.pair_mask].sum(-1), 1, atol=1e-5)
    assert (said.relation_scores is not None) == name.startswith("scored")


@pytest.mark.parametrize("name", ["arn", "tr2", "scored sttran"])
def test_a_checkpoint_keeps_the_vocabulary(tmp_path: Path, name: str) -> None:
    network = make_network(CONFIGS[name], SMALL_WORLD)
    save_checkpoint(tmp_path / "checkpoint.pt", network, {})
    loaded, _ = load_checkpoint(tmp_path / "checkpoint.pt")
    assert loaded.vocabulary == SMALL_WORLD
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


def test_a_checkpoint_without_a_vocabulary_has_action_genomes(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, make_network(tiny()), {})
    content = torch.load(path, weights_only=True)
    del content["vocabulary"]
    torch.save(content, path)
    assert load_checkpoint(path)[0].vocabulary == ACTION_GENOME


def test_a_detector_names_the_likelier_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_lively(tiny_detector(), vocabulary=SMALL_WORLD)
    classify = detector.classify

    def with_robots(maps: Tensor, boxes: Tensor, mask: Tensor) -> object:
        regions = classify(maps, boxes, mask)
        regions.probabilities[..., 1 + 0] = regions.probabilities[..., 1 + 2] * 1.01
        return regions

    frames, timestamps = video()
    with torch.inference_mode():
        before = detector.pairs(frames, timestamps).subject_classes
        monkeypatch.setattr(detector, "classify", with_robots)
        after = detector.pairs(frames, timestamps).subject_classes
    assert before is not None
    assert after is not None
    assert (before == 2).any()
    assert (after == 0).all()


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_arn_associates_any_number_of_groups(groups: int) -> None:
    vocabulary = Vocabulary(
        objects=("person", "cup", "box"),
        groups=tuple(PredicateGroup(name=f"group{index}", predicates=(f"does_{index}",)) for index in range(groups)),
    )
    config = tiny(predicate_association=groups > 1, hierarchical_attention=groups > 1)
    with torch.inference_mode():
        outputs = run_network(make_lively(config, vocabulary=vocabulary), *video())  # type: ignore[arg-type]
    assert all(outputs[name].shape[-1] == 1 for name in vocabulary.group_names)
    assert "subject_classes" not in outputs


@pytest.mark.parametrize(
    ("config", "vocabulary", "message"),
    [
        (tiny(), SMALL_WORLD, "has 2 subjects, which only the dense head tells apart: set dense_proposals"),
        (tiny(), ONE_GROUP, "predicate_association needs two groups"),
        (tiny(width=32, heads=4), FOUR_GROUPS, r"width is 32: .* multiple of heads x other groups \(4 x 3\)"),
        (tiny_two_stage(), NO_THINGS, "every object of the vocabulary is a subject"),
    ],
)
def test_a_vocabulary_that_has_no_place_is_refused(config: NetworkConfig, vocabulary: Vocabulary, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_network(config, vocabulary)
