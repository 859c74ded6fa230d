"""Runs a checkpoint or a bundle over annotated videos and scores its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.engines import (
    EngineName,
    EngineOptions,
    FunctionStage,
    RunnableStage,
    bundle_inputs,
    open_stages,
    run_stages,
)
from models.graph.bundle import MANIFEST_FILE, Bundle, Scoring
from models.graph.duplicates import DUPLICATE_IOU, suppress_duplicates
from models.graph.fitting import Fit, spanned
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.checkpoint import Complete, Incomplete, load_checkpoint, scoring_of
from models.networks.scored import Scored
from models.networks.stages import FRAMES, PICTURE_SIZE, TIMESTAMPS
from models.networks.two_stage import Task, TwoStage
from training.data.action_genome import AnnotatedVideo, Split, ground_truth_of, load_action_genome, read_vocabulary
from training.data.clips import read_frame
from training.data.facts import FRAME_RATE, small_objects_of
from training.errors import EvaluationError
from training.evaluation import Evaluator, Figures, FramePredictions
from training.progress import track

_FRAMES_AT_ONCE = 64
"""Frames that a stage of span `frame` takes at once, so that the longest video fits."""

Outputs = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Predictor:
    """A model that can be run over a video.

    stages: the stages in order.
    frame_size: height and width of the frames.
    clip_length: most frames that a stage takes at once, unless its span is `video`.
    task: decides what the model is given; boxes and labels go to the first stage for all but SGDet.
    vocabulary: the vocabulary of the predictions.
    scoring: the way in which the scores of a triplet join.
    fit: the way in which a picture fills a frame.
    """

    stages: Sequence[RunnableStage]
    frame_size: tuple[int, int]
    clip_length: int
    task: Task = "sgdet"
    vocabulary: Vocabulary = ACTION_GENOME
    scoring: Scoring = field(default_factory=Scoring)
    fit: Fit = "stretch"

    def __call__(self, video: Outputs) -> PairPredictions:
        """Returns the predictions for a video from its named arrays, `frames` and others, (T, …) each."""
        batch = {name: array[None] for name, array in video.items()}
        known = run_stages(self.stages, batch, clip_length=self.clip_length, frames_at_once=_FRAMES_AT_ONCE)
        return PairPredictions.from_outputs(known, self.vocabulary)


def evaluate_model(
    data: Path,
    model: Path,
    task: Task = "sgdet",
    split: Split = "test",
    *,
    engine: EngineName | None = None,
    progress: bool = False,
) -> Figures:
    """Returns figures of a checkpoint or bundle on a data folder, by constraint (`with`, `semi`, `no`, `top6`).

    PredCls and SGCls hand the model annotated boxes, which only checkpoints of two-stage networks take. Raises
    EvaluationError for any other model, where the folder has another vocabulary than the model, and where the engine
    does not run such a model; EngineError where the engine does not run here.
    """
    predictor = load_predictor(model, task, engine)
    annotated = load_annotated(data, predictor, task, split, model)
    return evaluate_videos(annotated, predictor, progress=progress)


def load_annotated(data: Path, predictor: Predictor, task: Task, split: Split, model: Path) -> list[AnnotatedVideo]:
    """Loads the videos of a data folder that a model is measured on, with the objects that count in the task.

    model: named in the message.

    Raises EvaluationError where the folder has another vocabulary than the model.
    """
    annotated_with, known = read_vocabulary(data), predictor.vocabulary
    if not annotated_with.same_columns(known):
        raise EvaluationError(
            f"{data} is annotated with {', '.join(annotated_with.predicates[:3])}, …, but {model} knows "
            f"{', '.join(known.predicates[:3])}, …: a model is evaluated on data of its own vocabulary"
        )
    return load_action_genome(data, split=split, small_objects=small_objects_of(data, task))


def load_predictor(model: Path, task: Task = "sgdet", engine: EngineName | None = None) -> Predictor:
    """Loads a bundle on an engine, by default ONNX Runtime on the CPU, or a checkpoint in torch.

    Raises EvaluationError where the model does not take the task or the engine.
    """
    if (model / MANIFEST_FILE).is_file():
        if task != "sgdet":
            raise EvaluationError(f"task {task!r} needs given boxes, which a bundle does not take; use its checkpoint")
        return bundle_predictor(Bundle.load(model), engine or "onnxruntime-cpu")
    if engine is not None:
        raise EvaluationError(f"{model} is not a bundle, so torch runs it, not {engine}; leave the engine out")
    network, provenance = load_checkpoint(model)
    if isinstance(network, Incomplete):
        raise EvaluationError(
            f"{model} holds a {network.config.network} alone, which makes no scene graphs; name a network built on it"
        )
    return replace(network_predictor(network, task), scoring=scoring_of(provenance))


def network_predictor(network: Complete, task: Task = "sgdet") -> Predictor:
    """Returns a predictor that runs a network as it stands, on the device it is on.

    Raises EvaluationError where the network was trained for another task.
    """
    stages: list[RunnableStage] = [*network.stages()]
    host = network.host if isinstance(network, Scored) else network
    made_for = host.config.task if isinstance(host, TwoStage) else "sgdet"
    if made_for != task:
        raise EvaluationError(f"this network was trained for {made_for}, not for {task}; use --task {made_for}")
    if isinstance(host, TwoStage) and task != "sgdet":
        stages[0] = FunctionStage((FRAMES, TIMESTAMPS, PICTURE_SIZE, *_GIVEN), "clip", partial(_given_tensors, host))
    return Predictor(stages, network.frame_size, network.clip_length, task, network.vocabulary)


_GIVEN = ("boxes", "labels", "mask")


@torch.inference_mode()
def _given_tensors(host: TwoStage, arrays: Outputs) -> Outputs:
    device = next(host.parameters()).device
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}
    return {name: tensor.cpu().numpy() for name, tensor in host.given_tensors(tensors).items()}


def bundle_predictor(
    bundle: Bundle,
    engine: EngineName = "onnxruntime-cpu",
    options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen
) -> Predictor:
    """Returns a predictor that runs a bundle's stages in order.

    Raises EngineError where the engine does not run here, EvaluationError where it would take weights at random.
    """
    if engine.startswith("torch") and options.checkpoint is None:
        raise EvaluationError(f"{engine} takes its weights from a checkpoint, so evaluate that: --model CHECKPOINT")
    manifest = bundle.manifest
    return Predictor(
        open_stages(bundle, engine, options),
        (manifest.frame_size.height, manifest.frame_size.width),
        manifest.clip_length,
        vocabulary=manifest.vocabulary,
        scoring=manifest.scoring,
        fit=manifest.frame_size.fit,
    )


def evaluate_videos(videos: list[AnnotatedVideo], predictor: Predictor, *, progress: bool = False) -> Figures:
    """Returns figures over videos, each run in its annotated order."""
    vocabulary = predictor.vocabulary
    evaluator = Evaluator(vocabulary=vocabulary, scoring=predictor.scoring)
    for video in track(videos, "evaluating", disable=not progress):
        predictions = predict_video(video, predictor)
        sizes = [frame.size for frame in video.frames]
        for frame, predicted in zip(video.frames, frames_of(predictions, sizes, vocabulary), strict=True):
            evaluator.add(ground_truth_of(frame, vocabulary), predicted)
    return evaluator.result()


def predict_video(video: AnnotatedVideo, predictor: Predictor) -> PairPredictions:
    """Predicts all annotated frames of one video, without duplicates where the model found the boxes itself.

    In that case only pairs of the best subject of each frame count, as one subject is annotated.
    """
    height, width = predictor.frame_size
    frames = np.stack([read_frame(frame.path, height, width, predictor.fit) for frame in video.frames])
    times = np.array([frame.number / FRAME_RATE for frame in video.frames])
    size = video.frames[0].size
    whole = spanned((width, height), size, predictor.fit)
    tensors = bundle_inputs(frames, times, whole)
    if predictor.task != "sgdet":
        return predictor(tensors | _given(video))
    predictions = predictor(tensors).with_boxes_scaled(whole[0] / size[0], whole[1] / size[1])
    return suppress_duplicates(of_best_subject(predictions), DUPLICATE_IOU)


def of_best_subject(predictions: PairPredictions) -> PairPredictions:
    """Clears `pair_mask` where a frame has a subject of a higher score: all pairs of one subject have its score."""
    scores = np.where(predictions.pair_mask, predictions.subject_scores, -1.0)
    best = scores == scores.max(axis=1, keepdims=True, initial=-1.0)
    return replace(predictions, pair_mask=predictions.pair_mask & best)


def _given(video: AnnotatedVideo) -> dict[str, NDArray[np.generic]]:
    """Returns the annotated boxes, labels and mask of each frame, the person first: (T, N, …)."""
    most = 1 + max(len(frame.labels) for frame in video.frames)
    boxes = np.zeros((len(video.frames), most, 4), np.float32)
    labels, mask = np.zeros(boxes.shape[:2], np.int64), np.zeros(boxes.shape[:2], np.bool_)
    for index, frame in enumerate(video.frames):
        count = 1 + len(frame.labels)
        boxes[index, :count] = np.concatenate((frame.person_box[None], frame.boxes)) / np.array(frame.size * 2)
        labels[index, 0] = frame.person_label
        labels[index, 1:count] = frame.labels
        mask[index, :count] = True
    return {"boxes": boxes.clip(0, 1), "labels": labels, "mask": mask}


def frames_of(
    predictions: PairPredictions, sizes: list[tuple[int, int]], vocabulary: Vocabulary = ACTION_GENOME
) -> Iterator[FramePredictions]:
    """Yields the evaluator's input, frame by frame: pair i joins the person box i and the object box P + i."""
    subject_classes = predictions.subject_classes
    if subject_classes is None:
        subject_classes = np.full(predictions.pair_mask.shape, vocabulary.subject_indices[0])
    for index, size in enumerate(sizes):
        kept = predictions.pair_mask[index]
        pairs = int(kept.sum())
        classes = predictions.object_scores[index, kept]
        boxes = np.concatenate((predictions.subject_boxes[index, kept], predictions.object_boxes[index, kept]))
        relation_scores = (
            None if predictions.relation_scores is None else predictions.relation_scores[index, kept].astype(np.float64)
        )
        yield FramePredictions(
            boxes=boxes.astype(np.float64) * np.array(size * 2, dtype=np.float64),
            labels=np.concatenate((subject_classes[index, kept], classes.argmax(-1))),
            scores=np.concatenate((predictions.subject_scores[index, kept], classes.max(-1, initial=0))).astype(
                np.float64
            ),
            pairs=np.stack((np.arange(pairs), pairs + np.arange(pairs)), -1),
            predicate_scores=predictions.predicate_scores[index, kept].astype(np.float64),
            relation_scores=relation_scores,
            vocabulary=vocabulary,
        )
