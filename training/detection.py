"""Measures how well a detector finds what relations need: the person, and each annotated object under its class."""

from __future__ import annotations

import numpy as np
import torch

from models.graph.duplicates import box_iou
from models.networks.detectors import Detector
from training.data.action_genome import AnnotatedVideo
from training.data.clips import read_frame

FOUND_IOU = 0.5


@torch.inference_mode()
def detection_figures(videos: list[AnnotatedVideo], detector: Detector) -> dict[str, float]:
    """Returns the shares of annotated things that are found, IoU at least 0.5, pooled over all frames of the videos.

    persons: some pair's subject is the annotated person.
    boxes: some pair's object overlaps the annotated one.
    objects: the same, under its class.
    pairs: the same, and the pair's subject is the annotated person: the ceiling of recall.
    slots: mean number of pairs in a frame.
    """
    device = detector.anchors.device
    size = detector.config.frame_height, detector.config.frame_width
    found_of: dict[str, list[float]] = {name: [] for name in ("persons", "boxes", "objects", "pairs", "slots")}
    for video in videos:
        frames = np.stack([read_frame(frame.path, *size) for frame in video.frames])
        found = detector.pairs(torch.from_numpy(frames).to(device)[None], torch.zeros(1, len(frames), device=device))
        masks, subjects = found.mask[0].cpu().numpy(), found.subject_boxes[0].cpu().numpy()  # (T, P), (T, P, 4)
        things, labels = found.object_boxes[0].cpu().numpy(), found.labels[0].cpu().numpy()
        for index, frame in enumerate(video.frames):
            scale = np.array(frame.size * 2, dtype=np.float64)
            has_person = masks[index] & (box_iou(subjects[index] * scale, frame.person_box) >= FOUND_IOU)  # (P,)
            overlaps = (box_iou(things[index] * scale, frame.boxes[:, None]) >= FOUND_IOU) & masks[index]  # (M, P)
            known = overlaps & (labels[index] == frame.labels[:, None])
            found_of["persons"].append(has_person.any())
            found_of["boxes"].extend(overlaps.any(1).tolist())
            found_of["objects"].extend(known.any(1).tolist())
            found_of["pairs"].extend((known & has_person).any(1).tolist())
            found_of["slots"].append(masks[index].sum())
    return {name: float(np.mean(values)) for name, values in found_of.items()}
