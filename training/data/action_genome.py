"""Action Genome as it lies on disk, and everything that is laid out like it.

    annotations/object_classes.txt, relationship_classes.txt      36 and 26 raw names, one per line
    annotations/person_bbox.pkl                                   {key: {"bbox": (n, 4) xyxy, "bbox_size": (w, h)}}
    annotations/object_bbox_and_relationship.pkl                  {key: [{"class", "bbox": xywh, "visible", …}, …]}
    annotations/object_bbox_and_relationship_filtersmall.pkl      optional: the same without small objects
    frames/<VIDEO>.mp4/<6 digits>.png

where a key is `<VIDEO>.mp4/<6 digits>.png`. Which frames count is the field's convention (STTran's loader, restated):
the first object of a frame says whether the frame is of the training or the test split; objects that are not visible
are left out, frames without a visible object or without a person as well, and then videos with fewer than three frames.
Nothing is sorted: videos and frames keep the order of `person_bbox.pkl`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from models.graph.vocabulary import (
    GROUP_SLICE,
    GROUPS,
    OBJECT_INDEX,
    PERSON,
    PREDICATES_OF_GROUP,
    RAW_OBJECT_CLASSES,
    RAW_PREDICATES,
    GroupName,
)
from training.data.pickles import load_pickle
from training.errors import DataError, unknown_name
from training.evaluation import FrameGroundTruth

Split = Literal["train", "test"]
SmallObjects = Literal["keep", "drop"]

LeftOut = Literal["no object", "no person"]

MINIMUM_FRAMES: Final = 3
SMALL_EDGE: Final = 16
"""Pixels; an object whose shorter edge is less is small. PredCls keeps small objects, SGCls and SGDet drop them."""

PERSON_FILE: Final = "person_bbox.pkl"
OBJECT_FILE: Final = "object_bbox_and_relationship.pkl"
FILTERED_OBJECT_FILE: Final = "object_bbox_and_relationship_filtersmall.pkl"
CLASS_FILES: Final = {"object_classes.txt": RAW_OBJECT_CLASSES, "relationship_classes.txt": RAW_PREDICATES}

_KEY: Final = re.compile(r"(?P<video>(?!\.+/)[^/\\]+)/(?P<number>\d+)\.png")


@dataclass(frozen=True, eq=False, slots=True)
class AnnotatedFrame:
    """One frame with its person and the visible objects, each of which is related to the person.

    path: the PNG. number: the frame's number in its video. size: width, height in pixels.
    person_box: (4,) float64, x1 y1 x2 y2 in pixels. boxes: (N, 4) float64, the same of the objects, N >= 1.
    labels: (N,) int64, indices into `OBJECT_CLASSES`, never the person.
    attention (N, 3), spatial (N, 6), contacting (N, 17): bool, which predicates of each group hold; one that a record
        lists twice holds once.
    """

    path: Path
    number: int
    size: tuple[int, int]
    person_box: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    attention: npt.NDArray[np.bool_]
    spatial: npt.NDArray[np.bool_]
    contacting: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = len(self.labels)
        shapes = {"person_box": (4,), "boxes": (count, 4), "labels": (count,)}
        shapes |= {group: (count, len(names)) for group, names in PREDICATES_OF_GROUP.items()}
        for field, shape in shapes.items():
            if getattr(self, field).shape != shape:
                raise DataError(f"{self.path}: {field} must have shape {shape}, but has {getattr(self, field).shape}")


@dataclass(frozen=True, eq=False, slots=True)
class AnnotatedVideo:
    """name: the video's folder below `frames`, such as `001YG.mp4`. frames: in the order of the annotation."""

    name: str
    frames: list[AnnotatedFrame]


def load_action_genome(
    root: Path, *, split: Split, small_objects: SmallObjects, minimum_frames: int = MINIMUM_FRAMES
) -> list[AnnotatedVideo]:
    """Videos of one split.

    small_objects: `keep` them (PredCls) or `drop` those with an edge shorter than `SMALL_EDGE` (SGCls, SGDet); the
        filtered file that STTran distributes is used where it lies beside the annotations.
    minimum_frames: videos with fewer usable frames are left out.

    Raises `DataError` at the first thing that is missing or malformed, and if no video is left; `check_data` finds all
    that is wrong.
    """
    for problem in class_file_problems(root):
        raise DataError(problem)
    annotations = Annotations(root, small_objects=small_objects)
    videos: dict[str, list[AnnotatedFrame]] = {}
    for key in annotations:
        if annotations.split_of(key) == split and isinstance(frame := annotations.frame(key), AnnotatedFrame):
            videos.setdefault(frame.path.parent.name, []).append(frame)
    kept = [AnnotatedVideo(name, frames) for name, frames in videos.items() if len(frames) >= minimum_frames]
    for video in kept:
        for problem in frame_problems(video.frames):
            raise DataError(problem)
    if not kept:
        raise DataError(
            f"{root} has no video of the split {split!r} with {minimum_frames} usable frames; "
            "`vsg data check` counts what each split holds"
        )
    return kept


