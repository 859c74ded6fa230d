"""`vsg evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from models.engines import ENGINES, EngineName
from training.evaluation import TASKS, Figures, Task
from training.neutral import FrameName, compare_files

_FILE = click.Path(dir_okay=False, path_type=Path)
_TITLES = {"with": "with constraint", "semi": "semi constraint", "no": "no constraint", "top6": "top 6"}


@click.command()
@click.option("--ground-truth", type=_FILE, help="Annotations in the neutral JSON format.")
@click.option("--predictions", type=_FILE, help="Predictions in the neutral JSON format.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Data folder to run a model on.")
@click.option("--relations", type=_FILE, help="Relations without pixels (`vsg data relations`) to run a model on.")
@click.option("--model", type=click.Path(path_type=Path), help="Checkpoint or bundle to run.")
@click.option("--engine", type=click.Choice(ENGINES), help="What runs a bundle.  [default: onnxruntime-cpu]")
@click.option("--task", type=click.Choice(TASKS), help="What the predictions were given; not with --relations.")
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True, help="With --data.")
@click.option("--json", "as_json", is_flag=True, help="Fractions as JSON instead of a table of percentages.")
def evaluate(
    ground_truth: Path | None,
    predictions: Path | None,
    data: Path | None,
    relations: Path | None,
    model: Path | None,
    engine: EngineName | None,
    task: Task | None,
    split: Literal["train", "test"],
    as_json: bool,
) -> None:
    """Score predictions, or a model on a data folder or on relations without pixels.

    Give either --ground-truth and --predictions, or --data and --model, each with --task; or --relations and --model.
    """
    if relations:
        if not model or data or ground_truth or predictions or task:
            raise click.UsageError("--relations goes with --model, and without --data, --task or files of predictions")
        _evaluate_relations(relations, model, engine, as_json)
        return
    if task is None:
        raise click.UsageError(f"give --task, one of {', '.join(TASKS)}")
    if ground_truth and predictions and not (data or model):
        comparison = compare_files(ground_truth, predictions, task=task)
        _note(comparison.unpredicted, "have no predictions; they count with recall and precision 0")
        _note(comparison.unannotated, "of the predictions are not in the ground truth; they are left out")
        _note(comparison.off_task, f"hold boxes or labels that are not the annotated ones, which {task} gives")
        figures = comparison.figures
    elif data and model and not (ground_truth or predictions):
        # Running a model needs torch or an engine; scoring files needs neither.
        from training.prediction import evaluate_model

        figures = evaluate_model(data, model, task, split, engine=engine, progress=True)
    else:
        raise click.UsageError("give either --ground-truth and --predictions, or --data and --model")
    click.echo(json.dumps(figures, indent=1) if as_json else _table(figures, task))


def _evaluate_relations(file: Path, model: Path, engine: EngineName | None, as_json: bool) -> None:
    from training.relation_evaluation import evaluate_relations

    found = evaluate_relations(file, model, engine)
    if found.left_out:
        click.echo(f"Note: {found.left_out} pairs are left out: the model's vocabulary has no such things", err=True)
    click.echo(json.dumps(found.figures, indent=1) if as_json else _relation_table(found.figures))


def _relation_table(figures: dict[str, Any]) -> str:
    """Formats the figures of relations in per cent: a line for each predicate."""
    lines = [f"{'average precision':<24}{'annotated':>10}{'all pairs':>10}{'holds':>8}{'asked':>8}"]
    for name, row in [*figures["predicates"].items(), ("mean", figures["mean"])]:
        lines.append(
            f"{name:<24}{_percent(row['ap']):>10}{_percent(row['ap_all_pairs']):>10}"
            f"{row.get('holds', ''):>8}{row.get('asked', ''):>8}"
        )
    rest = {"related": figures["related"], "expected calibration error": figures["ece"]}
    rest |= {f"top-1 {group}": value for group, value in figures["top1"].items()}
    rest |= {f"top-1 {group}, of subjects": value for group, value in figures["top1_of_subjects"].items()}
    return "\n".join([*lines, *(f"{name:<34}{_percent(value):>10}" for name, value in rest.items())])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _note(frames: Sequence[FrameName], what: str) -> None:
    if frames:
        video, index = frames[0]
        click.echo(f"Note: {len(frames)} frames {what} (first: video {video!r}, frame {index})", err=True)


def _table(figures: Figures, task: str) -> str:
    """Formats the figures in per cent: a line for each constraint and metric, a column for each K."""
    columns = list(dict.fromkeys(name.partition("@")[2] for name in next(iter(figures.values()))))
    lines = [f"{task:<20}" + "".join(f"{'@' + k:>8}" for k in columns)]
    for constraint, values in figures.items():
        for metric in dict.fromkeys(name.partition("@")[0] for name in values):
            title = f"{_TITLES.get(constraint, constraint):<16}{metric:<4}"
            lines.append(title + "".join(f"{100 * values[f'{metric}@{k}']:8.2f}" for k in columns))
    return "\n".join(lines)
