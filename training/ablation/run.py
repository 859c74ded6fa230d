"""Trains and scores the runs of a plan, one after the other; a finished run is not repeated."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from models.graph.bundle import sha256_of
from models.networks.checkpoint import Incomplete, load_checkpoint
from models.networks.detectors import DetectorConfig
from models.networks.oed import Oed
from models.networks.scored import Scored
from training.ablation.figures import FIGURES_FILE, RunFigures, read_figures, write_figures
from training.ablation.plan import Plan
from training.ablation.scoring import Scorer
from training.configuration import TrainingConfig, load_config
from training.data.action_genome import read_vocabulary
from training.data.facts import PUPPETS_FILE, describe_data
from training.errors import ConfigurationError
from training.loop import train
from training.objectives.videos import split_videos
from training.run_folder import differing, plain_values

log = logging.getLogger("vsg.ablate")

CHECKPOINT_FILE = "checkpoint.pt"
CONFIGURATION_FILE = "configuration.json"
TRAINED_FILE = "trained"
"""Marks the checkpoint beside it as that of the last step."""
_SHOWN = ("with/R@10", "with/R@20", "with/mR@20", "no/R@20", "no/mR@20")


@dataclass(frozen=True)
class PlannedRun:
    """One row with one seed.

    command: the command that repeats this run.
    checkpoint: of the network that is scored.
    trains: false where another row trains the network.
    calibrated, ranks: as in `Row`.
    asked_for: false where the run is only the start of one that is asked for.
    """

    row: str
    config: TrainingConfig
    command: str
    asked_for: bool
    checkpoint: Path
    trains: bool = True
    calibrated: bool = False
    ranks: bool = True


def plan_runs(plan: Plan, path: Path, only: tuple[str, ...] = ()) -> list[PlannedRun]:
    """Returns the runs of a plan seed by seed, each after the one it starts from.

    path: the file that holds the plan.
    only: titles of tables and names of rows; all runs where it is empty.

    Raises ConfigurationError naming the row whose configuration is wrong.
    """
    asked_for = {row for name in only for row in plan.named(name)} if only else set(plan.rows)
    runs = []
    for seed in plan.seeds:
        for name in plan.in_order(only):
            command = shlex.join(["vsg", "ablate", str(path), "--only", name, "--seeds", str(seed)])
            row = plan.rows[name]
            trainer = row.weights_of or name
            config = _configuration(plan, trainer, seed)
            if row.calibrated and not config.validation_videos:
                raise ConfigurationError(f"row {name!r} is calibrated, but has no videos for it: set validation_videos")
            runs.append(
                PlannedRun(
                    name,
                    replace(config, output=plan.folder(name, seed)),
                    command,
                    name in asked_for,
                    plan.folder(trainer, seed) / CHECKPOINT_FILE,
                    trains=row.weights_of is None,
                    calibrated=row.calibrated,
                    ranks=row.ranks,
                )
            )
    return runs


def _configuration(plan: Plan, name: str, seed: int) -> TrainingConfig:
    row = plan.rows[name]
    overrides = {**row.set, "seed": seed, "output": str(plan.folder(name, seed))}
    if row.start is not None:
        overrides["initialise_from"] = str(plan.folder(row.start, seed) / CHECKPOINT_FILE)
    assert row.config is not None
    try:
        config = load_config(row.config, overrides)
    except ConfigurationError as error:
        raise ConfigurationError(f"row {name!r}: {error}") from error
    if isinstance(config.model, DetectorConfig):
        raise ConfigurationError(
            f"row {name!r} trains a detector, which knows no relations; name another configuration"
        )
    return config


class Study:
    """Finishes runs that are scored on one test set."""

    def __init__(self, test: Path) -> None:
        self.test = test
        self._scorer = Scorer(test)
        self._labels: dict[tuple[Any, ...], dict[str, int]] = {}

    def finish(self, run: PlannedRun, *, again: bool = False) -> bool:
        """Trains and scores a run that is not finished, and returns whether there was anything to do.

        again: true to empty the folder first, where the run is asked for.

        A run that was stopped goes on from its last saved state. Raises ConfigurationError where the folder holds a run
        of another configuration, or one that started from other weights.
        """
        folder = run.config.output
        if again and run.asked_for:
            rmtree(folder, ignore_errors=True)
        self._require_same(run)
        if (folder / FIGURES_FILE).is_file():
            return False
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIGURATION_FILE).write_text(json.dumps(self._identity(run), indent=1))
        if run.trains and not (folder / TRAINED_FILE).is_file():
            train(run.config, command=run.command)
            (folder / TRAINED_FILE).touch()
            rmtree(folder / "state", ignore_errors=True)  # it is as large as some checkpoints, and of no more use
        write_figures(folder, self._score(run))
        return True

    def _require_same(self, run: PlannedRun) -> None:
        path = run.config.output / CONFIGURATION_FILE
        if not path.is_file():
            return
        saved, wanted = json.loads(path.read_text()), self._identity(run)
        try:
            # It is read as a configuration, so that a key added since makes no difference while it has its default.
            saved["config"] = plain_values(TypeAdapter(TrainingConfig).validate_python(saved["config"]))
        except ValidationError:
            log.debug("%s has keys that are gone since", path)
        if changed := sorted(differing(saved, wanted)):
            raise ConfigurationError(
                f"{run.config.output} holds a run of {run.row!r} with another {', '.join(changed)}; "
                "remove the folder, or repeat the run with --again"
            )

    def _identity(self, run: PlannedRun) -> dict[str, Any]:
        """Returns all that decides a run's figures as plain values; of weights that it starts from, the sha256."""
        config = run.config
        weights = {"detector": config.detector, "initialise_from": config.initialise_from}
        if not run.trains:
            weights["scored"] = run.checkpoint
        scoring = {"calibrated": run.calibrated, "ranks": run.ranks} if run.calibrated or not run.ranks else {}
        return {
            **scoring,
            "config": plain_values(config),
            "weights": {name: sha256_of(path) for name, path in weights.items() if path is not None and path.is_file()},
            "test": str(self.test),
        }

    def _score(self, run: PlannedRun) -> RunFigures:
        network, _ = load_checkpoint(run.checkpoint)
        assert not isinstance(network, Incomplete | Oed)
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        whole, by_change, scoring = self._scorer(network, run.config, calibrated=run.calibrated, ranks=run.ranks)
        return RunFigures(
            row=run.row,
            seed=run.config.seed,
            command=run.command,
            task=run.config.task,
            training_data=describe_data(run.config.data),
            test_data=_describe_test(self.test),
            steps=run.config.steps,
            batch_size=run.config.batch_size,
            clip_length=run.config.clip_length,
            trained_parameters=_trained_parameters(network, run.config),
            training_labels=self._training_labels(run.config),
            whole=whole,
            by_change=by_change,
            scoring=scoring.model_dump(),
        )

    def _training_labels(self, config: TrainingConfig) -> dict[str, int]:
        """Counts the annotations of each predicate in the videos that a run trains on."""
        key = config.data, config.small_objects, config.validation_videos
        if key not in self._labels:
            videos, _ = split_videos(config)
            held = [frame.predicates.sum(0) for video in videos for frame in video.frames]  # (R,) each
            predicates = read_vocabulary(config.data).predicates
            self._labels[key] = dict(zip(predicates, np.sum(held, axis=0).tolist(), strict=True))
        return self._labels[key]


