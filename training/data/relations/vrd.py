"""Stanford's Visual Relationship Detection: photographs with 100 classes, 70 predicates and pairs of any two things.

JSON lines `{image, boxes, classes, rels: [[subject, object, [predicates]]]}`. Its spatial predicates are said of the
subject; Action Genome says them of the thing to the person, so the subject of a spatial relation becomes the object of
its pair here, or the predicate its inverse where the subject is a person. Both say `in` of the subject: somebody is in
a shirt, a bed, a bus.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.relations.boxes import Scene, has_area
from training.data.relations.record import Record
from training.data.relations.words import INVERSE, SPATIAL, object_name, plain, ridden, worn
from training.errors import DataError

_SPATIAL: dict[str, str] = {
    **dict.fromkeys(("above", "over", "on the top of"), "above"),
    **dict.fromkeys(("under", "below", "beneath"), "beneath"),
    **dict.fromkeys(("behind", "stand behind", "sit behind"), "behind"),
    **dict.fromkeys(
        ("next to", "near", "on the left of", "on the right of", "beside", "adjacent to"), "on_the_side_of"
    ),
    **dict.fromkeys(("stand next to", "sit next to"), "on_the_side_of"),
    **dict.fromkeys(("in", "inside"), "in"),
    "in the front of": "in_front_of",
}
_CONTACTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lying on", "sleep on"), ("lying_on",)),
    "hold": ("holding",),
    "carry": ("carrying",),
    "sit on": ("sitting_on",),
    "stand on": ("standing_on",),
    "eat": ("eating",),
}
_ASKED = ("carrying", "eating", "holding", "lying_on", "sitting_on", "standing_on", "wearing")
"""Contacts that annotators name wherever they see one. The others are rarely named, so their absence says nothing, and
a predicate that is only ever true teaches that it always is."""


def read_vrd(files: Sequence[Path]) -> Iterator[Record]:
    """Records of files of JSON lines. Raises DataError, naming the line, where one is no picture of VRD."""
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    picture = json.loads(line)
                    record = _record(picture["image"], picture["boxes"], picture["classes"], picture["rels"])
                except (KeyError, IndexError, TypeError, ValueError) as error:
                    raise DataError(f"{path}, line {number}: not a picture of VRD: {error!r}") from error
                if record is not None:
                    yield record


def _record(
    image: str, boxes: list[list[float]], classes: list[str], relations: list[tuple[int, int, list[str]]]
) -> Record | None:
    names = [plain(name) for name in classes]
    scene = Scene()
    places = {
        index: scene.find(box, object_name(name))
        for index, (box, name) in enumerate(zip(boxes, names, strict=True))
        if has_area(box)
    }
    for first, second, words in relations:
        if first not in places or second not in places:
            continue
        for word in words:
            _add(scene, places[first], places[second], word, names[first], names[second])
    return scene.record(source="vrd", image=image) if scene.boxes else None


def _add(scene: Scene, first: int, second: int, word: str, first_name: str, second_name: str) -> None:
    """One relation `<first, word, second>`."""
    if word in _SPATIAL:
        said = _SPATIAL[word]
        if said == "in":
            scene.add(first, second, (said,), SPATIAL, related=True)
        elif first_name != "person":
            scene.add(second, first, (said,), SPATIAL, related=True)
        else:
            scene.add(first, second, (INVERSE[said],), SPATIAL, related=True)
        return
    if first_name != "person":
        return
    holds = {"wear": worn, "ride": ridden}[word](second_name) if word in ("wear", "ride") else _CONTACTS.get(word, ())
    if holds:
        scene.add(first, second, holds, _ASKED, related=True)
