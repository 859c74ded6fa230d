"""CAD-120: videos at 30 frames a second of a person who handles a thing in a room.

JSON lines, one a video and thing, whose segments say what can be done with the thing (its affordance) and hold both
boxes of every frame. The persons' boxes are projected from joints, and rough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.relations.boxes import has_area
from training.data.relations.record import Box, Pair, Record
from training.data.relations.words import object_name
from training.errors import DataError

STRIDE = 5
"""Frames from one record to the next: six a second, so that half a second is three records."""
_ASKED = ("holding", "not_contacting", "touching", "wiping")
_AFFORDANCES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("movable", "placeable"), ("holding",)),
    **dict.fromkeys(("reachable", "stationary"), ("not_contacting",)),
    **dict.fromkeys(("openable", "closeable"), ("touching",)),
    "cleanable": ("touching", "wiping"),
}


def read_cad120(files: Sequence[Path]) -> Iterator[Record]:
    """Records of files of JSON lines. Raises DataError, naming the line, where one is no video of CAD-120."""
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield from _records(json.loads(line))
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(f"{path}, line {number}: not a video of CAD-120: {error!r}") from error


def _records(video: dict[str, object]) -> Iterator[Record]:
    name = f"{video['subject']}/{video['activity']}/{video['video']}"
    thing_name = object_name(str(video["object"]))
    last = -STRIDE
    for segment in video["segments"]:  # type: ignore[attr-defined]
        holds = _AFFORDANCES.get(segment["object_affordance"])
        boxes = segment["person_px_est"], segment["object_px"]  # the thing's track may end before the segment does
        for offset, (person, thing) in enumerate(zip(*boxes, strict=False)):
            frame = segment["start"] + offset
            if frame < last + STRIDE or not person or not thing or not (has_area(person) and has_area(thing)):
                continue
            last = frame
            pair = Pair(
                subject=0,
                object=1,
                predicates=holds or (),
                asked=() if holds is None else _ASKED,
                related=None if holds is None else holds != ("not_contacting",),
            )
            corners: tuple[Box, Box] = (tuple(map(float, person)), tuple(map(float, thing)))  # type: ignore[assignment]
            yield Record(
                source="cad120", video=name, time=frame / float(video["fps"]),  # type: ignore[arg-type]
                width=video["w"], height=video["h"], boxes=corners, labels=("person", thing_name), pairs=(pair,),
            )  # fmt: skip
