"""The training loop on a tiny puppet set: it learns, goes on where it was stopped, says when it has diverged."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator
from click.testing import CliRunner
from torch import Tensor

from models.errors import WeightsError
from models.networks.arn import Arn
from models.networks.checkpoint import load_checkpoint, save_checkpoint
from tests.support.annotated import rewrite_objects
from tests.support.networks import make_lively, tiny, tiny_detector, tiny_relations, tiny_scorer
from training.commands.train import train as train_command
from training.configuration import TrainingConfig
from training.errors import ConfigurationError, DataError, DivergedError, SaveError
from training.loop import train
from training.objectives import arn as arn_objective
from training.objectives import make_objective
from training.objectives.arn import ArnObjective
from training.objectives.detector import DetectorObjective
from training.objectives.relations import RelationObjective
from training.run_folder import RunFolder

# What a resumed run draws anew is the only thing that may differ from a run in one go.
UNCHANGED = {"mirror": 0, "gain": 0, "bias": 0}


class _StoppedError(Exception):
    """The process was killed."""


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The total loss of every step that the loop makes."""
    seen: list[float] = []
    compute = ArnObjective.loss_terms

    def spy(*arguments: Any) -> dict[str, Tensor]:
        terms = compute(*arguments)
        seen.append(sum(float(term.detach()) for term in terms.values()))
        return terms

    monkeypatch.setattr(ArnObjective, "loss_terms", spy)
    return seen


