"""`vsg train`."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from pathlib import Path

import click
import yaml

_PATIENCE = 10.0
"""Seconds that a process waits for the first one to speak."""


@click.command(short_help="Train a model from a configuration.")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides a key of the configuration (`model.queries=10`).",
)
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Go on from the last saved state in the output folder."
)
def train(config: Path, overrides: tuple[str, ...], resume: bool) -> None:
    """Train the model that CONFIG (a YAML file) describes. Run it under `torchrun` for several processes."""
    from models.errors import ModelError
    from training.configuration import load_config
    from training.errors import TrainingError
    from training.loop import train as run

    first = os.environ.get("RANK", "0") == "0"  # torchrun numbers the processes
    logging.basicConfig(
        level=logging.INFO if first else logging.ERROR, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    if wrong := [item for item in overrides if "=" not in item]:
        raise click.UsageError(f"--set {wrong[0]!r} has no value; write --set KEY=VALUE")
    try:
        loaded = load_config(
            config, {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in overrides)}
        )
        checkpoint = run(
            loaded,
            resume=resume,
            command=shlex.join(["vsg", "train", str(config), *(f"--set={item}" for item in overrides)]),
        )
    except (TrainingError, ModelError) as error:
        if not first:
            # Most errors meet all processes: torchrun ends this one as soon as the first has said it.
            time.sleep(_PATIENCE)
        raise click.ClickException(str(error)) from error
    if first:
        click.echo(f"wrote {checkpoint}")
