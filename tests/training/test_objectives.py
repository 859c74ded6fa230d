"""Every kind of network, trained a few steps on the tiny set and scored, as `vsg train` and `vsg evaluate` do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor

from models.errors import WeightsError
from models.networks.checkpoint import load_checkpoint, save_checkpoint
from models.networks.detectors import Detector, DetectorConfig
from models.networks.scored import Scored
from models.networks.two_stage import TwoStage
from tests.support.networks import (
    RELATION_CONFIGS,
    make_lively,
    tiny,
    tiny_detector,
    tiny_relations,
    tiny_scored,
    tiny_scorer,
    tiny_two_stage,
)
from training.commands.train import train as train_command
from training.configuration import TrainingConfig
from training.data.clips import ClipBatch
from training.data.pair_annotations import PairBatch
from training.errors import ConfigurationError, EvaluationError
from training.loop import train
from training.objectives import make_objective
from training.objectives.arn import ArnObjective
from training.objectives.relations import RelationObjective
from training.prediction import evaluate_model

Configure = Callable[..., TrainingConfig]
GROUPS = {"attention", "spatial", "contacting"}
CPU = torch.device("cpu")


@pytest.fixture
def terms(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The terms of every step."""
    seen: list[dict[str, Tensor]] = []
    for objective in (ArnObjective, RelationObjective):

        def spy(*arguments: Any, compute: Any = objective.loss_terms) -> dict[str, Tensor]:
            seen.append(compute(*arguments))
            return seen[-1]

        monkeypatch.setattr(objective, "loss_terms", spy)
    return seen


def assert_figures(figures: dict[str, dict[str, float]]) -> None:
    assert list(figures) == ["with", "semi", "no", "top6"]
    assert all(0 <= value <= 1 for values in figures.values() for value in values.values())


def same_weights(first: dict[str, Tensor], second: dict[str, Tensor], prefix: str = "") -> bool:
    return all(torch.equal(value, second[prefix + name]) for name, value in first.items())


def test_vsg_train_makes_a_detector_and_then_a_network_on_it(settings: dict[str, Any], tmp_path: Path) -> None:
    def run(name: str, **changes: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**settings, "steps": 2, "output": str(tmp_path / name), **changes}))
        result = CliRunner().invoke(train_command, [str(path)])
        assert result.exit_code == 0, result.output
        return tmp_path / name / "checkpoint.pt"

    listed = yaml.safe_load(yaml.safe_dump(plain(asdict(tiny_detector()))))
    detector = run("detector", model=listed, validation_videos=2)
    trained, training = load_checkpoint(detector)
    assert isinstance(trained, Detector)
    assert training["config"]["model"]["network"] == "detector"
    network, _ = load_checkpoint(
        run("sttran", model={**plain(asdict(tiny_relations())), "feature_width": 7}, detector=str(detector),
            validation_videos=2, batch_size=2)
    )  # fmt: skip
    assert isinstance(network, TwoStage)
    assert network.config.detector == trained.config
    assert network.config.relations == tiny_relations(), "the detector decides what it gives"
    assert same_weights(trained.state_dict(), network.state_dict(), "detector.")


def test_two_processes_share_the_pairs_that_one_has_found(
    settings: dict[str, Any], puppets: Path, detector: Path, tmp_path: Path
) -> None:
    changes = {"model": plain(asdict(tiny_relations())), "detector": str(detector), "output": str(tmp_path / "run")}
    # All but the last video, so that no other test has found the pairs.
    changes |= {"cache_pairs": True, "clip_length": 3, "batch_size": 2, "steps": 2, "validation_videos": 1}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**settings, **changes}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               str(Path(sys.executable).parent / "vsg"), "train", str(tmp_path / "x.yaml")]  # fmt: skip
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("looking for the pairs of 28 frames") == 1
    assert isinstance(load_checkpoint(tmp_path / "run" / "checkpoint.pt")[0], TwoStage)


