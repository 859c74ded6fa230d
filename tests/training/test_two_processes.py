"""Runs of two processes under torchrun, as docs/training.md describes them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from models.networks.checkpoint import load_checkpoint
from tests.support.networks import tiny
from tests.support.paths import ROOT
from training.configuration import TrainingConfig
from training.loop import train
from training.run_folder import RunFolder, plain_values


def command_of(config: TrainingConfig, folder: Path, *overrides: str) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(json.dumps(plain_values(config)))  # JSON is YAML
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [sys.executable, *launcher, "-m", "service.command_line", "train", str(path), *overrides]


def torchrun(config: TrainingConfig, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = command_of(config, folder, *overrides)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


def test_two_processes_take_the_step_of_one_that_has_all_clips(
    configure: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    # ResNet-50's batch norm is frozen: others normalise by the clips of their process, which is documented.
    def config(**changes: Any) -> TrainingConfig:
        augmentation = {"mirror": 0, "gain": 0, "bias": 0}
        return configure(model=asdict(tiny(backbone="resnet50")), augmentation=augmentation, steps=2, **changes)

    alone = load_checkpoint(train(config(batch_size=4, output=tmp_path / "alone")))[0].state_dict()
    done = torchrun(config(batch_size=2, output=tmp_path / "two"), tmp_path)
    assert done.returncode == 0, done.stderr
    together = load_checkpoint(tmp_path / "two" / "checkpoint.pt")[0].state_dict()
    for name, value in alone.items():
        # Adam's first steps follow a gradient's sign, which is a toss where the gradient is nothing but rounding.
        apart = (together[name] - value).abs() > 2e-4
        assert apart.float().mean() < 0.01, name
    assert done.stdout.count("wrote") == 1, "one process speaks"


@pytest.mark.parametrize(
    ("override", "message"),
    [("steps=0", "steps: Input should be greater than 0"), ("validation_videos=8", "leave some to train on")],
)
def test_an_error_that_all_processes_meet_is_said_by_one(
    configure: Callable[..., TrainingConfig], tmp_path: Path, override: str, message: str
) -> None:
    done = torchrun(configure(), tmp_path, "--set", override)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(said) == 1, done.stderr
    assert message in said[0]


def test_two_processes_that_are_killed_while_they_save_go_on_and_end_the_same(
    configure: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    model = asdict(tiny(dropout=0.1))

    def config(name: str) -> TrainingConfig:
        return configure(model=model, averaging=0.9, steps=30, save_every=1, batch_size=2, output=tmp_path / name)

    torchrun(config("straight"), tmp_path)
    states = tmp_path / "killed" / "state"
    with subprocess.Popen(command_of(config("killed"), tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 200
        while not any(path.name > "step-00000003" for path in states.glob("*.partial")):
            assert time.monotonic() < limit, "no state was saved"
            time.sleep(0.0005)
        launcher = psutil.Process(process.pid)
        for each in [launcher, *launcher.children(recursive=True)]:
            each.kill()
    newest = RunFolder(tmp_path / "killed").newest_state()
    assert newest is not None
    assert 2 <= newest[1] < 30, "it was killed on the way"
    done = torchrun(config("killed"), tmp_path)
    assert f"resumed at step {newest[1]}" in done.stderr
    ends = [tmp_path / name / "checkpoint.pt" for name in ("straight", "killed")]
    wanted, found = (load_checkpoint(end)[0].state_dict() for end in ends)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
