"""Clips of annotated frames, ready for the network: uint8 frames and dense targets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor
from torch.utils.data import Dataset

from models.graph.fitting import Fit, filled
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from training.data.action_genome import AnnotatedVideo
from training.data.caches import annotation_key, new_array, picture_key, written_once
from training.data.facts import FRAME_RATE
from training.errors import DataError
from training.targets import TENSORS, Targets

_PIXELS = "pixels.npy"
_ITEM_FIELDS = (*TENSORS, "timestamps")


@dataclass(frozen=True)
class ClipBatch:
    """Frames of B clips and what is annotated on them.

    frames: (B, T, H, W, 3) uint8, RGB.
    targets: of all frames.
    timestamps: (B, T) float32, in seconds.
    real: (B, T) bool, false where a video is over and others of the batch go on.
    """

    frames: Tensor
    targets: Targets
    timestamps: Tensor
    real: Tensor


Item = tuple[NDArray[np.uint8], dict[str, NDArray[np.generic]]]
"""Frames (T, H, W, 3) of one clip; the fields of `Targets` and the clip's `timestamps`, without the batch axis."""


class ClipDataset(Dataset[Item]):
    """Clips of `clip_length` consecutive annotated frames; one item for each frame that a clip can start at.

    With `whole_videos`, an item is a whole video instead. One of more than `clip_length` frames, which bounds the
    memory, is cut into as few parts of about equal length as possible.

    Frames are read and stretched to the network's size when asked for, or once into a file in the folder `cache`: small
    frames are then read faster than they are decoded. A video with fewer frames than a clip repeats its last one, but
    stays as it is where items are whole videos.

    clips: rows of the frames of each item.
    """

    def __init__(
        self,
        videos: list[AnnotatedVideo],
        vocabulary: Vocabulary = ACTION_GENOME,
        *,
        height: int,
        width: int,
        clip_length: int,
        whole_videos: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.height, self.width = height, width
        self.annotation_key = annotation_key(videos)
        frames = [frame for video in videos for frame in video.frames]
        self.paths = [frame.path for frame in frames]
        lengths = [len(video.frames) for video in videos]
        self.clips = _whole(lengths, clip_length) if whole_videos else _starting_anywhere(lengths, clip_length)
        self.items_per_epoch = len(self.clips) if whole_videos else len(frames) / clip_length

        count, most = len(frames), max(len(frame.labels) for frame in frames)
        self.person_boxes = np.zeros((count, 4), np.float32)
        self.object_boxes = np.zeros((count, most, 4), np.float32)
        self.object_labels = np.zeros((count, most), np.int64)
        self.object_mask = np.zeros((count, most), np.bool_)
        self.predicates = np.zeros((count, most, len(vocabulary.predicates)), np.float32)
        self.person_labels = np.array([frame.person_label for frame in frames], np.int64)
        self.timestamps = np.array([frame.number / FRAME_RATE for frame in frames], np.float32)
        for index, frame in enumerate(frames):
            scale = np.array(frame.size * 2, dtype=np.float32)
            objects = len(frame.labels)
            self.person_boxes[index] = _centres(frame.person_box / scale)
            self.object_boxes[index, :objects] = _centres(frame.boxes / scale)
            self.object_labels[index, :objects] = np.searchsorted(vocabulary.thing_indices, frame.labels)
            self.object_mask[index, :objects] = True
            self.predicates[index, :objects] = frame.predicates
        self.pixels = None if cache is None else self._cached(cache)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        rows = self.clips[index]
        return self.frames_of(rows), self.targets_of(rows)

    def frames_of(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Frames by their place in the data set: (N, H, W, 3) uint8."""
        if self.pixels is not None:
            return self.pixels[rows]
        return np.stack([read_frame(self.paths[row], self.height, self.width) for row in rows])

    def targets_of(self, rows: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
        """Fields of `Targets`, and `timestamps`, of those frames."""
        return {name: getattr(self, name)[rows] for name in _ITEM_FIELDS}

    def _cached(self, cache: Path) -> NDArray[np.uint8]:
        """All frames as one memory-mapped array (frames, H, W, 3)."""
        shape = (len(self.paths), self.height, self.width, 3)
        folder = cache / f"frames_{self.picture_key()[:16]}"
        if not folder.is_dir():
            with written_once(folder) as own:
                pixels = new_array(own / _PIXELS, np.uint8, shape)
                # OpenCV gives up the interpreter lock, so threads do; processes forked beside torch's may hang.
                with ThreadPoolExecutor(2) as pool:
                    sizes = [self.height] * len(self.paths), [self.width] * len(self.paths)
                    for row, frame in enumerate(pool.map(read_frame, self.paths, *sizes)):
                        pixels[row] = frame
                pixels.flush()
        return np.load(folder / _PIXELS, mmap_mode="r")  # type: ignore[no-any-return]

    def picture_key(self) -> str:
        """Hex digest of the frames' files, and of the size they are stretched to."""
        return picture_key(self.paths, self.height, self.width)


def read_frame(path: Path, height: int, width: int, fit: Fit = "stretch") -> NDArray[np.uint8]:
    """Returns an image file as (height, width, 3) RGB. Raises DataError, naming the file, where it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} cannot be read as an image; run `vsg data check` on the folder")
    size = filled((width, height), (image.shape[1], image.shape[0]), fit)
    if image.shape[1::-1] != size:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if size != (width, height):
        image = cv2.copyMakeBorder(image, 0, height - size[1], 0, width - size[0], cv2.BORDER_CONSTANT)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def collate(items: list[Item], vocabulary: Vocabulary = ACTION_GENOME) -> ClipBatch:
    """Items of a `ClipDataset` as one batch; `vocabulary` is the data set's."""
    frames = stack_padded([frames for frames, _ in items])
    arrays = {name: stack_padded([known[name] for _, known in items]) for name in _ITEM_FIELDS}
    timestamps = arrays.pop("timestamps")
    real = stack_padded([np.ones(len(each), np.bool_) for each, _ in items])
    return ClipBatch(frames, Targets(**arrays, vocabulary=vocabulary), timestamps, real)


def stack_padded(arrays: list[NDArray[Any]]) -> Tensor:
    """Stacks arrays (T, …) of different lengths into (B, longest, …), with zeros behind the shorter ones."""
    stacked = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    for place, array in enumerate(arrays):
        stacked[place, : len(array)] = array
    return torch.from_numpy(stacked)


def _starting_anywhere(lengths: list[int], clip_length: int) -> list[NDArray[np.intp]]:
    """Returns the rows of a clip for each frame that one can start at, of videos of these lengths."""
    clips, first = [], 0
    for length in lengths:
        for start in range(max(1, length - clip_length + 1)):
            clips.append(np.minimum(first + start + np.arange(clip_length), first + length - 1))
        first += length
    return clips


def _whole(lengths: list[int], most: int) -> list[NDArray[np.intp]]:
    """Returns the rows of each video of these lengths, in parts of at most so many frames."""
    parts, first = [], 0
    for length in lengths:
        parts += np.array_split(first + np.arange(length), -(-length // most))
        first += length
    return parts


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Augmentation:
    """Random changes that leave the annotation true, the same for all frames of a clip.

    No predicate of Action Genome tells left from right, so mirroring is safe; set it to 0 for a vocabulary that does.

    mirror: probability that a clip is mirrored.
    gain: most that a channel is multiplied by more or less than 1.
    bias: most that is added to a channel or taken from it, of 255.
    """

    mirror: Annotated[float, Field(ge=0, le=1)] = 0.5
    gain: Annotated[float, Field(ge=0, le=1)] = 0.25
    bias: Annotated[float, Field(ge=0, le=255)] = 25.0

    def __call__(self, batch: ClipBatch, generator: torch.Generator) -> ClipBatch:
        """Returns a new batch; `generator` is on the CPU."""
        size = len(batch.frames)
        flipped = torch.rand(size, generator=generator) < self.mirror
        gain = 1 + (torch.rand(size, 1, 1, 1, 3, generator=generator) * 2 - 1) * self.gain
        bias = (torch.rand(size, 1, 1, 1, 3, generator=generator) * 2 - 1) * self.bias
        frames = torch.where(flipped[:, None, None, None, None], batch.frames.flip(3), batch.frames)
        frames = (frames * gain + bias).clamp_(0, 255).to(torch.uint8)

        def mirrored(boxes: Tensor) -> Tensor:
            turned = torch.cat((1 - boxes[..., :1], boxes[..., 1:]), -1)
            return torch.where(flipped.view(-1, *[1] * (boxes.dim() - 1)), turned, boxes)

        targets = replace(
            batch.targets,
            person_boxes=mirrored(batch.targets.person_boxes),
            object_boxes=mirrored(batch.targets.object_boxes),
        )
        return replace(batch, frames=frames, targets=targets)


def _centres(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Corner boxes, clipped to the frame, as centre boxes (…, 4)."""
    low, high = np.clip(boxes[..., :2], 0, 1), np.clip(boxes[..., 2:], 0, 1)
    return np.concatenate(((low + high) / 2, high - low), axis=-1)
