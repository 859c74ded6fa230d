"""Runs a checkpoint or a bundle over annotated videos and scores what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.arn import Arn
from models.bundle import MANIFEST_FILE, Bundle
from models.checkpoint import load_checkpoint
from models.duplicates import DUPLICATE_IOU, suppress_duplicates
from models.onnx_session import open_session
from models.predictions import PairPredictions
from training.action_genome import AnnotatedVideo, Split, ground_truth_of, load_action_genome
from training.clips import read_frame
from training.data_facts import small_objects_of
from training.errors import EvaluationError
from training.evaluation import Evaluator, Figures, FramePredictions
from training.progress import track

Outputs = Mapping[str, NDArray[np.generic]]
Predict = Callable[[NDArray[np.uint8]], Outputs]
"""(B, T, H, W, 3) uint8 frames to a bundle's named outputs."""


def evaluate_model(
    data: Path, model: Path, task: str = "sgdet", split: Split = "test", progress: bool = False
) -> Figures:
    """Figures of a checkpoint or bundle on a data folder, by constraint (`with`, `semi`, `no`, `top6`).

    Only SGDet runs on a one-stage model: it finds its own boxes. Raises EvaluationError for another task.
    """
    if task != "sgdet":
        raise EvaluationError(
            f"task {task!r} needs given boxes, which a one-stage model does not take; use --task sgdet"
        )
    annotated = load_action_genome(data, split=split, small_objects=small_objects_of(data))
    predict, height, width, clip_length = load_predictor(model)
    return evaluate_videos(annotated, predict, height, width, clip_length, progress=progress)


def load_predictor(model: Path) -> tuple[Predict, int, int, int]:
    """A bundle, run by ONNX Runtime, or a checkpoint, run by torch; and its frame height, width and clip length."""
    if (model / MANIFEST_FILE).is_file():
        bundle = Bundle.load(model)
        size = bundle.manifest.frame_size
        return bundle_predictor(bundle), size.height, size.width, bundle.manifest.clip_length
    network, _ = load_checkpoint(model)
    config = network.config
    return network_predictor(network), config.frame_height, config.frame_width, config.clip_length


def network_predictor(network: Arn) -> Predict:
    """Runs a network as it stands, on the device it is on."""
    device = next(network.parameters()).device

    @torch.inference_mode()
    def predict(frames: NDArray[np.uint8]) -> Outputs:
        outputs = network.predict(torch.from_numpy(frames).to(device))
        return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}

    return predict


def bundle_predictor(bundle: Bundle) -> Predict:
    """Runs a bundle's stages in order with ONNX Runtime on the CPU."""
    sessions = [open_session(bundle.path_of(stage)) for stage in bundle.manifest.stages]

    def predict(frames: NDArray[np.uint8]) -> Outputs:
        tensors: dict[str, NDArray[np.generic]] = {"frames": frames}
        for session in sessions:
            names = [output.name for output in session.get_outputs()]
            inputs = {item.name: tensors[item.name] for item in session.get_inputs()}
            tensors.update(zip(names, session.run(names, inputs), strict=True))
        return tensors

    return predict


def evaluate_videos(
    videos: list[AnnotatedVideo], predict: Predict, height: int, width: int, clip_length: int, *, progress: bool = False
) -> Figures:
    """SGDet figures over videos, run clip by clip in their annotated order."""
    evaluator = Evaluator()
    for video in track(videos, "evaluating", disable=not progress):
        predictions = predict_video(video, predict, height, width, clip_length)
        for frame, predicted in zip(
            video.frames, frames_of(predictions, [frame.size for frame in video.frames]), strict=True
        ):
            evaluator.add(ground_truth_of(frame), predicted)
    return evaluator.result()


def predict_video(
    video: AnnotatedVideo, predict: Predict, height: int, width: int, clip_length: int
) -> PairPredictions:
    """All annotated frames of one video, in clips of up to `clip_length`, without duplicates."""
    frames = np.stack([read_frame(frame.path, height, width) for frame in video.frames])
    full = len(frames) // clip_length * clip_length
    # Clips of equal length share a batch; what is left over is a shorter clip of its own.
    batches = [frames[:full].reshape(-1, clip_length, *frames.shape[1:]), frames[None, full:]]
    clips = []
    for batch in batches:
        if batch.size:
            outputs = predict(batch)
            clips += [PairPredictions.from_outputs(outputs, index) for index in range(len(batch))]
    return suppress_duplicates(PairPredictions.concatenate(clips), DUPLICATE_IOU)


def frames_of(predictions: PairPredictions, sizes: list[tuple[int, int]]) -> Iterator[FramePredictions]:
    """What the evaluator takes, frame by frame: pair i joins the person box i and the object box P + i."""
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
            labels=np.concatenate((np.zeros(pairs, np.int64), classes.argmax(-1))),
            scores=np.concatenate((predictions.subject_scores[index, kept], classes.max(-1, initial=0))).astype(
                np.float64
            ),
            pairs=np.stack((np.arange(pairs), pairs + np.arange(pairs)), -1),
            attention=predictions.attention[index, kept].astype(np.float64),
            spatial=predictions.spatial[index, kept].astype(np.float64),
            contacting=predictions.contacting[index, kept].astype(np.float64),
            relation_scores=relation_scores,
        )