def plain(values: Any) -> Any:
    """Tuples as YAML has them."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return [plain(value) for value in values] if isinstance(values, tuple) else values


OWN_TERMS = {"tr2": {f"guidance_{group}" for group in GROUPS}, "fremure-gmm": {"variance"}}


@pytest.mark.parametrize("name", RELATION_CONFIGS)
def test_a_relation_network_is_trained_and_scored(
    configure_relations: Configure, puppets: Path, detector: Path, terms: list[dict[str, Tensor]], name: str
) -> None:
    checkpoint = train(configure_relations(name, validation_videos=2))
    assert len(terms) == 3
    for step in terms:
        assert set(step) == GROUPS | OWN_TERMS.get(name, set())
        assert all(term.isfinite() for term in step.values())
    network, _ = load_checkpoint(checkpoint)
    assert isinstance(network, TwoStage)
    assert network.config.relations == tiny_relations(name)
    counts = network.relations.predicate_counts
    assert counts[:3].sum() > 20, "labels of the training videos"
    source, _ = load_checkpoint(detector)
    assert same_weights(source.state_dict(), network.state_dict(), "detector."), "statistics too"
    assert_figures(evaluate_model(puppets, checkpoint))


@pytest.mark.parametrize("name", ["detector", "arn", *RELATION_CONFIGS])
def test_every_network_trains_in_half_precision_with_averaging(
    configure: Configure, configure_relations: Configure, name: str
) -> None:
    half = {"mixed_precision": "bf16", "averaging": 0.9, "steps": 2}
    match name:
        case "detector":
            config = configure(model=asdict(tiny_detector()), **half)
        case "arn":
            config = configure(relation_scoring=True, scorer=asdict(tiny_scorer()), **half)
        case _:
            config = configure_relations(name, relation_scoring=True, scorer=asdict(tiny_scorer()), **half)
    network, _ = load_checkpoint(train(config))
    assert all(each.isfinite().all() for each in network.state_dict().values())


@pytest.mark.parametrize("task", ["predcls", "sgcls"])
@pytest.mark.parametrize("scoring", [False, True])
def test_tasks_that_give_boxes_are_trained_and_scored(
    configure_relations: Configure, puppets: Path, terms: list[dict[str, Tensor]], task: str, scoring: bool
) -> None:
    changes = {"relation_scoring": scoring, "scorer": asdict(tiny_scorer()), "steps": 2, "validation_videos": 2}
    checkpoint = train(configure_relations(task=task, **changes))
    own = ({"object"} if task == "sgcls" else set()) | ({"related"} if scoring else set())
    assert [set(step) for step in terms] == [GROUPS | own] * 2
    if task == "sgcls":
        assert all(step["object"].requires_grad for step in terms)
    figures = evaluate_model(puppets, checkpoint, task=task)  # type: ignore[arg-type]
    assert_figures(figures)
    if task == "predcls":
        assert figures["no"]["R@100"] > 0.9, "boxes and labels are given, and nearly every predicate is among the first"


@pytest.mark.parametrize("name", ["sttran", "fremure-gmm"])
def test_a_scorer_learns_beside_its_host_or_alone(
    configure_relations: Configure, puppets: Path, tmp_path: Path, terms: list[dict[str, Tensor]], name: str
) -> None:
    host = make_lively(tiny_two_stage(name))
    save_checkpoint(tmp_path / "host.pt", host, {})
    scoring = {"relation_scoring": True, "scorer": asdict(tiny_scorer()), "initialise_from": tmp_path / "host.pt"}
    together = train(configure_relations(name, **scoring, output=tmp_path / "together"))
    assert set(terms[-1]) == GROUPS | OWN_TERMS.get(name, set()) | {"related"}
    alone = train(configure_relations(name, **scoring, freeze_host=True, averaging=0.9, output=tmp_path / "alone"))
    assert set(terms[-1]) == {"related"}
    for path, kept in ((together, False), (alone, True)):
        network, _ = load_checkpoint(path)
        assert isinstance(network, Scored)
        # Not even the counts, which the host reads in evaluation too.
        assert same_weights(host.state_dict(), network.state_dict(), "host.") == kept
        assert_figures(evaluate_model(puppets, path))


def test_a_scorer_learns_on_arns_queries(
    configure: Configure, puppets: Path, tmp_path: Path, terms: list[dict[str, Tensor]]
) -> None:
    host = make_lively(tiny())
    save_checkpoint(tmp_path / "host.pt", host, {})
    checkpoint = train(
        configure(
            relation_scoring=True, freeze_host=True, scorer=asdict(tiny_scorer()), clip_length=3, steps=2,
            initialise_from=tmp_path / "host.pt", validation_videos=2, batch_size=2,
        )
    )  # fmt: skip
    assert [set(step) for step in terms] == [{"related"}] * 2
    network, _ = load_checkpoint(checkpoint)
    assert isinstance(network, Scored)
    assert network.config.scorer.input_width == host.representation_width, "set to the host's"
    assert same_weights(host.state_dict(), network.state_dict(), "host.")
    assert_figures(evaluate_model(puppets, checkpoint))


@pytest.mark.parametrize("name", ["sttran", "arn"])
def test_a_frozen_host_is_asked_once_and_the_scorer_learns_as_beside_it(
    configure: Configure, configure_relations: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level("INFO", "vsg.train")
    host = make_lively(tiny() if name == "arn" else tiny_two_stage(name))
    save_checkpoint(tmp_path / "host.pt", host, {})
    changes: dict[str, Any] = {
        "relation_scoring": True, "freeze_host": True, "scorer": asdict(tiny_scorer(reads_boxes=True)),
        "initialise_from": tmp_path / "host.pt", "clip_length": 3, "validation_videos": 3,
    }  # fmt: skip
    make = configure if name == "arn" else partial(configure_relations, name)
    beside, kept, again = (make_objective(make(**changes, cache_pairs=cached), CPU) for cached in (False, True, True))
    assert caplog.text.count("the host describes") == 1, "the second time it is read"
    again.model.load_state_dict(beside.model.state_dict())
    terms = [
        each.loss_terms(again.model.eval(), each.collate([each.dataset[0], each.dataset[4]]), CPU)
        for each in (beside, again)
    ]
    assert [set(each) for each in terms] == [{"related"}] * 2
    torch.testing.assert_close(terms[0]["related"], terms[1]["related"], rtol=1e-3, atol=1e-4)
    assert len(kept.dataset) == len(beside.dataset)  # type: ignore[arg-type]


def test_annotated_pairs_are_related_whatever_class_the_detector_gives(configure_relations: Configure) -> None:
    objective = make_objective(
        configure_relations(task="predcls", relation_scoring=True, scorer=asdict(tiny_scorer())), CPU
    )
    assert isinstance(objective, RelationObjective)
    batch = objective.collate([objective.dataset[0], objective.dataset[9]])
    network = objective.model.eval()
    assert isinstance(network, Scored)
    with torch.no_grad():
        terms = objective.loss_terms(network, batch, CPU)
        targets = batch.targets
        boxes = torch.cat((targets.person_boxes[..., None, :], targets.object_boxes), 2)
        corners = torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1)
        labels = torch.cat((torch.zeros_like(targets.object_labels[..., :1]), targets.object_labels + 1), 2)
        real = torch.cat((torch.ones_like(targets.object_mask[..., :1]), targets.object_mask), 2)
        pairs = objective.network.given_pairs(batch.frames, batch.timestamps, corners, labels, real)
        relations, logits = network(pairs)
        holds = targets.predicates[targets.object_mask]
        said = relations.probabilities["contacting"][:, :, 1:][targets.object_mask]
    wanted = torch.nn.functional.binary_cross_entropy(said, holds[:, 9:], reduction="sum") / len(said)
    torch.testing.assert_close(terms["contacting"], wanted, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(terms["related"], -logits.log_softmax(-1)[..., 1][pairs.mask].mean())
    with torch.no_grad():
        network.scorer.classifier.bias.copy_(torch.tensor([-50.0, 50.0]))
        all_related = objective.loss_terms(network, batch, CPU)
    assert all_related["related"] > 1, "detections that overlap no annotated box are not"


def test_what_a_relation_network_is_built_on_must_be_a_detector(configure_relations: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a relation network needs `detector`"):
        make_objective(configure_relations(detector=None), CPU)
    save_checkpoint(tmp_path / "arn.pt", make_lively(tiny()), {})
    with pytest.raises(WeightsError, match=r"arn\.pt holds no detector but a Arn"):
        make_objective(configure_relations(detector=tmp_path / "arn.pt"), CPU)


def test_a_model_is_scored_on_the_task_it_was_trained_for(puppets: Path, detector: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds a detector alone"):
        evaluate_model(puppets, detector)
    networks: dict[str, Any] = {
        "arn": tiny(), "sgdet": tiny_two_stage(), "predcls": tiny_scored(tiny_two_stage(task="predcls")),
    }  # fmt: skip
    for name, config in networks.items():
        save_checkpoint(tmp_path / f"{name}.pt", make_lively(config), {})
    with pytest.raises(EvaluationError, match="trained for predcls, not for sgdet; use --task predcls"):
        evaluate_model(puppets, tmp_path / "predcls.pt", "sgdet")
    for name in ("arn", "sgdet"):
        with pytest.raises(EvaluationError, match="trained for sgdet, not for predcls; use --task sgdet"):
            evaluate_model(puppets, tmp_path / f"{name}.pt", task="predcls")
    with pytest.raises(EvaluationError, match="trained for predcls, not for sgcls; use --task predcls"):
        evaluate_model(puppets, tmp_path / "predcls.pt", task="sgcls")


def test_videos_to_validate_on_come_from_the_end_and_are_not_learned_from(configure_relations: Configure) -> None:
    every, fewer = (make_objective(configure_relations(validation_videos=count), CPU) for count in (0, 3))
    assert isinstance(every, RelationObjective)
    assert isinstance(fewer, RelationObjective)
    learned, seen = fewer.dataset.paths, every.dataset.paths  # type: ignore[attr-defined]
    held = [frame.path for video in fewer.validation_videos for frame in video.frames]
    assert len(fewer.validation_videos) == 3
    assert learned + held == seen


def test_a_detectors_backbone_and_the_rest_learn_at_their_own_rates(configure: Configure) -> None:
    config = configure(model=asdict(tiny_detector()), backbone_learning_rate=1e-5, learning_rate=1e-3)
    objective = make_objective(config, CPU)
    rates = {id(each): group["lr"] for group in objective.parameter_groups() for each in group["params"]}
    for name, parameter in objective.model.named_parameters():
        assert rates[id(parameter)] == (1e-5 if "backbone." in name else 1e-3), name
    frozen = make_objective(configure(model=asdict(tiny_detector()), freeze_backbone=True), CPU)
    learning = {id(each) for group in frozen.parameter_groups() for each in group["params"]}
    for name, parameter in frozen.model.named_parameters():
        assert (id(parameter) in learning) == ("backbone." not in name), name


def test_resnet_weights_count_as_backbone_in_the_optimizer() -> None:
    # Learning rates are given by name.
    with torch.device("meta"):
        names = [name for name, _ in Detector(DetectorConfig()).named_parameters()]
    assert sum(name.startswith("body.backbone.layer") for name in names) > 80


def test_a_pair_that_the_detector_missed_does_not_teach_which_pairs_are_related(
    configure_relations: Configure,
) -> None:
    objective = make_objective(configure_relations("sttran", relation_scoring=True, validation_videos=2), CPU)
    assert isinstance(objective, RelationObjective)
    detector = objective.network.detector
    assert isinstance(detector, Detector)
    batch = objective.collate([objective.dataset[0]])
    assert isinstance(batch, ClipBatch)
    pairs = objective._find(batch)
    own = torch.arange(pairs.mask.shape[-1]) < detector.config.pairs
    missed = replace(pairs, mask=pairs.mask & ~own)
    assert missed.mask.any()
    term = objective.loss_terms(objective.model, PairBatch(missed, batch.targets), CPU)["related"]
    assert term == 0


def test_a_scorer_goes_on_from_a_checkpoint_that_has_one(configure_relations: Configure, tmp_path: Path) -> None:
    trained = make_lively(tiny_scored(tiny_two_stage("sttran")))
    save_checkpoint(tmp_path / "ranked.pt", trained, {})
    fusing = asdict(replace(tiny_scorer(), context_fusion=True))
    config = configure_relations(
        "sttran", relation_scoring=True, scorer=fusing, initialise_from=tmp_path / "ranked.pt", validation_videos=2
    )
    network = make_objective(config, CPU).model
    assert isinstance(network, Scored)
    kept = {name: value for name, value in trained.state_dict().items() if not name.endswith("predicate_counts")}
    assert any(name.startswith("scorer.") for name in kept)
    assert same_weights(kept, network.state_dict())
    assert network.fusion is not None
