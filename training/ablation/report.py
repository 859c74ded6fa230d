"""The report of an ablation study: markdown made from the figures of its runs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Final

from training.ablation.figures import RunFigures, Scores, read_figures
from training.ablation.plan import Plan, Table
from training.data.puppets.casting import TOLD_BY_MOTION
from training.errors import ConfigurationError

Runs = dict[str, dict[int, RunFigures]]
"""Finished runs by row and seed."""

_TASKS: Final = {"predcls": "PredCls", "sgcls": "SGCls", "sgdet": "SGDet"}
_PREDICATE_SETS: Final = {
    "tail_third": "the third of the predicates with the fewest training labels",
    "motion": "the predicates that only motion tells from others in Puppet Genome",
}
_NOTHING: Final = "-"
_WIDTH: Final = 120
_MOST_MEASURES: Final = 6  # in one table of figures, so that it stays within the width
_ABOUT_CHANGE: Final = (
    "The same differences, by how much of a video changes: the share of consecutive annotated frames whose relations "
    "differ. `none` holds the videos in which nothing changes. The other videos are sorted by this share and divided "
    "into three equal parts."
)


@dataclass(frozen=True)
class Estimate:
    """An estimate from the runs of several seeds.

    mean: the mean over seeds.
    error: its standard error; None for a single seed.
    """

    mean: float
    error: float | None

    @property
    def verdict(self) -> str:
        """Says whether a difference is above two standard errors, within, or below minus two; empty for one seed."""
        if self.error is None:
            return ""
        if self.mean > 2 * self.error:
            return "shows"
        return "the opposite shows" if self.mean < -2 * self.error else "does not show"

    def text(self, *, signed: bool = False) -> str:
        """Returns the mean, and its standard error if there is one, in per cent."""
        mean = f"{100 * self.mean:{'+' if signed else ''}.2f}"
        return mean if self.error is None else f"{mean} ± {100 * self.error:.2f}"


def estimate(values: Sequence[float]) -> Estimate | None:
    """Returns the mean and its standard error, sd / sqrt(n), where sd divides by n - 1.

    Returns None where there is no value, or one that is NaN.
    """
    if not values or any(map(math.isnan, values)):
        return None
    return Estimate(fmean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None)


def write_report(plan: Plan, command: str) -> None:
    """Writes the plan's report from the runs that are finished.

    command: the command that makes the report.
    """
    plan.report.parent.mkdir(parents=True, exist_ok=True)
    plan.report.write_text(report(plan, command))


def report(plan: Plan, command: str) -> str:
    """Returns the report as markdown."""
    runs: Runs = {row: {} for row in plan.rows}
    for row, by_seed in runs.items():
        for seed in plan.seeds:
            if (figures := read_figures(plan.folder(row, seed))) is not None:
                by_seed[seed] = figures
    parts = _opening(plan, runs, command)
    for table in plan.tables:
        parts += _TableReport(plan, table, runs).parts()
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _opening(plan: Plan, runs: Runs, command: str) -> list[str]:
    finished = [run for by_seed in runs.values() for run in by_seed.values()]
    parts = [f"# Ablations: {plan.name}", f"`{command}` writes this file, so changes made by hand are lost."]
    if finished:
        first = finished[0]
        tasks = " and ".join(sorted({_TASKS[run.task] for run in finished}))
        trained_on = "; ".join(sorted({run.training_data for run in finished}))
        parts.append(
            f"Test set: `{plan.test}` ({first.test_data}), {first.whole.videos:,} videos, "
            f"{first.whole.frames:,} frames, {tasks}. Trained on: {trained_on}."
        )
    seeds = ", ".join(map(str, plan.seeds))
    if len(plan.seeds) == 1:
        parts.append(
            f"Figures are in per cent. There is one seed ({seeds}), so there are no standard errors, and a difference "
            "may be chance."
        )
    else:
        parts.append(
            f"Figures are in per cent. Each is the mean over the seeds {seeds} ± its standard error, which is the "
            "standard deviation (with n - 1) divided by the square root of the number of seeds. A difference is the "
            "figure of the row named first minus that of the row named second, computed for each seed. It *shows* if "
            "its mean is more than two standard errors above zero, and *the opposite shows* if it is more than two "
            "below. Otherwise it *does not show*. With so few seeds this is a rule of thumb, not a statistical test."
        )
    return parts


class _TableReport:
    """The part of the report on one table."""

    def __init__(self, plan: Plan, table: Table, runs: Runs) -> None:
        self.plan = plan
        self.table = table
        self.runs = {row: runs[row] for row in table.rows}
        self.begun = {row: by_seed for row, by_seed in self.runs.items() if by_seed}
        self.finished = [run for by_seed in self.runs.values() for run in by_seed.values()]
        self.predicates = _predicates(table, self.finished[0]) if self.finished else None
        self.headings = [measure.replace("/", " ") for measure in table.measures]

    def parts(self) -> list[str]:
        """Returns paragraphs and tables, in order."""
        parts = [f"## {self.table.title}", f"Claim: {self.table.claim}"]
        if self.finished:
            parts += [*self._figures(), *self._about_predicates(), self._budgets()]
            if compared := self._compared():
                parts += ["Differences:", _markdown(["compared", "measure", "difference", ""], compared)]
            if self.table.changed:
                parts += [_ABOUT_CHANGE, self._compared_by_change()]
        return [*parts, *self._missing(), *([self.table.note.strip()] if self.table.note else [])]

    def _figures(self) -> list[str]:
        """Returns tables of a few measures each."""
        tables = []
        for first in range(0, len(self.table.measures), _MOST_MEASURES):
            some = slice(first, first + _MOST_MEASURES)
            rows = []
            for row, by_seed in self.begun.items():
                cells = []
                for measure in self.table.measures[some]:
                    found = estimate([self._value(run.whole, measure) for run in by_seed.values()])
                    cells.append(_NOTHING if found is None else found.text())
                rows.append([row, *cells])
            tables.append(_markdown(["row", *self.headings[some]], rows))
        return tables

    def _about_predicates(self) -> list[str]:
        if self.predicates is None:
            return []
        which = _PREDICATE_SETS.get(str(self.table.predicates), "these predicates")
        labels = self.finished[0].training_labels
        counts = ", ".join(f"{predicate} ({labels[predicate]:,})" for predicate in self.predicates)
        return [f"mR is the mean over {which}. In brackets: the number of training annotations of each. {counts}."]

    def _budgets(self) -> str:
        rows = []
        for row, by_seed in self.begun.items():
            cells: list[str] = []
            for run in by_seed.values():
                cells = [f"{run.steps:,} x {run.batch_size} x {run.clip_length}", f"{run.trained_parameters:,}"]
                cells.append(", ".join(dict.fromkeys(map(_joined, by_seed.values()))))
            planned = self.plan.rows[row]
            source = f"network of {planned.weights_of}" if planned.weights_of else planned.start or _NOTHING
            rows.append([row, source, *cells])
        heads = ["row", "starts from", "steps x batch x clip length", "trained parameters", "temperature / exponent"]
        return _markdown(heads, rows)

    def _compared(self) -> list[list[str]]:
        return [
            [f"{second} against {first}", *cells]
            for first, second in self.table.compare
            for cells in self._differences(first, second, lambda run: run.whole)
        ]

    def _compared_by_change(self) -> str:
        rows = []
        for first, second in self.table.compare:
            for group, scores in self.finished[0].by_change.items():
                for cells in self._differences(first, second, partial(_group, group)):
                    rows.append([f"{second} against {first}", group, f"{scores.videos:,}", *cells])
        return _markdown(["compared", "change", "videos", "measure", "difference", ""], rows)

    def _differences(self, first: str, second: str, part: Callable[[RunFigures], Scores]) -> list[list[str]]:
        """Returns for each measure its name, the second row minus the first over the seeds of both, and the verdict.

        Leaves out what no seed of both rows has, and of a plan with several seeds what only one has: it says little.
        """
        one, other = self.runs[first], self.runs[second]
        cells = []
        for heading, measure in zip(self.headings, self.table.measures, strict=True):
            found = estimate(
                [
                    self._value(part(other[seed]), measure) - self._value(part(one[seed]), measure)
                    for seed in sorted(one.keys() & other.keys())
                ]
            )
            if found is not None and (found.error is not None or len(self.plan.seeds) == 1):
                cells.append([heading, found.text(signed=True), found.verdict])
        return cells

    def _value(self, scores: Scores, measure: str) -> float:
        """Returns a measure as a fraction.

        mR over some predicates is the mean over those that occur, or NaN where none does.
        """
        constraint, _, name = measure.partition("/")
        if self.predicates is None or not name.startswith("mR"):
            return scores.figures.get(constraint, {}).get(name, math.nan)
        recall = scores.recall_by_predicate[constraint][name.removeprefix("m")]
        occurring = [recall[predicate] for predicate in self.predicates if predicate in recall]
        return fmean(occurring) if occurring else math.nan

    def _missing(self) -> list[str]:
        missing = {row: [seed for seed in self.plan.seeds if seed not in self.runs[row]] for row in self.runs}
        named = [f"{row} (seed {', '.join(map(str, seeds))})" for row, seeds in missing.items() if seeds]
        return [f"This table is incomplete. Missing runs: {'; '.join(named)}."] if named else []


def _joined(run: RunFigures) -> str:
    """Returns the parameters of a run's scores."""
    return " / ".join(f"{value:g}" for value in run.scoring.values()) or _NOTHING


