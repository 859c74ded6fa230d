"""Finds everything that is wrong with a data folder, where the loader stops at the first thing."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from training.data.action_genome import (
    FILTERED_OBJECT_FILE,
    MINIMUM_FRAMES,
    OBJECT_FILE,
    PERSON_FILE,
    AnnotatedFrame,
    Annotations,
    LeftOut,
    SmallObjects,
    Split,
    class_file_problems,
    frame_problems,
    load_records,
    read_vocabulary,
)
from training.errors import DataError

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


@dataclass
class SplitCounts:
    """Counts of a split as the loader gives it, with small objects kept.

    predicates: number of objects of which each predicate holds, in the order of the vocabulary.
    short_videos: number of videos that have frames left, but fewer than three.
    """

    videos: int = 0
    frames: int = 0
    objects: int = 0
    predicates: dict[str, int] = field(default_factory=dict)
    frames_without_object: int = 0
    frames_without_person: int = 0
    short_videos: int = 0


@dataclass
class Report:
    """Problems, warnings and counts of a data folder.

    problems: mistakes that stop the loader or falsify what it gives.
    warnings: oddities that even published data may hold.
    """

    root: Path
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    splits: dict[Split, SplitCounts] = field(default_factory=lambda: {"train": SplitCounts(), "test": SplitCounts()})

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Returns `{"root", "ok", "problems": [str], "warnings": [str], "splits": {"train": {"videos": …}, …}}`."""
        return {**asdict(self), "root": str(self.root), "ok": self.ok}


def check_data(root: Path) -> Report:
    """Reads everything that the loader would read of a data folder, and the header of every frame it would use."""
    report = Report(root)
    vocabulary = ACTION_GENOME
    try:
        vocabulary = read_vocabulary(root)
    except DataError as error:
        report.problems.append(str(error))
    for counts in report.splits.values():
        counts.predicates = dict.fromkeys(vocabulary.predicates, 0)
    report.problems += class_file_problems(root, vocabulary)
    videos: dict[Split, dict[str, list[AnnotatedFrame]]] = {split: {} for split in report.splits}
    for split, frame in _frames(report, vocabulary, "keep"):
        if isinstance(frame, AnnotatedFrame):
            videos[split].setdefault(frame.path.parent.name, []).append(frame)
        elif frame == "no object":
            report.splits[split].frames_without_object += 1
        else:
            report.splits[split].frames_without_person += 1
    if (root / "annotations" / FILTERED_OBJECT_FILE).exists():
        for _ in _frames(report, vocabulary, "drop"):
            pass
    for split, counts in report.splits.items():
        for frames in videos[split].values():
            _check_video(report, vocabulary, counts, frames)
        if not counts.videos:
            report.warnings.append(f"{root} has no video of the split {split!r} with {MINIMUM_FRAMES} usable frames")
    for name in videos["train"].keys() & videos["test"].keys():
        report.warnings.append(f"video {name!r} has frames in both splits: figures of the test split will be too high")
    # The file of persons is read again together with the filtered objects.
    report.problems = list(dict.fromkeys(report.problems))
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def _frames(
    report: Report, vocabulary: Vocabulary, small_objects: SmallObjects
) -> Iterator[tuple[Split, AnnotatedFrame | LeftOut]]:
    """Yields every well-formed record; adds a problem to the report for each malformed one."""
    try:
        annotations = Annotations(report.root, vocabulary, small_objects=small_objects)
    except DataError:
        # The reader stops at the first bad file; there may be more.
        object_file = OBJECT_FILE if small_objects == "keep" else FILTERED_OBJECT_FILE
        report.problems += _file_problems(report.root / "annotations" / name for name in (PERSON_FILE, object_file))
        return
    if unused := annotations.without_person_record():
        report.warnings.append(
            f"{len(unused)} frames have objects but no entry among the persons and are not used, first {unused[0]!r}"
        )
    for key in annotations:
        try:
            split = annotations.split_of(key)
            if split is not None:
                yield split, annotations.frame(key)
        except DataError as error:
            report.problems.append(str(error))


def _file_problems(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            load_records(path)
        except DataError as error:
            yield str(error)


def _check_video(report: Report, vocabulary: Vocabulary, counts: SplitCounts, frames: list[AnnotatedFrame]) -> None:
    if len(frames) < MINIMUM_FRAMES:
        counts.short_videos += 1
        return
    counts.videos += 1
    counts.frames += len(frames)
    report.problems += frame_problems(frames)
    open_groups = {
        group.name: vocabulary.group_slices[group.name] for group in vocabulary.groups if not group.exclusive
    }
    for frame in frames:
        counts.objects += len(frame.labels)
        for predicate, count in zip(vocabulary.predicates, frame.predicates.sum(axis=0), strict=True):
            counts.predicates[predicate] += int(count)
        if problem := _image_problem(frame):
            report.problems.append(problem)
        if (frame.boxes[:, 2:] <= frame.boxes[:, :2]).any():
            report.warnings.append(f"{frame.path}: an object's box has no area")
        if not all(frame.predicates[:, columns].any(axis=1).all() for columns in open_groups.values()):
            report.warnings.append(f"{frame.path}: an object lacks a {' or a '.join(open_groups)} predicate")


def _image_problem(frame: AnnotatedFrame) -> str | None:
    """Returns what is wrong where the header is not that of a PNG of the annotated size.

    A missing file is not looked at here.
    """
    try:
        with frame.path.open("rb") as file:
            header = file.read(24)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{frame.path} cannot be read: {error.strerror}"
    if len(header) < 24 or not header.startswith(_PNG_SIGNATURE):
        return f"{frame.path} is not a PNG: delete it and dump the frames again with `vsg data frames ROOT`"
    size = struct.unpack(">II", header[16:24])
    if size != frame.size:
        return (
            f"{frame.path} has {size[0]}x{size[1]} pixels, its boxes are annotated on {frame.size[0]}x{frame.size[1]}: "
            "dump the frames from the videos that were annotated (Charades at 480p)"
        )
    return None
