"""Scores networks on a test set, as a whole and by how much of a video changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines import FunctionStage
from models.graph.bundle import Scoring
from models.graph.duplicates import box_iou, pair_scores
from models.graph.predictions import PairPredictions
from models.networks.arn import Arn
from models.networks.scored import Scored
from models.networks.two_stage import TwoStage
from training.ablation.figures import Scores
from training.configuration import TrainingConfig
from training.data.action_genome import AnnotatedVideo, ground_truth_of, load_action_genome
from training.data.facts import small_objects_of
from training.data.puppets.dataset import TOLD_FILE
from training.evaluation import Evaluator, Figures
from training.objectives.videos import split_videos
from training.prediction import Outputs, Predictor, frames_of, network_predictor, predict_video
from training.progress import track
from training.relation_figures import average_precision
from training.score_calibration import PLAIN, UNRANKED, calibrate, seen_frames

_FOUND_IOU = 0.5
CHANGE_GROUPS = ("none", "low", "middle", "high")


class Scorer:
    """Runs one network after the other over the test split of a data folder.

    Detections are kept in memory, so that all two-stage networks on one detector see the same ones, and only the first
    network waits for them.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self._videos: dict[str, list[AnnotatedVideo]] = {}
        self._found: dict[tuple[str, ...], dict[str, Outputs]] = {}

    def __call__(
        self, network: Arn | TwoStage | Scored, config: TrainingConfig, *, calibrated: bool = False, ranks: bool = True
    ) -> tuple[Scores, dict[str, Scores], Scoring]:
        """Scores a network on the configuration's task.

        Returns the scores over all videos, those over each group of `CHANGE_GROUPS` that has any, and the way in which
        scores joined.

        calibrated: chooses this way on the configuration's validation videos.
        ranks: false to leave relation scores out.
        """
        predictor = self._predictor(network, config)
        scoring = PLAIN if ranks else UNRANKED
        if calibrated:
            _, held_out = split_videos(config)
            scoring = calibrate(seen_frames(held_out, predictor), ranks=ranks).best.scoring
        videos = self._load(config.task)
        groups = change_groups(videos)
        vocabulary = network.vocabulary
        evaluators = {name: Evaluator(vocabulary=vocabulary, scoring=scoring) for name in ("all", *CHANGE_GROUPS)}
        twins = Twins(self.data)
        for video, group in zip(track(videos, "scoring"), groups, strict=True):
            predictions = predict_video(video, predictor)
            twins.add(video, predictions)
            sizes = [frame.size for frame in video.frames]
            for frame, predicted in zip(video.frames, frames_of(predictions, sizes, vocabulary), strict=True):
                truth = ground_truth_of(frame, vocabulary)
                evaluators["all"].add(truth, predicted)
                evaluators[group].add(truth, predicted)
        by_change = {name: _scores(evaluators[name], groups.count(name)) for name in CHANGE_GROUPS if name in groups}
        whole = _scores(evaluators["all"], len(videos))
        return replace(whole, figures=whole.figures | twins.figures()), by_change, scoring

    def _load(self, task: str) -> list[AnnotatedVideo]:
        if task not in self._videos:
            self._videos[task] = load_action_genome(
                self.data, split="test", small_objects=small_objects_of(self.data, task)
            )
        return self._videos[task]

    def _predictor(self, network: Arn | TwoStage | Scored, config: TrainingConfig) -> Predictor:
        predictor = network_predictor(network, config.task)
        host = network.host if isinstance(network, Scored) else network
        if isinstance(host, Arn):
            # Clips are as long as in training: the encodings of later frames may be untrained.
            return replace(predictor, clip_length=config.clip_length)
        if host.object_classifier is not None:
            return predictor  # in SGCls the first stage has weights of the network's own
        weights = host.state_dict()
        own = _digest(weights[name].cpu().numpy() for name in weights if not name.startswith("relations."))
        found = self._found.setdefault((repr(host.config.detector), config.task, own), {})
        first, *others = predictor.stages
        remembering = FunctionStage(first.inputs, first.span, partial(_remember, found, first.run))
        return replace(predictor, stages=[remembering, *others])


class Twins:
    """Relation scores of things that only the whole video tells from their twins (Puppet Genome)."""

    def __init__(self, data: Path) -> None:
        path = data / "annotations" / TOLD_FILE
        self._pairs: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
        self._scores: list[float] = []
        self._used: list[bool] = []

    def add(self, video: AnnotatedVideo, predictions: PairPredictions) -> None:
        """Adds the pairs of one video that were found: the scores of a thing's slot, and of its twin's."""
        given = predictions.relation_scores
        scores = pair_scores(predictions) if given is None else given
        for index, frame in enumerate(video.frames):
            pair = self._pairs.get(f"{frame.path.parent.name}/{frame.path.name}")
            if pair is None:
                continue
            kept = predictions.pair_mask[index]
            boxes = predictions.object_boxes[index] * np.array(frame.size * 2, np.float32)
            for name in ("used", "unused"):
                overlap = np.where(kept, box_iou(boxes, np.array(pair[name], np.float32)), 0.0)
                if overlap.max(initial=0) >= _FOUND_IOU:
                    self._scores.append(float(scores[index, overlap.argmax()]))
                    self._used.append(name == "used")

    def figures(self) -> Figures:
        """Returns the average precision as `video/AP`; nothing where no such pair was found."""
        precision = average_precision(np.array(self._scores), np.array(self._used, bool)) if self._used else None
        return {} if precision is None else {"video": {"AP": precision}}


def _remember(known: dict[str, Outputs], run: Callable[[Outputs], Outputs], inputs: Outputs) -> Outputs:
    """Returns `run(inputs)`, which is computed once for equal inputs."""
    key = _digest(inputs[name] for name in sorted(inputs))
    if key not in known:
        known[key] = run(inputs)
    return known[key]


def _digest(arrays: Iterable[NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _scores(evaluator: Evaluator, videos: int) -> Scores:
    return Scores(videos, evaluator.frames, evaluator.result(), evaluator.recall_by_predicate())


def change_share(video: AnnotatedVideo) -> float:
    """Returns the share of consecutive annotated frames whose sets of relations (object class, predicate) differ."""
    relations = []
    for frame in video.frames:
        objects, predicates = np.nonzero(frame.predicates)
        relations.append(set(zip(frame.labels[objects].tolist(), predicates.tolist(), strict=True)))
    return float(np.mean([before != after for before, after in pairwise(relations)]))


def change_groups(videos: list[AnnotatedVideo]) -> list[str]:
    """Returns each video's group: `none` where nothing changes, the others in thirds by share of changed frames."""
    shares = np.array([change_share(video) for video in videos])
    groups = np.full(len(videos), "none", dtype=object)
    changing = np.argsort(shares, kind="stable")[np.count_nonzero(shares == 0) :]
    for name, members in zip(CHANGE_GROUPS[1:], np.array_split(changing, 3), strict=True):
        groups[members] = name
    named: list[str] = groups.tolist()
    return named
