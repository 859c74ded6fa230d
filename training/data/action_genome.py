"""Reads Action Genome from disk, and every data folder of the same layout.

vocabulary.json: optional; the vocabulary of the annotations, where it is not Action Genome's.
annotations/object_classes.txt, relationship_classes.txt: 36 and 26 raw names, one per line; not read beside a
    vocabulary.json.
annotations/person_bbox.pkl: {key: {"bbox": (n, 4) xyxy, "bbox_size": (w, h)}}; with a "class" where there are several
    subjects.
annotations/object_bbox_and_relationship.pkl: {key: [{"class", "bbox": xywh, "visible", …}, …]}.
annotations/object_bbox_and_relationship_filtersmall.pkl: optional; the same without small objects.
frames/<VIDEO>.mp4/<6 digits>.png: the annotated frames.

A key is `<VIDEO>.mp4/<6 digits>.png`. The frames that count follow the field's convention (STTran's loader, restated).
The first object of a frame says whether the frame is of the training or the test split. Objects that are not visible
are left out, then frames without a visible object or without a person, then videos with fewer than three frames.
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
from pydantic import TypeAdapter, ValidationError

from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
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
VOCABULARY_FILE: Final = "vocabulary.json"
RAW_OBJECT_CLASSES: Final = tuple(name.replace("/", "") for name in ACTION_GENOME.objects)
RAW_PREDICATES: Final = tuple(name.replace("_", "") for name in ACTION_GENOME.predicates)
CLASS_FILES: Final = {"object_classes.txt": RAW_OBJECT_CLASSES, "relationship_classes.txt": RAW_PREDICATES}

_KEY: Final = re.compile(r"(?P<video>(?!\.+/)[^/\\]+)/(?P<number>\d+)\.png")


@dataclass(frozen=True, eq=False, slots=True)
class AnnotatedFrame:
    """One frame with its person, the subject, and the visible objects, each of which is related to the person.

    path: of the PNG.
    number: the frame's number in its video.
    size: width and height in pixels.
    person_box: (4,) float64, x1 y1 x2 y2 in pixels.
    boxes: (N, 4) float64, the same of the objects, N >= 1.
    labels: (N,) int64, indices into the vocabulary's objects, never a subject.
    predicates: (N, R) bool, which of the vocabulary's predicates hold; one that a record lists twice holds once.
    person_label: index of the subject into the vocabulary's objects.
    """

    path: Path
    number: int
    size: tuple[int, int]
    person_box: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    predicates: npt.NDArray[np.bool_]
    person_label: int = 0

    def __post_init__(self) -> None:
        count = len(self.labels)
        shapes = {"person_box": (4,), "boxes": (count, 4), "labels": (count,)}
        shapes["predicates"] = (count, self.predicates.shape[-1])
        for field, shape in shapes.items():
            if getattr(self, field).shape != shape:
                raise DataError(f"{self.path}: {field} must have shape {shape}, but has {getattr(self, field).shape}")


@dataclass(frozen=True, eq=False, slots=True)
class AnnotatedVideo:
    """One video.

    name: the video's folder below `frames`, such as `001YG.mp4`.
    frames: in the order of the annotation.
    """

    name: str
    frames: list[AnnotatedFrame]


def read_vocabulary(root: Path) -> Vocabulary:
    """Reads the vocabulary of a data folder: its `vocabulary.json`, or Action Genome's where it has none.

    Raises DataError where the file is malformed.
    """
    path = root / VOCABULARY_FILE
    if not path.is_file():
        return ACTION_GENOME
    try:
        return TypeAdapter(Vocabulary).validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {in_words(error)}; write it like `vocabulary` in a bundle's manifest") from error


def load_action_genome(
    root: Path, *, split: Split, small_objects: SmallObjects, minimum_frames: int = MINIMUM_FRAMES
) -> list[AnnotatedVideo]:
    """Loads the videos of one split.

    small_objects: `keep` them (PredCls) or `drop` those with an edge shorter than `SMALL_EDGE` (SGCls, SGDet); the
        filtered file that STTran distributes is used where it lies beside the annotations.
    minimum_frames: videos with fewer usable frames are left out.

    Raises DataError at the first thing that is missing or malformed, and where no video is left; `check_data` finds
    everything that is wrong.
    """
    vocabulary = read_vocabulary(root)
    for problem in class_file_problems(root, vocabulary):
        raise DataError(problem)
    annotations = Annotations(root, vocabulary, small_objects=small_objects)
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


def ground_truth_of(frame: AnnotatedFrame, vocabulary: Vocabulary = ACTION_GENOME) -> FrameGroundTruth:
    """Returns the frame as the evaluator takes it.

    Box 0 is the person. Object by object come its relations in the vocabulary's order, each in the direction of its
    group.
    """
    objects, predicates = np.nonzero(frame.predicates)
    objects = objects + 1
    from_object = np.array([vocabulary.runs_from_object(name) for name in vocabulary.predicates])[predicates]
    return FrameGroundTruth(
        boxes=np.concatenate([frame.person_box[None], frame.boxes]),
        labels=np.concatenate([[frame.person_label], frame.labels]),
        relations=np.stack([np.where(from_object, objects, 0), np.where(from_object, 0, objects), predicates], axis=1),
        vocabulary=vocabulary,
    )


def class_file_problems(root: Path, vocabulary: Vocabulary) -> Iterator[str]:
    """Yields what is wrong with the two class files, whose order decides what every index means.

    Only Action Genome's vocabulary has these files.
    """
    if not vocabulary.same_columns(ACTION_GENOME):
        return
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
    """Yields what is missing of the images of one video's frames."""
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

    Raises DataError where a pickle is missing or holds something else.
    """

    def __init__(self, root: Path, vocabulary: Vocabulary, *, small_objects: SmallObjects) -> None:
        self._vocabulary = vocabulary
        folder = root / "annotations"
        self._frames = root / "frames"
        self._person_path = folder / PERSON_FILE
        # Only three of a record's fields are used: the keypoints would be most of what stays in memory.
        self._persons = {
            key: {field: record.get(field) for field in ("bbox", "bbox_size", "class")}
            if isinstance(record, dict)
            else record
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
        """Returns the keys that have objects but are not in the file of persons, and so are never used."""
        return [key for key in self._objects if key not in self._persons]

    def split_of(self, key: str) -> Split | None:
        """Returns the split of a frame, which its first object names; None if every object was filtered out.

        Raises DataError where the objects' record is missing or malformed.
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
        """Returns a frame for which `split_of` gives a split, or the reason why it is left out.

        Raises DataError where a record is malformed.
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
        return AnnotatedFrame(
            path=self._frames / video / key.rpartition("/")[2],
            number=number,
            size=size,
            person_box=person_box,
            boxes=np.array(boxes),
            labels=np.array(labels, dtype=np.int64),
            predicates=np.array(held, dtype=np.bool_),
            person_label=self._person_label(key),
        )

    def _person_label(self, key: str) -> int:
        """Returns the index of a frame's person into the vocabulary's objects.

        It is the first subject unless the person's record names one.
        """
        subjects = self._vocabulary.subjects
        label = self._persons[key].get("class") or subjects[0]
        if label not in subjects:
            raise DataError(f"{self._person_path}: {key!r}: class is {label!r}, expected one of {', '.join(subjects)}")
        return self._vocabulary.object_index[label]

    def _person(self, key: str) -> tuple[npt.NDArray[np.float64] | None, tuple[int, int]]:
        """Returns the person's box, (4,) float64 or None, and the frame's width and height."""
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

    def _object(self, record: Any, place: str) -> tuple[npt.NDArray[np.float64], int, list[bool]] | None:
        """Returns box (4,) x1 y1 x2 y2, label and predicates (R,) of an object; None if it is hidden or too small."""
        known = self._vocabulary.object_index
        if not _field(record, "visible", place):
            return None
        label = _field(record, "class", place)
        if not isinstance(label, str) or label not in known:
            raise DataError(f"{place}: {unknown_name('object class', label, known)}")
        if label in self._vocabulary.subjects:
            raise DataError(f"{place} is a {label}: a subject is annotated in {PERSON_FILE} only")
        place = f"{place} ({label})"
        box = _numbers(_field(record, "bbox", place), f"{place}: bbox")
        if box.shape != (4,):
            raise DataError(f"{place}: bbox has shape {box.shape}, expected x, y, width, height")
        if box[2:].min() < self._smallest_edge:
            return None
        held: list[bool] = []
        for group in self._vocabulary.groups:
            of_group = _multi_hot(record, group, place)
            if group.exclusive and sum(of_group) != 1:
                raise DataError(f"{place}: {group.name}_relationship must hold exactly one predicate")
            held += of_group
        return np.concatenate([box[:2], box[:2] + box[2:]]), known[label], held


def parse_key(key: str, path: Path) -> tuple[str, int]:
    """Returns video and frame number of a key of the annotation file `path`. Raises DataError where it is no key."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise DataError(f"{path}: {key!r} is not a key of the form <video>/<digits>.png; restore the file")
    return match["video"], int(match["number"])


def load_records(path: Path) -> dict[str, Any]:
    """Loads the dict of frames of an annotation pickle.

    Raises DataError where the file is missing or holds something else.
    """
    if not path.exists():
        raise DataError(f"{path} cannot be read: No such file; copy it here from Action Genome's annotations")
    records = load_pickle(path)
    if not isinstance(records, dict) or not records or not all(isinstance(key, str) for key in records):
        raise DataError(f"{path} holds a {type(records).__name__}, not a dict of frames; copy the right file here")
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


def _multi_hot(record: Any, group: PredicateGroup, place: str) -> list[bool]:
    """Returns for each of the group's predicates, in their order, whether the record lists it."""
    names = _field(record, f"{group.name}_relationship", place)
    if not isinstance(names, list | tuple):
        raise DataError(f"{place}: {group.name}_relationship is {names!r}, expected a list of predicates")
    for name in names:
        if name not in group.predicates:
            raise DataError(f"{place}: {unknown_name(f'{group.name} predicate', name, group.predicates)}")
    return [predicate in names for predicate in group.predicates]
