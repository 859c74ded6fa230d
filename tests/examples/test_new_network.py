"""The network of docs/new_model.md: what every relation network must do, and that the steps make it one of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.new_network.pooled import Pooled, PooledConfig
from models.graph.vocabulary import ACTION_GENOME
from tests.models.networks.relations.samples import (
    SMALL,
    largest_export_difference,
    lively,
    random_pairs,
    with_more_slots,
    with_other_leftovers,
)
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "new_model.md"


def make(**changes: Any) -> Pooled:
    return lively(Pooled(PooledConfig(**SMALL | changes)))


def test_a_pair_is_read_beside_the_mean_pair_of_its_frame_and_of_its_clip() -> None:
    network = make()
    pairs = random_pairs(network.config, 2, 3)
    represented, decoded = network.representation(pairs), network(pairs).decoded
    for clip, frame, slot in pairs.mask.nonzero().tolist():
        pair = represented[clip, frame, slot]
        of_frame = represented[clip, frame, pairs.mask[clip, frame]].mean(0)
        of_clip = represented[clip, pairs.mask[clip]].mean(0)
        wanted = pair + network.mix(torch.cat((pair, of_frame, of_clip)))
        torch.testing.assert_close(decoded[clip, frame, slot], wanted, atol=1e-4, rtol=1e-4)


def test_without_the_clip_other_frames_do_not_matter() -> None:
    network = make(clip_context=False)
    pairs = random_pairs(network.config, 1, 3)
    one = random_pairs(network.config, 1, 3)
    one.mask[:, 1:] = False
    torch.testing.assert_close(network(one).decoded[:, 0], network(pairs).decoded[:, 0])


def test_slots_without_a_pair_change_nothing() -> None:
    network = make()
    pairs = random_pairs(network.config, 2, 4)
    changed = with_more_slots(with_other_leftovers(pairs), 3)
    wanted, given = network(pairs), network(changed)
    for group in ACTION_GENOME.group_names:
        torch.testing.assert_close(
            given.probabilities[group][changed.mask], wanted.probabilities[group][pairs.mask], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(("time", "filled"), [(1, 1.0), (1, 0.0), (4, 0.0), (4, 0.2)])
@pytest.mark.parametrize("training", [False, True])
def test_short_and_empty_clips_give_finite_numbers(time: int, filled: float, training: bool) -> None:
    network = make().train(training)
    relations = network(random_pairs(network.config, 2, time, filled=filled))
    assert all(torch.isfinite(values).all() for values in relations.probabilities.values())
    torch.cat([relations.probabilities[group] for group in ACTION_GENOME.group_names], -1).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


def test_the_exported_network_gives_the_same_for_any_batch_and_time(tmp_path: Path) -> None:
    assert largest_export_difference(make(), tmp_path, [(1, 1), (3, 7), (2, 2)]) < 1e-4


def test_the_steps_of_the_document_make_it_one_of_the_networks(tmp_path: Path) -> None:
    for folder in ("models", "training", "export", "tests", "examples", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / folder).is_dir() else shutil.copy
        copy(ROOT / folder, tmp_path / folder)
    # A checkout above the copy would be taken for what is to be patched.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PYTHONPATH": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    steps = re.search(r"^```\n(cp examples/new_network/.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert steps is not None
    run("bash", "-euc", steps[1])
    said = run(
        sys.executable, "-m", "pytest", "-v", "-k", "pooled and not half_precision or every_plan",
        "tests/models/networks/test_two_stage.py", "tests/training/test_objectives.py",
        "tests/training/test_ablation.py", "tests/training/test_configuration.py",
    )  # fmt: skip
    for test in (
        "test_the_stages_give_the_outputs_of_the_parts[pooled]",
        "test_a_relation_network_is_trained_and_scored[pooled]",
        "test_every_configuration_of_the_repository_loads[pooled_compact_puppets]",
        "test_every_plan_of_the_repository_can_be_run[puppets]",
    ):
        assert f"{test} PASSED" in said
