"""Checks that a training run which is killed again and again ends as one that is not, to the last bit.

    .venv/bin/python -m benchmarks.resumption [--moments 50] [--processes 1] [--seed 0] [--json]

A tiny ARN with dropout, augmentation, validation and averaged weights learns from tiny puppets. First it runs through.
Then it runs in another folder, and is killed with SIGKILL and started again until it has been killed at so many
moments. Every second kill waits for a state that is being saved; the others come at any time from the start of the
process on. Of two processes, either both die at once or one before the other. A run that ends before that many kills is
compared, and begins anew. The program exits with 1 where a weight differs, or where a start after a kill is refused.

Processes come from a server that has torch loaded, with the environment that torchrun gives them. It needs a checkout:
it uses helpers of the tests.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.networks.checkpoint import load_checkpoint
from tests.support.networks import tiny
from tests.support.ports import unused_port
from training.configuration import load_config
from training.data.puppets.dataset import write_dataset
from training.data.puppets.world import EASY
from training.loop import train

STEPS = 60
PATIENCE = 1800.0  # seconds for a whole run
_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["training.loop", "torch.utils.tensorboard"])


@dataclass
class Tally:
    """Counts of kills, and of what they met.

    begun: runs that were killed.
    saving: kills while a state was half written.
    before_the_first_state: kills before there was a state to go on from.
    one_process: kills of one process of several.
    """

    begun: int = 1
    kills: int = 0
    saving: int = 0
    before_the_first_state: int = 0
    one_process: int = 0


class Run:
    """A training run in a folder of its own, as one process or several, each of which can be killed."""

    def __init__(self, config: Path, output: Path, processes: int) -> None:
        self.output = output
        self._config = config
        self._count = processes
        self._processes: list[ForkServerProcess] = []

    @property
    def checkpoint(self) -> Path:
        """The file that the run writes its weights to."""
        return self.output / "checkpoint.pt"

    @property
    def saving(self) -> bool:
        """True while a state is half written."""
        return any((self.output / "state").glob("*.partial"))

    def start(self) -> None:
        """Starts the run, or goes on with it."""
        port = unused_port()
        self._processes = [
            _FRESH.Process(target=_train, args=(self._config, self.output, rank, self._count, port))
            for rank in range(self._count)
        ]
        for process in self._processes:
            process.start()

    def has_ended(self, seconds: float) -> bool:
        """Waits for the end of the run, for so long at most. Exits where the run failed."""
        for process in self._processes:
            process.join(seconds)
            if process.exitcode is None:
                return False
            if process.exitcode != 0:
                self.kill(one=False)
                sys.exit(f"a start was refused, or the run failed: exit code {process.exitcode}")
        return True

    def kill(self, *, one: bool) -> None:
        """Kills all processes of the run at once, or the last one first, as torchrun ends the others then."""
        if one:
            self._processes[-1].kill()
            self._processes[-1].join()
            time.sleep(0.1)
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def wait_for_a_save(self) -> bool:
        """Waits until a state is being saved; false where the run ends before."""
        while all(process.is_alive() for process in self._processes):
            if self.saving:
                return True
            time.sleep(0.0005)
        return False


def _train(config: Path, output: Path, rank: int, processes: int, port: int) -> None:
    """Trains in a process as torchrun starts it."""
    if processes > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    train(load_config(config, {"output": str(output)}))


def survive(folder: Path, moments: int, processes: int, chance: random.Random) -> Tally:
    """Kills a run at so many moments. Exits where its weights differ from those of a run that was not killed."""
    config = make_run(folder, batch_size=4 // processes)
    straight = Run(config, folder / "straight", processes)
    began = time.monotonic()
    straight.start()
    straight.has_ended(PATIENCE)
    lifetime = time.monotonic() - began
    tally = Tally()
    run = Run(config, folder / "killed-1", processes)
    run.start()
    while tally.kills < moments:
        if chance.random() < 0.5 and run.wait_for_a_save():
            time.sleep(chance.uniform(0, 0.05))
        else:
            time.sleep(chance.uniform(0, lifetime * 0.5))
        if run.has_ended(0):
            require_same(straight, run)
            tally.begun += 1
            run = Run(config, folder / f"killed-{tally.begun}", processes)
            run.start()
            continue
        one = processes > 1 and chance.random() < 0.5
        run.kill(one=one)
        tally.kills += 1
        tally.saving += run.saving
        tally.one_process += one
        tally.before_the_first_state += not any((run.output / "state").glob("step-*[0-9]"))
        run.start()
        print(f"{processes} processes, kill {tally.kills}", file=sys.stderr, flush=True)
    run.has_ended(PATIENCE)
    require_same(straight, run)
    return tally


def make_run(folder: Path, batch_size: int) -> Path:
    """Makes the data and the configuration of a run, and returns the latter's path."""
    world = replace(EASY, name="tiny", width=64, height=64)
    write_dataset(folder / "data", world, train_videos=8, test_videos=0, frames_per_video=4, seed=5, processes=1)
    np.save(folder / "text.npy", np.random.default_rng(0).normal(size=(37, 26, 16)).astype(np.float32))
    config: dict[str, Any] = {
        "name": "resumption",
        "data": str(folder / "data"),
        "output": str(folder / "straight"),
        "model": asdict(tiny(dropout=0.1, dense_proposals=True)),
        "text_embeddings": str(folder / "text.npy"),
        "seed": 3,
        "steps": STEPS,
        "batch_size": batch_size,
        "small_objects": "keep",
        "learning_rate": 1e-3,
        "clip_gradient_norm": 5.0,
        "averaging": 0.9,
        "cache_frames": True,
        "validation_videos": 1,
        "evaluate_every": 7,
        "save_every": 2,
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def require_same(straight: Run, run: Run) -> None:
    """Exits, naming the weight, where two runs did not end with the same bits."""
    wanted, found = (load_checkpoint(each.checkpoint)[0].state_dict() for each in (straight, run))
    for name, value in wanted.items():
        if not torch.equal(value, found[name]):
            sys.exit(f"{name} differs by {(value - found[name]).abs().max():g} after {run.output.name}")
    shutil.rmtree(run.output)
    print(f"{run.output.name} ended bit for bit as the run that was not killed", file=sys.stderr, flush=True)


def main() -> None:
    """Runs the check and prints what was met."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = survive(Path(folder), arguments.moments, arguments.processes, random.Random(arguments.seed))
    if arguments.json:
        print(json.dumps({"processes": arguments.processes, **asdict(tally)}, indent=1))
        return
    print(f"{tally.kills} kills in {tally.begun} runs of {arguments.processes} processes; all ended bit for bit alike")
    print(f"{tally.saving} while a state was half written, {tally.before_the_first_state} before the first state,")
    print(f"{tally.one_process} of one process of several")


if __name__ == "__main__":
    main()
