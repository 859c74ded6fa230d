"""HICO-DET: photographs of people with things of COCO's 80 classes, and 117 verbs.

Three files hold it: fredzzhang/hicodet's `instances_*.json`, HAKE's instance-level file beside `hico_hoi_list.txt`, and
JSON lines `{image, w, h, pairs: [[person, thing, class, [verbs], …]]}`. Annotators chose among the verbs that the set
lists for a class, so a class says nothing of a predicate that none of its verbs means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.relations.boxes import Scene, has_area
from training.data.relations.record import Record
from training.data.relations.words import object_name, plain, ridden, without_doubt, worn
from training.errors import DataError

IDLE = "no_interaction"
_REDRAWN = 0.5
"""IoU from which on two boxes of a class are one thing, as in the set's own evaluation.

Annotators drew a box anew for many verbs. Left apart, the copies of a pair contradict each other: one is held, the
other is not. V-COCO, whose boxes are drawn once, has a twentieth as many boxes of a class that overlap so much.
"""
_VERBS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("touch", "push", "pull", "move", "operate", "adjust", "open", "assemble"), ("touching",)),
    **dict.fromkeys(("cut", "control", "make", "repair", "pack", "scratch", "set", "zip", "tie"), ("touching",)),
    **dict.fromkeys(("hold", "pick_up", "lift", "wield", "pour", "cut_with", "brush_with", "drag"), ("holding",)),
    **dict.fromkeys(("hug", "squeeze", "peel", "stir", "flip", "toast", "serve", "talk_on"), ("holding",)),
    **dict.fromkeys(("text_on", "read"), ("holding", "looking_at")),
    **dict.fromkeys(("watch", "inspect"), ("looking_at",)),
    **dict.fromkeys(("wash", "clean", "dry"), ("wiping",)),
    **dict.fromkeys(("lick", "blow", "smell", "cook"), ("other_relationship",)),
    **dict.fromkeys(("drink_with", "sip"), ("drinking_from",)),
    "type_on": ("touching", "looking_at"),
    "carry": ("carrying",),
    "eat": ("eating",),
    "lie_on": ("lying_on",),
    "sit_on": ("sitting_on",),
    "straddle": ("sitting_on",),
    "stand_on": ("standing_on",),
    "sign": ("writing_on",),
    IDLE: ("not_contacting",),
}


@dataclass(frozen=True)
class _Instance:
    person: Sequence[float]
    thing: Sequence[float]
    label: str
    verbs: Sequence[str]


@dataclass(frozen=True)
class _Picture:
    image: str
    width: float | None
    height: float | None
    instances: list[_Instance]


def read_hico_det(files: Sequence[Path]) -> Iterator[Record]:
    """Records of an annotation file; HAKE's needs `hico_hoi_list.txt` as a second one.

    Raises DataError where a file is none of the three.
    """
    pictures = list(_pictures(files))
    verbs_of: dict[str, set[str]] = {}
    for picture in pictures:
        for instance in picture.instances:
            verbs_of.setdefault(instance.label, set()).update(instance.verbs)
    asked_of = {
        label: {predicate for verb in verbs for predicate in predicates_of(verb, label)}
        for label, verbs in verbs_of.items()
    }
    for picture in pictures:
        scene = Scene(same=_REDRAWN)
        for instance in picture.instances:
            if not has_area(instance.person) or not has_area(instance.thing):
                continue
            holds = [word for verb in instance.verbs for word in predicates_of(verb, instance.label)]
            person, thing = (
                scene.find(instance.person, "person"),
                scene.find(instance.thing, object_name(instance.label)),
            )
            asked = without_doubt(asked_of[instance.label], holds)
            scene.add(person, thing, holds, asked, related=set(instance.verbs) != {IDLE})
        if scene.boxes:
            yield scene.record(source="hico_det", image=picture.image, width=picture.width, height=picture.height)


def predicates_of(verb: str, label: str) -> tuple[str, ...]:
    """Returns the predicates that a verb means for a class of thing; empty where it means none."""
    if verb == "ride":
        return ridden(label)
    if verb == "wear":
        return worn(label)
    return _VERBS.get(verb, ())


def _pictures(files: Sequence[Path]) -> Iterator[_Picture]:
    first, *others = files
    if first.suffix == ".jsonl":
        yield from _lines(first)
        return
    try:
        content = json.loads(first.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{first} is no JSON: {error}") from error
    if isinstance(content, dict) and {"annotation", "filenames", "objects", "verbs"} <= content.keys():
        yield from _fredzzhang(content)
    elif isinstance(content, dict) and all("labels" in picture for picture in content.values()):
        if not others:
            raise DataError(f"{first} numbers its interactions; give HAKE's hico_hoi_list.txt after it")
        yield from _hake(content, _interactions(others[0]))
    else:
        raise DataError(f"{first} is no annotation file of HICO-DET that is known: hicodet's, HAKE's or JSON lines")


def _lines(path: Path) -> Iterator[_Picture]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                picture = json.loads(line)
                instances = [_Instance(person, thing, plain(label), verbs) for person, thing, label, verbs, *_ in
                             picture["pairs"]]  # fmt: skip
                yield _Picture(picture["image"], picture["w"], picture["h"], instances)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}, line {number}: not a picture of HICO-DET: {error!r}") from error


def _fredzzhang(content: dict[str, Any]) -> Iterator[_Picture]:
    """One instance for every person, thing and verb; the boxes of one person differ from verb to verb."""
    objects, verbs = content["objects"], content["verbs"]
    for name, size, annotation in zip(content["filenames"], content["size"], content["annotation"], strict=True):
        instances = [
            _Instance(person, thing, plain(objects[label]), [verbs[verb]])
            for person, thing, label, verb in zip(
                annotation["boxes_h"], annotation["boxes_o"], annotation["object"], annotation["verb"], strict=True
            )
        ]
        yield _Picture(name, size[0], size[1], instances)


def _hake(content: dict[str, Any], interactions: list[tuple[str, str]]) -> Iterator[_Picture]:
    for name, picture in content.items():
        labels = picture["labels"]
        instances = [
            _Instance(each["human_bbox"], each["object_bbox"], label, [verb])
            for each in labels
            for label, verb in [interactions[each["hoi_id"] - 1]]
        ]
        if labels:
            yield _Picture(name, labels[0]["width"], labels[0]["height"], instances)


def _interactions(path: Path) -> list[tuple[str, str]]:
    """Class and verb of the 600 interactions, numbered from 1, of a list with `number class verb` on a line."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(plain(row[1]), row[2]) for row in rows if len(row) == 3 and row[0].isdecimal()]
    if not found:
        raise DataError(f"{path} lists no interactions; it must have lines such as `1 airplane board`")
    return found