def ground_truth_of(frame: AnnotatedFrame) -> FrameGroundTruth:
    """The frame as the evaluator sees it: box 0 is the person, and per object come its attention, its spatial (from the
    object to the person) and its contacting relations."""
    held = np.concatenate([getattr(frame, group) for group in GROUPS], axis=1)  # (N, 26)
    objects, predicates = np.nonzero(held)
    objects = objects + 1
    spatial = (predicates >= GROUP_SLICE["spatial"].start) & (predicates < GROUP_SLICE["spatial"].stop)
    return FrameGroundTruth(
        boxes=np.concatenate([frame.person_box[None], frame.boxes]),
        labels=np.concatenate([[OBJECT_INDEX[PERSON]], frame.labels]),
        relations=np.stack([np.where(spatial, objects, 0), np.where(spatial, 0, objects), predicates], axis=1),
    )


def class_file_problems(root: Path) -> Iterator[str]:
    """What is wrong with the two class files. Their order decides what every index means."""
    for name, expected in CLASS_FILES.items():
        path = root / "annotations" / name
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split()
        except OSError as error:
            yield f"{path} cannot be read: {error.strerror}; {root} must be a folder in Action Genome's layout"
            continue
        for position in range(max(len(expected), len(lines))):
            found, wanted = (names[position] if position < len(names) else None for names in (lines, expected))
            if found != wanted:
                yield (
                    f"{path}, line {position + 1} is {found!r}, expected {wanted!r}: "
                    "restore Action Genome's own file, whose order is fixed"
                )


def frame_problems(frames: list[AnnotatedFrame]) -> Iterator[str]:
    """What is missing of the images of one video's frames."""
    folder = frames[0].path.parent
    remedy = "`vsg data frames ROOT` dumps the frames of the videos"
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        yield f"{folder} cannot be read: {error.strerror}; {remedy}"
        return
    if not present:
        yield f"{folder} is empty: dumping this video's frames has failed; {remedy}"
        return
    for frame in frames:
        if frame.path.name not in present:
            yield f"{frame.path} is missing; {remedy}"