def finish_all(runs: list[PlannedRun], study: Study, *, again: bool = False) -> Iterator[PlannedRun]:
    """Finishes runs in order, logs each, and yields those that were not finished before.

    Raises ConfigurationError before the first where one needs a file that is missing and that no run before it makes.
    """
    _require_files(runs)
    for number, run in enumerate(runs, 1):
        title = f"run {number} of {len(runs)}, {run.row}, seed {run.config.seed}"
        log.info("%s", title)
        if not study.finish(run, again=again):
            log.info("%s: finished before", title)
            continue
        figures = read_figures(run.config.output)
        assert figures is not None
        values = {name: figures.whole.figures[name.partition("/")[0]][name.partition("/")[2]] for name in _SHOWN}
        log.info("%s: %s", title, "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
        yield run


def _require_files(runs: list[PlannedRun]) -> None:
    made: set[Path] = set()
    for run in runs:
        if run.trains and not (run.config.output / FIGURES_FILE).is_file():
            for key, file in run.config.missing_files().items():
                if Path(file) not in made:
                    raise ConfigurationError(f"row {run.row!r} needs a file that is missing: {key}: {file}")
        made.add(run.checkpoint)


def _trained_parameters(network: torch.nn.Module, config: TrainingConfig) -> int:
    """Counts the numbers that the optimiser changes."""
    if config.freeze_host and isinstance(network, Scored):
        network = network.scorer
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not (config.freeze_backbone and "backbone." in name)
    )


def _describe_test(data: Path) -> str:
    if not (data / PUPPETS_FILE).is_file():
        return "Action Genome"
    facts = json.loads((data / PUPPETS_FILE).read_text())
    return f"Puppet Genome, {facts['world']} world, seed {facts['seed']}"
