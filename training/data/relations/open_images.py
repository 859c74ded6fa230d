"""Open Images' relationships of 2019: photographs with rows of two boxes and a word.

Boxes are fractions of a picture whose size the set does not say. They are scaled to 4:3, as most of the pictures are,
so that they have one unit along both axes. The table of classes (`challenge-2019-classes-vrd.csv`) is needed beside the
annotations. Which classes a word was asked of is read from the annotations themselves.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.relations.boxes import Scene, has_area
from training.data.relations.record import Record
from training.data.relations.words import SPATIAL, object_name, plain, ridden, worn
from training.errors import DataError

_ATTRIBUTE = "is"
_CORNERS = {"XMin": 1024.0, "YMin": 768.0, "XMax": 1024.0, "YMax": 768.0}


def read_open_images(files: Sequence[Path]) -> Iterator[Record]:
    """Records of a file of annotations and the table of classes, in either order.

    Raises DataError where one of them is missing.
    """
    rows, names = _tables(files)
    asked_of: dict[str, set[str]] = {}
    for row in rows:
        if row["RelationshipLabel"] != _ATTRIBUTE:
            thing = names.get(row["LabelName2"], row["LabelName2"])
            asked_of.setdefault(thing, set()).update(predicates_of(row["RelationshipLabel"], thing))
    scenes: dict[str, Scene] = {}
    for row in rows:
        if row["RelationshipLabel"] == _ATTRIBUTE:
            continue
        first, second = (names.get(row[f"LabelName{which}"], row[f"LabelName{which}"]) for which in (1, 2))
        boxes = [[float(row[f"{corner}{which}"]) * scale for corner, scale in _CORNERS.items()] for which in (1, 2)]
        if not all(map(has_area, boxes)):
            continue
        scene = scenes.setdefault(row["ImageID"], Scene())
        subject, other = scene.find(boxes[0], object_name(first)), scene.find(boxes[1], object_name(second))
        if scene.labels[subject] != "person":
            if row["RelationshipLabel"] == "under":
                scene.add(other, subject, ("beneath",), SPATIAL, related=True)
            continue
        holds = predicates_of(row["RelationshipLabel"], second)
        scene.add(subject, other, holds, tuple(asked_of[second]), related=True)
    for image, scene in scenes.items():
        yield scene.record(source="open_images", image=image)


def predicates_of(word: str, label: str) -> tuple[str, ...]:
    """Returns the predicates that a person's relationship means for a class of thing; empty where it means none."""
    match word:
        case "holds":
            return ("holding",)
        case "wears":
            return worn(label)
        case "inside_of":
            return ("in",)
        case "on":
            return ridden(label) or (("sitting_on",) if object_name(label) in ("chair", "sofa/couch") else ())
        case _:
            return ()


def _tables(files: Sequence[Path]) -> tuple[list[dict[str, str]], dict[str, str]]:
    rows: list[dict[str, str]] = []
    names: dict[str, str] = {}
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader([file.readline()]), [])
            if "RelationshipLabel" in header:
                rows += list(csv.DictReader(file, fieldnames=header))
            elif len(header) == 2:
                names |= {code: plain(name) for code, name in [header, *csv.reader(file)]}
            else:
                raise DataError(f"{path} is neither Open Images' relationships nor its table of classes")
    if not rows or not names:
        lacking = "the annotations (…-vrd.csv with RelationshipLabel)" if not rows else "the table of classes"
        raise DataError(f"Open Images needs both files; {lacking} is missing")
    return rows, names
