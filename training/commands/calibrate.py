"""`vsg calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from models.engines import ENGINES, EngineName
from training.errors import EvaluationError
from training.evaluation import TASKS, Task

if TYPE_CHECKING:
    from training.score_calibration import Calibration


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Data folder."
)
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
@click.option(
    "--videos",
    required=True,
    type=click.IntRange(min=1),
    help="Take the last so many videos of the split. Give the run's `validation_videos`: it did not train on these.",
)
@click.option("--task", type=click.Choice(TASKS), default="sgdet", show_default=True)
@click.option("--engine", type=click.Choice(ENGINES), help="What runs a bundle.  [default: onnxruntime-cpu]")
@click.option("--dry-run", is_flag=True, help="Leave the model as it is.")
@click.option("--json", "as_json", is_flag=True, help="All settings with their figures as JSON instead of a table.")
def calibrate(
    model: Path,
    data: Path,
    split: Literal["train", "test"],
    videos: int,
    task: Task,
    engine: EngineName | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Choose how the scores of a model's triplets join, and write it into the model.

    MODEL is a bundle or a checkpoint. The temperature of predicate scores and the exponent of relation scores come from
    a small grid: the pair with the highest recall on validation videos. Never take videos that figures are reported on.
    """
    from training.prediction import load_annotated, load_predictor
    from training.score_calibration import calibrate as choose
    from training.score_calibration import seen_frames, write_scoring

    predictor = load_predictor(model, task, engine)
    annotated = load_annotated(data, predictor, task, split, model)
    if videos > len(annotated):
        raise EvaluationError(f"--videos is {videos}, but the {split} split of {data} has {len(annotated)}: give fewer")
    found = choose(seen_frames(annotated[-videos:], predictor, progress=True), progress=True)
    if not dry_run:
        write_scoring(model, found.best.scoring)
    click.echo(_as_json(found) if as_json else _table(found))


def _as_json(found: Calibration) -> str:
    content = {
        "chosen": found.best.scoring.model_dump(),
        "tried": [trial.scoring.model_dump() | trial.measures for trial in found.trials],
    }
    return json.dumps(content, indent=1)


def _table(found: Calibration) -> str:
    """Formats the plain product and the chosen setting in per cent, a line for each figure."""
    lines = [f"{'':<12}{'plain':>8}{'chosen':>8}"]
    for name, value in found.best.measures.items():
        lines.append(f"{name:<12}{100 * found.plain.measures[name]:>8.2f}{100 * value:>8.2f}")
    scoring = found.best.scoring
    said = f"predicate_temperature {scoring.predicate_temperature:g}, relation_exponent {scoring.relation_exponent:g}"
    return "\n".join([*lines, said])
