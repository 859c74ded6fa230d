"""Graphs of this project that people have corrected in an annotation tool, Label Studio or CVAT.

`vsg archive export` has written them for the tool, with the model's triplets beside each picture. Of a pair, the set
says what holds now. What the model had proposed and is gone is false; a predicate that nobody named is unknown.
Pictures of Label Studio that nobody has looked at are left out; CVAT does not tell which these are.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.graph.vocabulary import ACTION_GENOME
from training.data.relations.boxes import Scene, has_area
from training.data.relations.record import Box, Record
from training.errors import DataError

_PICTURE = re.compile(r"(?:.*/)?(?P<video>[^/]+)/(?P<time>\d+(?:\.\d+)?)\.[a-z]+", re.IGNORECASE)
_PERSON = "person"
_TURNED = frozenset(
    name for group in ACTION_GENOME.groups if group.direction == "object_to_subject" for name in group.predicates
)
_NO_MERGE = 1.1
"""An IoU that no boxes have: every box of a picture is a thing of its own."""

Triplet = tuple[str, str, str]
"""Subject, predicate, object; the two ends by the name of their box."""


@dataclass(frozen=True)
class _Picture:
    """A picture as it is corrected.

    boxes: by name, with their label.
    holds: the triplets of it.
    proposed: those that the model had.
    """

    video: str
    time: float
    width: float | None
    height: float | None
    boxes: Mapping[str, tuple[str, Box]]
    holds: frozenset[Triplet]
    proposed: frozenset[Triplet]


def read_label_studio(files: Sequence[Path]) -> Iterator[Record]:
    """Records of exports in the format JSON of Label Studio. Raises DataError where one is none of this project's."""
    for path in files:
        yield from _records(_studio_picture(path, task) for task in _annotated(path))


def read_cvat(files: Sequence[Path]) -> Iterator[Record]:
    """Records of exports in the format `CVAT for images 1.1`, unpacked. Raises DataError where one is no such file."""
    for path in files:
        try:
            root = ET.parse(path).getroot()
        except ET.ParseError as error:
            raise DataError(
                f"{path} is no XML ({error}): unpack the export of CVAT, and name its annotations.xml"
            ) from error
        if root.tag != "annotations":
            raise DataError(f"{path} has no annotations: export the task as `CVAT for images 1.1`")
        yield from _records(_cvat_picture(path, image) for image in root.iter("image"))


def _records(pictures: Iterable[_Picture]) -> Iterator[Record]:
    """Records of pictures, those of a video together, in order of time."""
    for picture in sorted(pictures, key=lambda picture: (picture.video, picture.time)):
        scene = Scene(same=_NO_MERGE)
        indices = {name: scene.find(box, label) for name, (label, box) in picture.boxes.items() if has_area(box)}
        for triplets, is_held in ((picture.holds, True), (picture.proposed - picture.holds, False)):
            for triplet in sorted(triplets):
                subject, predicate, thing = _turned(triplet, picture.boxes)
                if subject in indices and thing in indices:
                    held = (predicate,) if is_held else ()
                    scene.add(indices[subject], indices[thing], held, (predicate,), True if is_held else None)
        if scene.boxes:
            yield scene.record(
                source="corrected",
                video=picture.video,
                time=picture.time,
                width=picture.width,
                height=picture.height,
            )


def _turned(triplet: Triplet, boxes: Mapping[str, tuple[str, Box]]) -> Triplet:
    """The triplet of the pair that it tells of, whose subject is the person: graphs say `cup in_front_of person`."""
    subject, predicate, thing = triplet
    labels = [boxes[name][0] if name in boxes else "" for name in (subject, thing)]
    is_turned = labels[1] == _PERSON if labels.count(_PERSON) == 1 else predicate in _TURNED
    return (thing, predicate, subject) if is_turned else triplet


def _annotated(path: Path) -> list[dict[str, Any]]:
    """The tasks of a file that somebody has annotated."""
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}): export the project of Label Studio as JSON") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise DataError(f"{path} is no list of tasks: export the project of Label Studio as JSON, not as JSON-MIN")
    return [task for task in tasks if _annotation_of(task) is not None]


