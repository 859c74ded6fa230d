"""Reads the frames of a data folder as clips and computes the inputs of each stage for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from models.engines import Tensors, bundle_inputs, open_stages, run_stages
from models.graph.bundle import Bundle

CLIPS = 64
"""Number of clips; more hardly change the ranges of activations."""
LONGEST_CLIP = 8
"""Frames of a clip; clips of 40, which a network may take, show little more than clips of 8."""
_IMAGES = {".png", ".jpg", ".jpeg"}


def tensors_of_stages(bundle: Bundle, data: Path) -> dict[str, list[Tensors]]:
    """Runs a bundle on each of the folder's clips; returns the inputs of every stage by the stage's name.

    Stages of span `video` run on no clips and get no entry. Raises ExportError where the folder holds no frames.
    """
    manifest = bundle.manifest
    engines = [engine for engine in open_stages(bundle, "onnxruntime-cpu") if engine.span != "video"]
    names = [stage.name for stage in manifest.stages if stage.span != "video"]
    taken: dict[str, list[Tensors]] = {name: [] for name in names}
    length = min(manifest.clip_length, LONGEST_CLIP)
    for frames in read_clips(data, manifest.frame_size.height, manifest.frame_size.width, length):
        moments = np.arange(len(frames), dtype=np.float32) / 2  # the service samples two frames a second
        known = run_stages(engines, bundle_inputs(frames[None], moments))
        for name, engine in zip(names, engines, strict=True):
            taken[name].append({each: known[each] for each in engine.inputs})
    return taken


def read_clips(data: Path, height: int, width: int, length: int) -> Iterator[NDArray[np.uint8]]:
    """Yields the first frames of up to `CLIPS` videos of the folder, evenly spread: (T, height, width, 3) uint8 RGB.

    Frames lie as in Action Genome: `frames/<video>.mp4/<number>.png` (or `.jpg`). Raises ExportError where there are
    none or one cannot be read.
    """
    videos = sorted(path for path in (data / "frames").glob("*") if path.is_dir())
    clips = [
        images[:length]
        for video in videos[:: max(1, len(videos) // CLIPS)][:CLIPS]
        if (images := sorted(path for path in video.iterdir() if path.suffix.lower() in _IMAGES))
    ]
    if not clips:
        raise ExportError(
            f"{data} has no frames to calibrate on; it must hold frames/<video>.mp4/<number>.png, "
            "as `vsg data frames` and `vsg data puppets` write them"
        )
    for images in clips:
        yield np.stack([_read(path, height, width) for path in images])


def _read(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ExportError(f"{path} cannot be read as an image; run `vsg data check` on the folder")
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
