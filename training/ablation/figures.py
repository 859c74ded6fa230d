"""The figures of a run that is trained and scored: one JSON file, from which the report is made."""

from __future__ import annotations

import json
from dataclasses import asdict, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from training.errors import DataError
from training.evaluation import Figures, PredicateRecall

FIGURES_FILE = "figures.json"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scores:
    """Figures over some videos, as fractions.

    videos: number of videos.
    frames: number of frames with an annotated relation.
    """

    videos: int
    frames: int
    figures: Figures
    recall_by_predicate: PredicateRecall


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunFigures:
    """Figures of one row with one seed.

    training_labels: number of annotations of each predicate in the videos that were trained on.
    scoring: parameters of the triplets' scores.
    by_change: scores by how much of a video changes: `none`, `low`, `middle`, `high`.
    """

    row: str
    seed: int
    command: str
    task: str
    training_data: str
    test_data: str
    steps: int
    batch_size: int
    clip_length: int
    trained_parameters: int
    training_labels: dict[str, int]
    whole: Scores
    by_change: dict[str, Scores]
    scoring: dict[str, float] = field(default_factory=dict)


def write_figures(folder: Path, figures: RunFigures) -> None:
    """Writes the figures of a run into its folder, whole or not at all."""
    partial = folder / "figures.partial"
    partial.write_text(json.dumps(asdict(figures), indent=1))
    partial.replace(folder / FIGURES_FILE)


def read_figures(folder: Path) -> RunFigures | None:
    """Reads the figures of a run; returns None where it is not finished.

    Raises DataError naming a file that holds anything else.
    """
    path = folder / FIGURES_FILE
    try:
        return TypeAdapter(RunFigures).validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(
            f"{path} was written by another version, or altered; delete it, and `vsg ablate` scores the run anew"
        ) from error