def _group(group: str, run: RunFigures) -> Scores:
    return run.by_change[group]


def _predicates(table: Table, run: RunFigures) -> Sequence[str] | None:
    """Returns the predicates that mR is the mean over; None for all.

    Raises ConfigurationError where none of them is in the test set.
    """
    if table.predicates is None:
        return None
    occurring = set(run.whole.recall_by_predicate["with"]["R@10"])
    if table.predicates == "tail_third":
        return tail_third(run.training_labels, occurring)
    named = sorted(TOLD_BY_MOTION) if table.predicates == "motion" else table.predicates
    chosen = [predicate for predicate in named if predicate in occurring]
    if not chosen:
        raise ConfigurationError(
            f"table {table.title!r}: none of {', '.join(named)} occurs in the test set; name others"
        )
    return chosen


def tail_third(training_labels: dict[str, int], occurring: set[str]) -> list[str]:
    """Returns the third (rounded) of the occurring predicates with the fewest training labels, the rarest first."""
    by_labels = sorted(
        (predicate for predicate in training_labels if predicate in occurring), key=training_labels.__getitem__
    )
    return by_labels[: max(1, round(len(by_labels) / 3))]


def _wrapped(part: str) -> str:
    """Wraps a paragraph at the width; leaves headings and tables as they are."""
    if part.startswith(("#", "|")):
        return part
    return textwrap.fill(part, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table, its first column aligned left and the others right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
