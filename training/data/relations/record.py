"""A picture, or a moment of a video, with its boxes and with what is known of its pairs: one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, ValidationError, model_validator

from training.errors import DataError

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Part):
    """An annotated pair. Indices name boxes of the record.

    predicates: those that hold.
    asked: those that the data set says something of, for this pair. Of these, what is not among `predicates` is false;
        every other predicate is unknown.
    related: whether the pair has anything to do with each other; None where the set does not tell.
    """

    subject: NonNegativeInt
    object: NonNegativeInt
    predicates: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    related: bool | None = None

    @model_validator(mode="after")
    def _what_holds_was_asked(self) -> Self:
        if self.subject == self.object:
            raise ValueError(f"box {self.subject} is paired with itself")
        if unasked := set(self.predicates) - set(self.asked):
            raise ValueError(f"predicates has {min(unasked)!r}, which asked lacks")
        return self


class Record(_Part):
    """One picture or moment.

    source: the data set, which is also a labelling habit.
    image: name of the photograph; None for a moment of a video.
    video: name of the video, None for a photograph. The records of a video stand together, in order of `time`.
    time: seconds from the video's beginning.
    width: of the picture in pixels; None where the set does not say, like `height`.
    boxes: corner boxes x1 y1 x2 y2 in pixels, or in any unit that is the same along both axes.
    labels: a name for each box.
    pairs: those that are annotated. Nothing is known of any other.
    """

    source: str
    image: str | None = None
    video: str | None = None
    time: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    width: PositiveFloat | None = None
    height: PositiveFloat | None = None
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(self.boxes) != len(self.labels):
            raise ValueError(f"there are {len(self.boxes)} boxes and {len(self.labels)} labels")
        for index, (left, top, right, bottom) in enumerate(self.boxes):
            if right <= left or bottom <= top:
                raise ValueError(f"box {index} is {[left, top, right, bottom]}, which has no area")
        named = [(pair.subject, pair.object) for pair in self.pairs]
        if named and max(map(max, named)) >= len(self.boxes):
            raise ValueError(f"a pair names box {max(map(max, named))}, and there are {len(self.boxes)}")
        if len(set(named)) < len(named):
            raise ValueError("two pairs have the same boxes; join their predicates")
        if (self.video is None) != (self.time is None):
            raise ValueError("video and time go together; give both or neither")
        return self


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, in its order.

    Raises DataError, naming the line, where one is not a record or where a video's times do not ascend.
    """
    last: tuple[str, str, float] | None = None
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = Record.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "the line"
                raise DataError(f"{path}, line {number}: {place}: {first['msg']}") from error
            if record.video is not None and record.time is not None:
                now = (record.source, record.video, record.time)
                if last is not None and now[:2] == last[:2] and now[2] <= last[2]:
                    raise DataError(
                        f"{path}, line {number}: {record.video} goes from {last[2]} s to {record.time} s; "
                        "sort its lines by time"
                    )
                last = now
            yield record


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Writes records to a file, whole or not at all, and returns how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    count = 0
    with temporary.open("w", encoding="utf-8") as lines:
        for record in records:
            count += 1
            lines.write(json.dumps(record.model_dump(), ensure_ascii=False, separators=(",", ":")) + "\n")
    temporary.replace(path)
    return count
