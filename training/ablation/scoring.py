"""Scores networks on a test set, as a whole and by how much of a video changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.engines import FunctionStage
from models.networks.arn import Arn
from models.networks.scored import Scored
from models.networks.two_stage import TwoStage
from training.ablation.figures import Scores
from training.configuration import TrainingConfig
from training.data.action_genome import AnnotatedVideo, ground_truth_of, load_action_genome
from training.data.facts import small_objects_of
from training.evaluation import Evaluator
from training.prediction import Outputs, Predictor, frames_of, network_predictor, predict_video
from training.progress import track

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

    def __call__(self, network: Arn | TwoStage | Scored, config: TrainingConfig) -> tuple[Scores, dict[str, Scores]]:
        """Scores a network on the configuration's task.

        Returns the scores over all videos, and over each group of `CHANGE_GROUPS` that has any.
        """
        predictor = self._predictor(network, config)
        videos = self._load(config.task)
        groups = change_groups(videos)
        vocabulary = network.vocabulary
        evaluators = {name: Evaluator(vocabulary=vocabulary) for name in ("all", *CHANGE_GROUPS)}
        for video, group in zip(track(videos, "scoring"), groups, strict=True):
            predictions = predict_video(video, predictor)
            sizes = [frame.size for frame in video.frames]
            for frame, predicted in zip(video.frames, frames_of(predictions, sizes, vocabulary), strict=True):
                truth = ground_truth_of(frame, vocabulary)
                evaluators["all"].add(truth, predicted)
                evaluators[group].add(truth, predicted)
        by_change = {name: _scores(evaluators[name], groups.count(name)) for name in CHANGE_GROUPS if name in groups}
        return _scores(evaluators["all"], len(videos)), by_change

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
