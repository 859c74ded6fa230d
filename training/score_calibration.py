"""Chooses how the scores of a triplet join (`models.graph.scoring`), on videos that nothing was trained on.

A likelihood that is fitted on a few videos does not carry over, so recall itself decides, over a small grid: the mean
of `SOUGHT`. Sharper predicates win recall where rare predicates lose it, so recall and mean recall count alike, and a
setting is out where one of `MEASURES` falls by more than `TOLERANCE` against the plain product, or where it gains less
than `LEAST_GAIN`. The model runs once; the grid is scored on what it predicted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Final

from models.graph.bundle import MANIFEST_FILE, Scoring
from models.graph.vocabulary import ACTION_GENOME
from models.networks.checkpoint import store_scoring
from training.data.action_genome import AnnotatedVideo, ground_truth_of
from training.evaluation import Constraint, Evaluator, FrameGroundTruth, FramePredictions
from training.prediction import Predictor, frames_of, predict_video
from training.progress import track

PREDICATE_TEMPERATURES: Final = (0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
RELATION_EXPONENTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
PLAIN: Final = Scoring()
"""The product of all factors as they are."""
UNRANKED: Final = Scoring(relation_exponent=0)
"""The same without relation scores."""

_CONSTRAINTS: Final[tuple[Constraint, ...]] = ("with", "no")
_RECALL_AT: Final = (10, 20)
MEASURES: Final = tuple(
    f"{constraint}/{name}@{k}" for constraint in _CONSTRAINTS for name in ("R", "mR", "P") for k in _RECALL_AT
)
"""Figures that are measured for every setting."""
SOUGHT: Final = tuple(measure for measure in MEASURES if "/P@" not in measure)
"""Figures whose mean decides."""
TOLERANCE: Final = 0.003
"""Fall of a figure that is taken for chance."""
LEAST_GAIN: Final = 0.002
"""Gain of the mean from which a setting is taken for better than the plain product."""

Measures = dict[str, float]
"""Fractions by the names of `MEASURES`."""
SeenFrame = tuple[FrameGroundTruth, FramePredictions]


@dataclass(frozen=True)
class Trial:
    """One setting and its figures on the validation videos."""

    scoring: Scoring
    measures: Measures

    @property
    def sought(self) -> float:
        """The mean of `SOUGHT`."""
        return fmean(self.measures[name] for name in SOUGHT)


@dataclass(frozen=True)
class Calibration:
    """What was tried, and which setting is best.

    plain: the product of all factors as they are.
    best: the setting of the highest `sought` of those that lower no figure, if it gains enough; else the plain product.
    trials: all settings, in the order of the grid.
    """

    plain: Trial
    best: Trial
    trials: tuple[Trial, ...]


def seen_frames(videos: Sequence[AnnotatedVideo], predictor: Predictor, *, progress: bool = False) -> list[SeenFrame]:
    """Runs a model over videos. Returns what is annotated on each frame, and what the model predicts."""
    vocabulary = predictor.vocabulary
    frames: list[SeenFrame] = []
    for video in track(videos, "predicting", disable=not progress):
        sizes = [frame.size for frame in video.frames]
        predicted = frames_of(predict_video(video, predictor), sizes, vocabulary)
        frames += zip((ground_truth_of(frame, vocabulary) for frame in video.frames), predicted, strict=True)
    return frames


def calibrate(frames: Sequence[SeenFrame], *, ranks: bool = True, progress: bool = False) -> Calibration:
    """Tries the grid on frames of one vocabulary. Exponents are tried where the model has a relation scorer.

    ranks: false to leave relation scores out of the product, and to choose the temperature alone.

    Raises EvaluationError where no frame has an annotated relation.
    """
    scored = any(predicted.relation_scores is not None for _, predicted in frames)
    plain = PLAIN if ranks else UNRANKED
    exponents = RELATION_EXPONENTS if scored and ranks else (plain.relation_exponent,)
    settings = [
        Scoring(predicate_temperature=temperature, relation_exponent=exponent)
        for temperature, exponent in product(PREDICATE_TEMPERATURES, exponents)
    ]
    trials = tuple(
        Trial(scoring, measure(frames, scoring)) for scoring in track(settings, "trying settings", disable=not progress)
    )
    return choose(trials, plain)


def choose(trials: tuple[Trial, ...], start: Scoring = PLAIN) -> Calibration:
    """Returns the best of trials, one of which is the setting to start from."""
    plain = next(trial for trial in trials if trial.scoring == start)
    harmless = [trial for trial in trials if _falls(plain, trial) <= TOLERANCE]
    best = max(harmless, key=lambda trial: trial.sought)
    if best.sought < plain.sought + LEAST_GAIN:
        best = plain
    return Calibration(plain, best, trials)


def measure(frames: Sequence[SeenFrame], scoring: Scoring) -> Measures:
    """Returns the figures of one setting."""
    vocabulary = frames[0][0].vocabulary if frames else ACTION_GENOME
    evaluator = Evaluator(_RECALL_AT, vocabulary, scoring, _CONSTRAINTS)
    for truth, predicted in frames:
        evaluator.add(truth, predicted)
    figures = evaluator.result()
    return {name: figures[name.partition("/")[0]][name.partition("/")[2]] for name in MEASURES}


def write_scoring(model: Path, scoring: Scoring) -> None:
    """Writes a scoring into a bundle's manifest or into a checkpoint, from which `vsg export` takes it.

    Raises WeightsError where a checkpoint cannot be read or written.
    """
    path = model / MANIFEST_FILE
    if not path.is_file():
        store_scoring(model, scoring)
        return
    manifest = json.loads(path.read_text())
    manifest["scoring"] = scoring.model_dump()
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=2) + "\n")
    partial.replace(path)


def _falls(plain: Trial, trial: Trial) -> float:
    """Returns the largest fall of a figure."""
    return max(plain.measures[name] - value for name, value in trial.measures.items())