class Annotations:
    """The annotation files of a folder, read but not yet parsed; iterating gives the keys in order.

    Raises `DataError` if a pickle is missing or holds something else.
    """

    def __init__(self, root: Path, *, small_objects: SmallObjects) -> None:
        folder = root / "annotations"
        self._frames = root / "frames"
        self._person_path = folder / PERSON_FILE
        # Only two of a record's fields are used: the keypoints would be most of what stays in memory.
        self._persons = {
            key: {field: record.get(field) for field in ("bbox", "bbox_size")} if isinstance(record, dict) else record
            for key, record in load_records(self._person_path).items()
        }
        filtered = folder / FILTERED_OBJECT_FILE
        self._is_filtered = small_objects == "drop" and filtered.exists()
        self._smallest_edge = SMALL_EDGE if small_objects == "drop" and not self._is_filtered else -np.inf
        self._object_path = filtered if self._is_filtered else folder / OBJECT_FILE
        self._objects = load_records(self._object_path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._persons)

    def without_person_record(self) -> list[str]:
        """Keys that have objects but are not in the file of persons, and so are never used."""
        return [key for key in self._objects if key not in self._persons]

    def split_of(self, key: str) -> Split | None:
        """The split of a frame, as its first object says; None if every object was filtered out.

        Raises `DataError` if the objects' record is missing or malformed.
        """
        records = self._objects.get(key)
        if not records and self._is_filtered:
            return None
        place = f"{self._object_path}: {key!r}"
        if not isinstance(records, list) or not records:
            raise DataError(f"{place} has no list of objects, which every key of {PERSON_FILE} needs; restore the file")
        metadata = _field(records[0], "metadata", f"{place}, object 0")
        split: Split | None = metadata.get("set") if isinstance(metadata, dict) else None
        if split not in get_args(Split):
            raise DataError(f"{place}, object 0: metadata is {metadata!r}; its 'set' must be 'train' or 'test'")
        return split

    def frame(self, key: str) -> AnnotatedFrame | LeftOut:
        """A frame for which `split_of` gives a split, or why it is left out.

        Raises `DataError` if a record is malformed.
        """
        video, number = parse_key(key, self._person_path)
        place = f"{self._object_path}: {key!r}"
        visible = [
            parsed
            for position, record in enumerate(self._objects[key])
            if (parsed := self._object(record, f"{place}, object {position}")) is not None
        ]
        if not visible:
            return "no object"
        person_box, size = self._person(key)
        if person_box is None:
            return "no person"
        boxes, labels, held = zip(*visible, strict=True)
        multi_hot = {group: np.array([each[group] for each in held]) for group in GROUPS}
        return AnnotatedFrame(
            path=self._frames / video / key.rpartition("/")[2],
            number=number,
            size=size,
            person_box=person_box,
            boxes=np.array(boxes),
            labels=np.array(labels, dtype=np.int64),
            **multi_hot,
        )

    def _person(self, key: str) -> tuple[npt.NDArray[np.float64] | None, tuple[int, int]]:
        """(4,) float64 box or None, and width and height."""
        place = f"{self._person_path}: {key!r}"
        boxes = _numbers(_field(self._persons[key], "bbox", place), f"{place}: bbox")
        if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4):
            raise DataError(f"{place}: bbox has shape {boxes.shape}, expected rows of x1, y1, x2, y2")
        size = _numbers(_field(self._persons[key], "bbox_size", place), f"{place}: bbox_size")
        if size.shape != (2,) or (size < 1).any():
            raise DataError(f"{place}: bbox_size is {size.tolist()}, expected width and height in pixels")
        if boxes.size > 4:
            raise DataError(f"{place} has {len(boxes)} persons: keep the one that the relations are about")
        return (boxes[0] if boxes.size else None), (int(size[0]), int(size[1]))

    def _object(
        self, record: Any, place: str
    ) -> tuple[npt.NDArray[np.float64], int, dict[GroupName, list[bool]]] | None:
        """Box (4,) x1 y1 x2 y2, label and predicates of a visible object."""
        if not _field(record, "visible", place):
            return None
        label = _field(record, "class", place)
        if not isinstance(label, str) or label not in OBJECT_INDEX:
            raise DataError(f"{place}: {unknown_name('object class', label, OBJECT_INDEX)}")
        if label == PERSON:
            raise DataError(f"{place} is a person: persons are annotated in {PERSON_FILE} only")
        place = f"{place} ({label})"
        box = _numbers(_field(record, "bbox", place), f"{place}: bbox")
        if box.shape != (4,):
            raise DataError(f"{place}: bbox has shape {box.shape}, expected x, y, width, height")
        if box[2:].min() < self._smallest_edge:
            return None
        held = {group: _multi_hot(record, group, place) for group in GROUPS}
        if sum(held["attention"]) != 1:
            raise DataError(f"{place}: attention_relationship must hold exactly one predicate")
        return np.concatenate([box[:2], box[:2] + box[2:]]), OBJECT_INDEX[label], held


def parse_key(key: str, path: Path) -> tuple[str, int]:
    """Video and frame number of a key of the annotation file `path`. Raises `DataError` if it is none."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise DataError(f"{path}: {key!r} is no key of the form <video>/<digits>.png; restore the file")
    return match["video"], int(match["number"])


def load_records(path: Path) -> dict[str, Any]:
    """The dict of frames in an annotation pickle. Raises `DataError` if the file is missing or holds something else."""
    if not path.exists():
        raise DataError(f"{path} cannot be read: No such file; copy it here from Action Genome's annotations")
    records = load_pickle(path)
    if not isinstance(records, dict) or not records or not all(isinstance(key, str) for key in records):
        raise DataError(f"{path} holds no dict of frames but a {type(records).__name__}; copy the right file here")
    return records


def _field(record: Any, name: str, place: str) -> Any:
    if not isinstance(record, dict) or record.get(name) is None:
        raise DataError(f"{place} has no {name!r}: the record is malformed; restore the file it came from")
    return record[name]


def _numbers(value: Any, place: str) -> npt.NDArray[np.float64]:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{place} is {value!r}, expected numbers") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"{place} is {numbers.tolist()}, expected finite numbers")
    return numbers


def _multi_hot(record: Any, group: GroupName, place: str) -> list[bool]:
    """Which of the group's predicates the record lists, in their order."""
    names = _field(record, f"{group}_relationship", place)
    predicates = PREDICATES_OF_GROUP[group]
    if not isinstance(names, list | tuple):
        raise DataError(f"{place}: {group}_relationship is {names!r}, expected a list of predicates")
    for name in names:
        if name not in predicates:
            raise DataError(f"{place}: {unknown_name(f'{group} predicate', name, predicates)}")
    return [predicate in names for predicate in predicates]