def stop_after(steps: int, objective: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills the run when it begins the step after `steps`."""
    compute, calls = objective.loss_terms, 0  # type: ignore[attr-defined]

    def limited(*arguments: Any) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise _StoppedError
        terms: dict[str, Tensor] = compute(*arguments)
        return terms

    monkeypatch.setattr(objective, "loss_terms", limited)


def weights(checkpoint: Path) -> dict[str, Tensor]:
    return load_checkpoint(checkpoint)[0].state_dict()


def test_the_loss_falls(configure: Callable[..., TrainingConfig], losses: list[float]) -> None:
    aids = tiny(dense_proposals=True, region_grid=2, sigmoid_classes=True)
    train(configure(model=aids, steps=40, augmentation=UNCHANGED, schedule="cosine", warmup_steps=5))
    assert len(losses) == 40
    assert all(0 < loss < float("inf") for loss in losses)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_a_checkpoint_records_its_configuration_and_data(
    configure: Callable[..., TrainingConfig], puppets: Path
) -> None:
    checkpoint = train(configure(steps=2, validation_videos=2, clip_length=2, batch_size=2), command="vsg train x.yaml")
    assert checkpoint.name == "checkpoint.pt"
    network, training = load_checkpoint(checkpoint)
    assert network.config == tiny()
    assert training["command"] == "vsg train x.yaml"
    assert (training["config"]["seed"], training["config"]["data"]) == (3, str(puppets))
    assert list(checkpoint.parent.rglob("events.out.tfevents.*")), "metrics for TensorBoard"


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    configure: Callable[..., TrainingConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaging: float
) -> None:
    # 32 frames make 8 batches an epoch, so 10 steps cross from one epoch into the next.
    changes = {"steps": 10, "save_every": 3, "averaging": averaging}
    straight = weights(train(configure(output=tmp_path / "straight", **changes)))
    with monkeypatch.context() as stopped:
        stop_after(4, ArnObjective, stopped)
        with pytest.raises(_StoppedError):
            train(configure(output=tmp_path / "stopped", **changes))
    resumed = weights(train(configure(output=tmp_path / "stopped", **changes)))
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["a detector", "a relation network", "on pairs that lie ready", "and its scorer"])
def test_a_resumed_two_stage_run_ends_with_the_same_weights(
    configure: Callable[..., TrainingConfig], configure_relations: Callable[..., TrainingConfig], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:  # fmt: skip
    # Proposals are sampled, dropout and mixtures draw: a resumed run must go on with the same random numbers.
    def config(output: str) -> TrainingConfig:
        if kind == "a detector":
            return configure(model=asdict(tiny_detector()), steps=5, save_every=2, output=tmp_path / output)
        relations = asdict(tiny_relations("fremure-gmm", dropout=0.1))
        ready, scoring = kind == "on pairs that lie ready", kind == "and its scorer"
        return configure_relations(
            model=relations, steps=5, save_every=2, cache_pairs=ready, relation_scoring=scoring,
            scorer=asdict(tiny_scorer(dropout=0.1)), output=tmp_path / output,
        )  # fmt: skip

    straight = weights(train(config("straight")))
    with monkeypatch.context() as stopped:
        stop_after(3, DetectorObjective if kind == "a detector" else RelationObjective, stopped)
        with pytest.raises(_StoppedError):
            train(config("stopped"))
    resumed = weights(train(config("stopped")))
    fresh = make_objective(config("stopped"), torch.device("cpu")).model.state_dict()
    assert any(not torch.equal(value, straight[name]) for name, value in fresh.items()), "something was learned"
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-6, msg=name)


def test_a_resumed_run_makes_only_the_steps_that_are_left_and_a_restarted_one_all(
    configure: Callable[..., TrainingConfig], losses: list[float]
) -> None:
    train(configure(steps=2, save_every=2))
    train(configure(steps=3))
    assert len(losses) == 2 + 1
    train(configure(steps=3), resume=False)
    assert len(losses) == 2 + 1 + 3


def test_the_same_seed_gives_the_same_weights(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    first, second = (weights(train(configure(steps=3, output=tmp_path / name))) for name in ("a", "b"))
    other = weights(train(configure(steps=3, seed=4, output=tmp_path / "c")))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 2e-3}, "config.learning_rate"),
        ({"seed": 4}, "config.seed"),
        ({"batch_size": 2}, "config.batch_size"),
        ({"clip_length": 2}, "config.clip_length"),
        ({"validation_videos": 1}, "config.validation_videos"),
    ],
)
def test_a_folder_is_not_taken_for_another_run(
    configure: Callable[..., TrainingConfig], change: dict[str, Any], named: str
) -> None:
    checkpoint = train(configure(steps=2, save_every=2))
    before = checkpoint.read_bytes()
    with pytest.raises(ConfigurationError, match=f"holds a run with another {named}; name another output, or begin"):
        train(configure(steps=2, save_every=2, **change))
    assert checkpoint.read_bytes() == before
    train(configure(steps=2, **change), resume=False)


def test_a_run_does_not_go_on_with_other_annotations(
    configure: Callable[..., TrainingConfig], puppets: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(puppets, data, ignore=shutil.ignore_patterns("cache"))
    train(configure(data=data, steps=1))

    def move(objects: dict[str, Any]) -> None:
        for things in objects.values():
            for each in things:
                each["bbox"] = tuple(value + 1 for value in each["bbox"]) if each["bbox"] else None

    rewrite_objects(data, move)
    with pytest.raises(ConfigurationError, match="holds a run with another data;"):
        train(configure(data=data, steps=2))


def test_a_run_does_not_go_on_from_other_weights(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    save_checkpoint(start, Arn(tiny()), {})
    train(configure(steps=1, initialise_from=start))
    save_checkpoint(start, make_lively(tiny()), {})
    with pytest.raises(ConfigurationError, match=r"another files\.initialise_from;"):
        train(configure(steps=2, initialise_from=start))


def test_two_runs_do_not_share_a_folder(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run").locked(),
        pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()};"),
    ):
        train(configure(steps=1))
    train(configure(steps=1))


def test_a_run_killed_while_it_saves_goes_on_from_the_last_whole_state(
    configure: Callable[..., TrainingConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"steps": 6, "save_every": 2}
    straight = weights(train(configure(output=tmp_path / "straight", **changes)))
    saved = Accelerator.save_state

    def killed(self: Accelerator, folder: str) -> Any:
        if "step-00000004" in folder:  # half of it is written
            saved(self, folder)
            (Path(folder) / "optimizer.bin").unlink()
            raise _StoppedError
        return saved(self, folder)

    with monkeypatch.context() as stopped:
        stopped.setattr(Accelerator, "save_state", killed)
        with pytest.raises(_StoppedError):
            train(configure(output=tmp_path / "killed", **changes))
    assert RunFolder(tmp_path / "killed").newest_state() == (tmp_path / "killed" / "state" / "step-00000002", 2)
    resumed = weights(train(configure(output=tmp_path / "killed", **changes)))
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-6, msg=name)
    assert [path.name for path in (tmp_path / "killed" / "state").iterdir()] == ["step-00000006"]


def test_a_damaged_state_and_a_full_disk_are_said_in_one_line(
    configure: Callable[..., TrainingConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(configure(steps=2, save_every=2))
    (damaged,) = (tmp_path / "run" / "state").glob("*/optimizer.bin")
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(SaveError, match=r"step-00000002 cannot be read \(.*\); begin anew with --restart$"):
        train(configure(steps=3))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Accelerator, "save_state", full)
    with pytest.raises(SaveError, match=r"the state of step 2 cannot be saved in .*No space left on device"):
        train(configure(steps=2, save_every=2), resume=False)


def test_a_validation_that_was_interrupted_is_made_up_for(
    configure: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[int] = []
    changes = {"steps": 2, "save_every": 2, "evaluate_every": 2, "validation_videos": 2}

    def stop(*_: object) -> dict[str, dict[str, float]]:
        validated.append(1)
        if len(validated) == 1:
            raise _StoppedError
        return {"no": {"R@20": 0.5}}

    monkeypatch.setattr(ArnObjective, "validate", stop)
    with pytest.raises(_StoppedError):
        train(configure(**changes))
    train(configure(**changes))
    assert len(validated) == 2


def test_as_many_validation_videos_as_there_are_videos_are_refused(configure: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(ConfigurationError, match=r"validation_videos is 8, and .* has 8 training videos; leave some"):
        train(configure(validation_videos=8))


@pytest.mark.parametrize("kind", ["arn", "detector", "sttran"])
def test_a_run_that_diverges_ends_before_it_validates_or_saves(
    configure: Callable[..., TrainingConfig], configure_relations: Callable[..., TrainingConfig], kind: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    changes = {"learning_rate": 1e6, "clip_gradient_norm": 1e6, "steps": 4, "save_every": 1, "validation_videos": 1}
    config = {
        "arn": lambda: configure(**changes, evaluate_every=1),
        "detector": lambda: configure(model=asdict(tiny_detector()), **changes, evaluate_every=1),
        "sttran": lambda: configure_relations(**changes, evaluate_every=1),
    }[kind]()
    with pytest.raises(DivergedError, match="lower learning_rate or clip_gradient_norm"):
        train(config)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert RunFolder(tmp_path / "run").newest_state() is None


def test_half_precision_of_gpus_is_refused_on_a_cpu(configure: Callable[..., TrainingConfig]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigurationError, match="mixed_precision is fp16, which needs a GPU; take bf16 or no"):
        train(configure(mixed_precision="fp16"))


def test_a_nan_loss_ends_the_run(configure: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    compute = ArnObjective.loss_terms
    spoilt = lambda *arguments: {name: term * torch.nan for name, term in compute(*arguments).items()}  # noqa: E731
    monkeypatch.setattr(ArnObjective, "loss_terms", spoilt)
    with pytest.raises(DivergedError, match=r"the loss became nan .*lower learning_rate or clip_gradient_norm"):
        train(configure())


def test_weights_that_are_no_numbers_start_no_run(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    network = Arn(tiny())
    network.input_projection.weight.data[3] = torch.nan
    save_checkpoint(tmp_path / "spoiled.pt", network, {})
    with pytest.raises(WeightsError, match=r"spoiled\.pt: the tensor 'input_projection\.weight' holds NaN: take"):
        train(configure(initialise_from=tmp_path / "spoiled.pt"))


def test_a_split_with_fewer_clips_than_a_batch_is_refused(configure: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(DataError, match="fewer clips than one batch; lower batch_size or add data"):
        train(configure(batch_size=64))


def test_a_run_may_start_from_the_weights_of_another(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    torch.manual_seed(9)
    network = Arn(tiny())
    save_checkpoint(tmp_path / "first.pt", network, {})
    config = configure(steps=1, learning_rate=1e-12, initialise_from=tmp_path / "first.pt")
    trained = weights(train(config))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(trained[name], parameter.data, atol=1e-6, rtol=0, msg=name)


def test_a_frozen_backbone_keeps_its_weights(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    network = Arn(tiny())
    save_checkpoint(tmp_path / "first.pt", network, {})
    trained = weights(train(configure(steps=2, freeze_backbone=True, initialise_from=tmp_path / "first.pt")))
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(trained[name], parameter.data)}
    assert moved
    assert not any(name.startswith("backbone.") for name in moved)


def test_vsg_train_runs_a_file_with_overrides(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**settings, "output": str(tmp_path / "run"), "colour": "red"}))
    refused = CliRunner().invoke(train_command, [str(tmp_path / "x.yaml")])
    assert refused.exit_code == 1
    assert "colour: Unexpected keyword argument" in refused.output
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**settings, "output": str(tmp_path / "run")}))
    arguments = [str(tmp_path / "x.yaml"), "--set", "steps=1", "--set", "model.queries=3"]
    result = CliRunner().invoke(train_command, arguments)
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path / 'run' / 'checkpoint.pt'}" in result.output
    network, training = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert network.config.queries == 3
    assert "--set=steps=1" in training["command"]


def test_with_mimicry_on_the_frames_clip_embeddings_are_imitated(
    configure: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLIP's weights take a download; random ones show whether the term reaches the projection.
    monkeypatch.setattr("models.networks.clip.text.CLIP_WEIGHTS", None)
    settings = configure(steps=2, batch_size=2)
    mimicking = replace(settings, model=replace(settings.model, mimicry=True, text_width=512, triplet_prediction=False))
    seen: list[dict[str, Tensor]] = []
    compute = arn_objective.arn_loss  # type: ignore[attr-defined]
    monkeypatch.setattr(arn_objective, "arn_loss", lambda *arguments: seen.append(compute(*arguments)) or seen[-1])
    train(mimicking)
    assert [float(terms["mimicry"].detach()) > 0 for terms in seen] == [True, True]
    assert all(terms["mimicry"].requires_grad for terms in seen)