def _annotation_of(task: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last annotation of a task that was not skipped."""
    annotations = [each for each in task.get("annotations", ()) if not each.get("was_cancelled")]
    last: dict[str, Any] | None = annotations[-1] if annotations else None
    return last


def _studio_picture(path: Path, task: Mapping[str, Any]) -> _Picture:
    annotation = _annotation_of(task)
    assert annotation is not None
    try:
        video, time = str(task["data"]["video"]), float(task["data"]["time"])
        proposed = frozenset((str(one), str(name), str(other)) for one, name, other in task["data"]["proposed"])
        regions = [part for part in annotation["result"] if part["type"] == "rectanglelabels"]
        boxes = {part["id"]: (part["value"]["rectanglelabels"][0], _studio_box(part)) for part in regions}
        holds = {
            triplet for part in annotation["result"] if part["type"] == "relation" for triplet in _studio_triplets(part)
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}, task {task.get('id', '?')}: it lacks {error}: give an export of tasks that `vsg archive export "
            "label-studio` has written"
        ) from error
    width, height = (regions[0].get(f"original_{side}") for side in ("width", "height")) if regions else (None, None)
    return _Picture(video, time, width, height, boxes, frozenset(holds), proposed)


def _studio_box(region: Mapping[str, Any]) -> Box:
    value, width, height = region["value"], region["original_width"] / 100, region["original_height"] / 100
    x1, y1 = value["x"] * width, value["y"] * height
    corners = (x1, y1, x1 + value["width"] * width, y1 + value["height"] * height)
    left, top, right, bottom = (round(corner, 1) for corner in corners)
    return left, top, right, bottom


def _studio_triplets(link: Mapping[str, Any]) -> Iterator[Triplet]:
    one, other, direction = link["from_id"], link["to_id"], link.get("direction", "right")
    for name in link.get("labels", ()):
        if direction in ("right", "bi"):
            yield one, name, other
        if direction in ("left", "bi"):
            yield other, name, one


def _cvat_picture(path: Path, image: ET.Element) -> _Picture:
    name = image.get("name", "")
    found = _PICTURE.fullmatch(name)
    if found is None:
        raise DataError(f"{path}: a picture is named {name!r}: keep the names that `vsg archive export cvat` gives")
    boxes: dict[str, tuple[str, Box]] = {}
    texts: list[tuple[str, str, str]] = []
    for index, box in enumerate(image.iter("box")):
        attributes = {each.get("name"): (each.text or "").strip() for each in box.iter("attribute")}
        # A box that was drawn in the tool may have no number; nothing can name it then.
        number = attributes.get("number") or f"box {index}"
        left, top, right, bottom = (float(box.get(side, "nan")) for side in ("xtl", "ytl", "xbr", "ybr"))
        boxes[number] = (box.get("label", ""), (left, top, right, bottom))
        texts.append((number, attributes.get("relations", ""), attributes.get("proposed", "")))
    holds, proposed = (
        frozenset(
            triplet
            for number, *both in texts
            for triplet in _cvat_triplets(f"{path}, {name}", number, both[kind], boxes if kind == 0 else None)
        )
        for kind in (0, 1)
    )
    size = [float(image.get(side, 0)) or None for side in ("width", "height")]
    return _Picture(found["video"], float(found["time"]), size[0], size[1], boxes, holds, proposed)


def _cvat_triplets(place: str, number: str, text: str, boxes: Mapping[str, Any] | None) -> Iterator[Triplet]:
    """The triplets of a box's text, such as `holding 3; looking_at 3`. Raises DataError, which names the picture.

    boxes: those that a text may name; None where it does not matter.
    """
    for part in filter(None, (part.strip() for part in text.split(";"))):
        predicate, _, other = part.rpartition(" ")
        if not predicate or (boxes is not None and other not in boxes):
            known = "" if boxes is None else f": give a predicate and the number of one of the boxes {', '.join(boxes)}"
            raise DataError(f"{place}: box {number} has the relation {part!r}{known}")
        yield number, predicate.strip(), other
