"""Measures an object detector on photographs whose boxes are known: average precision, and time on one thread.

    .venv/bin/python -m benchmarks.detection CHECKPOINT ../shared/real/coco_256 [--frame-size 512x384 ...]
        [--second CHECKPOINT] [--letterbox] [--tflite FILE] [--json]

CHECKPOINT is a file of `vsg import efficientdet` or `vsg import ssdlite`. `--second` fuses it with another one, with
the numbers that `vsg join --second` takes by default. The folder holds `images/…/NAME.jpg` and `labels/…/NAME.txt`, a
line for each box: class, centre x, centre y, width and height, as fractions. Frames are stretched to each size, as the
service does it, or letterboxed. The detector runs on ONNX Runtime; the time is that of the processor, for one frame at
a time.

`--tflite` compares EfficientDet at 320x320 with LiteRT on the file that it was made from. That needs `ai-edge-litert`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.ops import batched_nms, box_iou

from benchmarks.errors import BenchError
from export.onnx import export_stages, sample_inputs
from models.engines.onnxruntime import open_session
from models.networks.checkpoint import load_part
from models.networks.detectors import coco
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig, decode_boxes, place_anchors
from models.networks.detectors.fused import Fused, FusingConfig
from models.networks.detectors.object_detector import ObjectDetector
from models.networks.detectors.ssdlite import SsdLite
from models.networks.stages import FRAMES, NetworkStage

SIDE = 320
OBJECT_IOU = 0.5
MOST = 100
SHOWN_SCORE = 0.3
FOUND_IOU = 0.5
Array = NDArray[Any]
Detect = Callable[[Array], tuple[Array, Array]]
"""Turns a frame (H, W, 3) uint8 into boxes (Q, 4) in fractions of it and scores (Q, C)."""


@dataclass(frozen=True)
class Photograph:
    """A photograph and its boxes.

    picture: (H, W, 3) uint8 RGB.
    classes: (K,) int64, numbers of COCO's 80 classes.
    boxes: (K, 4) corner boxes in fractions of the picture.
    """

    picture: Image.Image
    classes: Array
    boxes: Array


@dataclass(frozen=True)
class Row:
    """Figures of a detector at one frame size.

    ap: average precision over IoU 0.5 to 0.95, as COCO defines it.
    ap50: average precision at IoU 0.5.
    milliseconds: least processor time of a frame on one thread. Others on the machine make it longer, never shorter.
    difference: most that ONNX Runtime's scores differ from torch's on a photograph.
    """

    frame_size: str
    fitted: str
    ap: float
    ap50: float
    milliseconds: float
    difference: float


@dataclass(frozen=True)
class Agreement:
    """Detections of LiteRT, with scores over `SHOWN_SCORE`, that the detector finds again in the same class.

    iou, score_difference: means over what is found again.
    """

    detections: int
    found: int
    iou: float
    score_difference: float


class _Clips(nn.Module):
    """A detector of frames (N, …) that takes clips (B, T, …), as exported stages do."""

    def __init__(self, detector: ObjectDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = self.detector(frames.flatten(0, 1))
        return boxes.unflatten(0, frames.shape[:2]), scores.unflatten(0, frames.shape[:2])


def read_photographs(folder: Path) -> list[Photograph]:
    """Reads all photographs with a file of labels. Raises BenchError where there are none."""
    found = []
    for path in sorted((folder / "images").glob("*/*.jpg")):
        labels = folder / "labels" / path.parent.name / f"{path.stem}.txt"
        if labels.is_file():
            rows = np.loadtxt(labels, ndmin=2)
            half = rows[:, 3:] / 2
            boxes = np.concatenate((rows[:, 1:3] - half, rows[:, 1:3] + half), 1)
            found.append(Photograph(Image.open(path).convert("RGB"), rows[:, 0].astype(np.int64), boxes))
    if not found:
        raise BenchError(f"{folder} has no photographs with labels: give it images/*/*.jpg and labels/*/*.txt")
    return found


def fit(picture: Image.Image, height: int, width: int, letterbox: bool) -> tuple[Array, Array]:
    """Fits a picture to a frame. Returns the frame and the corner (x, y) and size (2,) that it fills, in fractions."""
    filled = np.array([0.0, 0.0, 1.0, 1.0])
    if not letterbox:
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)), filled
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    frame = Image.new("RGB", (width, height), (127, 127, 127))
    corner = (width - size[0]) // 2, (height - size[1]) // 2
    frame.paste(picture.resize(size, Image.Resampling.BILINEAR), corner)
    filled = np.array([corner[0] / width, corner[1] / height, size[0] / width, size[1] / height])
    return np.asarray(frame), filled


def suppress(boxes: Array, scores: Array, least: float) -> tuple[Array, Array, Array]:
    """Returns boxes, scores and classes after suppression within classes, the best first, `MOST` at most."""
    rows, classes = np.nonzero(scores > least)
    chosen, values = boxes[rows], scores[rows, classes]
    kept = batched_nms(
        torch.from_numpy(chosen).double(), torch.from_numpy(values).double(), torch.from_numpy(classes), OBJECT_IOU
    )[:MOST].numpy()
    return chosen[kept], values[kept], classes[kept]


def measure(detector: ObjectDetector, photographs: Sequence[Photograph], letterbox: bool) -> Row:
    """Measures a detector at its frame size."""
    height, width = detector.frame_size
    with tempfile.TemporaryDirectory() as folder:
        detect = _exported(detector, Path(folder))
        frames, times, results = [fit(each.picture, height, width, letterbox) for each in photographs], [], []
        for photograph, (frame, filled) in zip(photographs, frames, strict=True):
            start = time.process_time()
            boxes, scores = detect(frame)
            times.append(time.process_time() - start)
            boxes = ((boxes.reshape(-1, 2, 2) - filled[:2]) / filled[2:]).reshape(-1, 4).clip(0, 1)
            results.append((photograph, *suppress(boxes.astype(np.float32), scores, 0.01)))
        with torch.inference_mode():
            _, expected = detector(torch.from_numpy(frames[0][0].copy())[None])
        found = detect(frames[0][0])[1]
    ap, ap50 = _average_precision(results)
    difference = float(np.abs(np.sort(expected[0].numpy(), 0) - np.sort(found, 0)).max())
    fitted = "letterboxed" if letterbox else "stretched"
    return Row(f"{width}x{height}", fitted, ap, ap50, 1000 * min(times), difference)


def _exported(detector: ObjectDetector, folder: Path) -> Detect:
    stage = NetworkStage("detector", _Clips(detector).eval(), (FRAMES,), ("boxes", "scores"), "frame")
    export_stages([stage], sample_inputs(detector.frame_size, 2), {"boxes", "scores"}, 2, folder)
    session = open_session(folder / "detector.onnx", threads=1)

    def detect(frame: Array) -> tuple[Array, Array]:
        boxes, scores = session.run(["boxes", "scores"], {FRAMES: frame[None, None]})
        return boxes[0, 0], scores[0, 0]

    return detect


def _average_precision(results: Sequence[tuple[Photograph, Array, Array, Array]]) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths, found = [], []
    for image, (photograph, boxes, scores, classes) in enumerate(results):
        size = np.array(photograph.picture.size * 2)
        for box, kind in zip(_sized(photograph.boxes * size), photograph.classes.tolist(), strict=True):
            area = box[2] * box[3]
            truths.append({"image_id": image, "category_id": kind, "bbox": box, "area": area, "iscrowd": 0})
        for box, score, kind in zip(_sized(boxes * size), scores.tolist(), classes.tolist(), strict=True):
            found.append({"image_id": image, "category_id": kind, "bbox": box, "score": score})
    with redirect_stdout(StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": image} for image in range(len(results))],
            "categories": [{"id": kind, "name": name} for kind, name in enumerate(coco.NAMES)],
            "annotations": [truth | {"id": number} for number, truth in enumerate(truths, 1)],
        }
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def _sized(boxes: Array) -> list[list[float]]:
    """Turns corner boxes into corner and size."""
    sized: list[list[float]] = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1).tolist()
    return sized


def compare(detector: EfficientDet, tflite: Path, photographs: Sequence[Photograph]) -> Agreement:
    """Compares the detector with LiteRT. Raises BenchError where that is not installed."""
    reference, own = _lite_runtime(tflite), detector.with_frame_size(SIDE, SIDE)
    detections, ious, differences = 0, [], []
    for photograph in photographs:
        frame, _ = fit(photograph.picture, SIDE, SIDE, letterbox=False)
        with torch.inference_mode():
            boxes, scores = (values[0].numpy() for values in own(torch.from_numpy(frame.copy())[None]))
        mine, theirs = suppress(boxes, scores, 0.1), suppress(*reference(frame), SHOWN_SCORE)
        overlaps = box_iou(torch.from_numpy(theirs[0]), torch.from_numpy(mine[0])).numpy()
        overlaps = np.where(theirs[2][:, None] == mine[2], overlaps, 0)
        detections += len(overlaps)
        for row, score in zip(overlaps, theirs[1], strict=True):
            if row.size and row.max() >= FOUND_IOU:
                ious.append(float(row.max()))
                differences.append(abs(float(score - mine[1][row.argmax()])))
    return Agreement(detections, len(ious), float(np.mean(ious)), float(np.mean(differences)))


def _lite_runtime(tflite: Path) -> Detect:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as error:
        raise BenchError("--tflite needs ai-edge-litert: install it with `pip install ai-edge-litert`") from error
    interpreter = Interpreter(str(tflite), num_threads=1)
    interpreter.allocate_tensors()
    columns = np.array(coco.IDS) - 1
    anchors = place_anchors(EfficientDetConfig(frame_height=SIDE, frame_width=SIDE))

    def detect(frame: Array) -> tuple[Array, Array]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame[None])
        interpreter.invoke()
        outputs = [interpreter.get_tensor(each["index"])[0] for each in interpreter.get_output_details()]
        deltas, scores = sorted(outputs, key=lambda values: values.shape[1])
        return decode_boxes(torch.from_numpy(deltas), anchors).numpy(), scores[:, columns]

    return detect


def _read(checkpoint: Path) -> EfficientDet | SsdLite:
    network, _ = load_part(checkpoint)
    if not isinstance(network, EfficientDet | SsdLite):
        raise BenchError(f"{checkpoint} holds a {type(network).__name__}: give EfficientDet or SSDLite")
    return network


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(height), int(width)


def main() -> None:
    """Prints a row for each frame size, and the agreement where `--tflite` asks for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--frame-size", type=_size, action="append", metavar="WIDTHxHEIGHT")
    parser.add_argument("--second", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--letterbox", action="store_true")
    parser.add_argument("--tflite", type=Path)
    parser.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detectors = [_read(path) for path in (arguments.checkpoint, arguments.second) if path is not None]
    photographs = read_photographs(arguments.data)
    if arguments.tflite:
        if not isinstance(detectors[0], EfficientDet):
            raise BenchError(f"--tflite compares EfficientDet only, and {arguments.checkpoint} holds another network")
        agreement = compare(detectors[0], arguments.tflite, photographs)
        print(json.dumps(asdict(agreement)) if arguments.as_json else agreement, flush=True)
    for size in arguments.frame_size or [detectors[0].frame_size]:
        first, *others = (each.with_frame_size(*size) for each in detectors)
        detector = Fused(first, others[0], FusingConfig()).eval() if others else first
        row = measure(detector, photographs, arguments.letterbox)
        print(json.dumps(asdict(row)) if arguments.as_json else row, flush=True)


if __name__ == "__main__":
    main()
