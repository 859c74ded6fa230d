"""`vsg ablate`."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

import click


@click.command()
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--only", multiple=True, metavar="TABLE_OR_ROW", help="Only these runs, and what they start from.")
@click.option("--seeds", metavar="1,2,3", help="Instead of the plan's.")
@click.option("--again", is_flag=True, help="Empty the folders of these runs and repeat them.")
@click.option("--report/--no-report", "reported", default=True, show_default=True, help="Write the plan's report.")
def ablate(plan: Path, only: tuple[str, ...], seeds: str | None, again: bool, reported: bool) -> None:
    """Train and score the variants of a plan, and report them as tables.

    PLAN is a YAML file (training/ablation/plans). A finished run is not repeated, and one that was stopped goes on. The
    report is written anew after every run, from all that are finished.
    """
    from dataclasses import replace

    from training.ablation.plan import load_plan
    from training.ablation.report import write_report
    from training.ablation.run import Study, finish_all, plan_runs

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    loaded = load_plan(plan)
    command = ["vsg", "ablate", str(plan)]
    if seeds is not None:
        loaded = replace(loaded, seeds=_numbers(seeds))
        command += ["--seeds", seeds]
    runs = plan_runs(loaded, plan, only)
    for _ in finish_all(runs, Study(loaded.test), again=again):
        if reported:
            write_report(loaded, shlex.join(command))
    if reported:
        write_report(loaded, shlex.join(command))
        click.echo(f"wrote {loaded.report}")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.UsageError(f"--seeds {text!r} must be whole numbers with commas between them") from error
