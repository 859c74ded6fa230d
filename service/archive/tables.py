"""The tables of an archive: their typed columns, and the rows of one graph.

Four tables, each a folder of Parquet files. `video` is the key of a video in all of them. Rows are sorted by video,
and then by time. Times are seconds from the first frame of the video; intervals are half open: [start, end).

videos: one row a video, also of one that could not be read.
objects: one row an object of a video.
relations: one row a relation of a video.
frames: one row a sampled frame, with its boxes and triplets; only where they were asked for.

Columns that all tables share:
    video: key of the video, 12 letters and digits; see `video_key`.
    owner: who posted the video; "" where nobody did.
    interval: seconds between two sampled frames of the video, the median; 0 where it has no graph.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from models.graph.scene_graph import Frame, GraphHead, Options, SceneObject
from models.graph.vocabulary import Vocabulary
from service.archive.folder import TableName
from service.graph import GraphReader
from service.graph.video_graph import SCORE_DECIMALS, sampling_interval
from service.video.timing import TIME_DECIMALS

Rows = Mapping[TableName, pa.Table]
"""The rows of one video or of many, by table. `frames` is missing where they are not kept."""

_VOCABULARY = TypeAdapter(Vocabulary)
_WORD = pa.dictionary(pa.int32(), pa.string())
_SHARED = [("video", pa.string()), ("owner", _WORD), ("interval", pa.float64())]

VIDEOS: Final = pa.schema(
    [
        *_SHARED,
        ("graph_id", pa.string()),
        ("path", pa.string()),
        ("etag", pa.string()),
        ("sha256", pa.string()),
        ("model", _WORD),
        ("model_version", _WORD),
        ("model_sha256", _WORD),
        ("engine", _WORD),
        ("precision", _WORD),
        ("options", _WORD),
        ("vocabulary", _WORD),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("duration", pa.float64()),
        ("frame_rate", pa.float64()),
        ("codec", _WORD),
        ("start", pa.float64()),
        ("frames", pa.int32()),
        ("made", pa.timestamp("ms", tz="UTC")),
        ("warnings", pa.list_(pa.struct([("code", pa.string()), ("detail", pa.string())]))),
        ("problem", _WORD),
        ("problem_detail", pa.string()),
    ]
)
"""Columns of videos/.

graph_id: id of the graph, as in its JSON and in `GET /videos/{id}`; null where there is no graph.
path: where the video lies, as the source of the batch spelled it; null for a video that was posted.
etag: of the file when it was read: it changes with the content; null for a video that was posted.
model_sha256: of the manifest of the model's bundle.
options: as applied, in JSON.
vocabulary: of the model, in JSON.
start: time of a player, in seconds, at which it shows the first frame.
frames: number of sampled frames.
made: when the row was made.
problem: code of the error where the video has no graph, else null. `problem_detail` says it in words.
"""

OBJECTS: Final = pa.schema(
    [
        *_SHARED,
        ("id", pa.int32()),
        ("label", _WORD),
        ("first", pa.float64()),
        ("last", pa.float64()),
        ("score", pa.float64()),
        ("frames", pa.int32()),
    ]
)
"""Columns of objects/.

id: of the object within its video.
first, last: interval from its first frame to one sampling interval after its last, but not beyond the video's end.
score: mean over its frames.
frames: number of sampled frames that show it.
"""

RELATIONS: Final = pa.schema(
    [
        *_SHARED,
        ("subject", pa.int32()),
        ("subject_label", _WORD),
        ("predicate", _WORD),
        ("object", pa.int32()),
        ("object_label", _WORD),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("score", pa.float64()),
        ("relation_score", pa.float64()),
    ]
)
"""Columns of relations/. `subject` and `object` are ids of objects; scores are those of the graph's relation."""

_OBJECT = pa.struct(
    [("id", pa.int32()), ("label", pa.string()), ("score", pa.float64()), ("box", pa.list_(pa.float64(), 4))]
)
_TRIPLET = pa.struct(
    [
        ("subject", pa.int32()),
        ("predicate", pa.string()),
        ("object", pa.int32()),
        ("group", pa.string()),
        ("predicate_score", pa.float64()),
        ("relation_score", pa.float64()),
        ("score", pa.float64()),
    ]
)
FRAMES: Final = pa.schema(
    [
        *_SHARED,
        ("index", pa.int32()),
        ("timestamp", pa.float64()),
        ("objects", pa.list_(_OBJECT)),
        ("triplets", pa.list_(_TRIPLET)),
    ]
)
"""Columns of frames/, as in the graph's JSON. Boxes are x1, y1, x2, y2 in pixels of the displayed video."""

TABLES: Final[Mapping[TableName, pa.Schema]] = {
    "videos": VIDEOS,
    "objects": OBJECTS,
    "relations": RELATIONS,
    "frames": FRAMES,
}
SORTED_BY: Final[Mapping[TableName, tuple[tuple[str, str], ...]]] = {
    "videos": (("video", "ascending"),),
    "objects": (("video", "ascending"), ("id", "ascending")),
    "relations": (("video", "ascending"), ("start", "ascending"), ("score", "descending")),
    "frames": (("video", "ascending"), ("index", "ascending")),
}
"""The order of the rows within a file."""


@dataclass(frozen=True)
class Source:
    """The place a graph comes from.

    video: key of the video.
    owner: who posted it; "" where nobody did.
    path, etag: of its file; None for a video that was posted.
    model_sha256: of the manifest of the model's bundle.
    """

    video: str
    owner: str = ""
    path: str | None = None
    etag: str | None = None
    model_sha256: str | None = None


def video_key(*parts: str) -> str:
    """A short key, 12 letters and digits (60 bits), for what makes a graph the same or not.

    `vsg batch` gives path, etag, options as applied and the model's sha256; the service the id of the job.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    # DuckDB keeps a text of 12 bytes within its row: joins are then as quick as those of numbers.
    return base64.b32encode(digest)[:12].decode().lower()


def options_json(options: Options) -> str:
    """The options of a graph as `videos.options` spells them."""
    return options.model_dump_json()


def graph_rows(graph: GraphReader, source: Source, *, with_frames: bool = False) -> Rows:
    """The rows of one graph, as `write_graph` has written it. Frames pass one by one, unless they are kept.

    with_frames: whether the table `frames` is filled too.

    Raises ValueError where the document is not one of `write_graph`.
    """
    timestamps: list[float] = []
    seen: dict[int, _Seen] = {}
    kept: list[dict[str, Any]] = []
    for line in graph.frames():
        frame = Frame.model_validate_json(line)
        timestamps.append(frame.timestamp)
        for thing in frame.objects:
            seen.setdefault(thing.id, _Seen(thing.label, frame.timestamp)).add(thing, frame.timestamp)
        if with_frames:
            kept.append(_frame(frame))
    head, tail = graph.head, graph.tail()
    interval = round(sampling_interval(np.array(timestamps), 1 / head.options.fps), TIME_DECIMALS)
    shared = {"video": source.video, "owner": source.owner, "interval": interval}
    ends = float("inf") if head.video.duration is None else head.video.duration
    warnings = [warning.model_dump() for warning in tail.warnings]
    video = _of_graph(head, source) | {"frames": len(timestamps), "warnings": warnings} | shared
    objects = [thing.row(identity, interval, ends) for identity, thing in sorted(seen.items())]
    relations = [
        relation.model_dump()
        | {"subject_label": seen[relation.subject].label, "object_label": seen[relation.object].label}
        for relation in tail.relations
    ]
    tables: dict[TableName, list[dict[str, Any]]] = {"videos": [video], "objects": objects, "relations": relations}
    if with_frames:
        tables["frames"] = kept
    return {name: table_of(name, (row | shared for row in rows)) for name, rows in tables.items()}


def problem_rows(
    source: Source, *, model: str | None, options: str, problem: str, detail: str, sha256: str | None = None
) -> Rows:
    """The row of a video that has no graph. Only `videos` has one.

    options: as `options_json` spells them.
    problem: code of the error; `detail` says it in words.
    """
    row = {
        "video": source.video,
        "owner": source.owner,
        "interval": 0.0,
        "path": source.path,
        "etag": source.etag,
        "sha256": sha256,
        "model": model,
        "model_sha256": source.model_sha256,
        "options": options,
        "frames": 0,
        "made": _now(),
        "warnings": [],
        "problem": problem,
        "problem_detail": detail,
    }
    return {"videos": table_of("videos", [row])}


def table_of(name: TableName, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A table with the columns of its schema, of rows that name them. Missing values are null."""
    return pa.Table.from_pylist(list(rows), schema=TABLES[name])


@dataclass
class _Seen:
    """An object of a graph, frame by frame."""

    label: str
    first: float
    last: float = 0.0
    scores: list[float] = field(default_factory=list)

    def add(self, thing: SceneObject, timestamp: float) -> None:
        self.last = timestamp
        self.scores.append(thing.score)

    def row(self, identity: int, interval: float, ends: float) -> dict[str, Any]:
        # Containers understate their duration at times; an object never ends before it is seen.
        last = round(max(min(self.last + interval, ends), self.last), TIME_DECIMALS)
        score = round(sum(self.scores) / len(self.scores), SCORE_DECIMALS)
        return {
            "id": identity,
            "label": self.label,
            "first": self.first,
            "last": last,
            "score": score,
            "frames": len(self.scores),
        }


def _of_graph(head: GraphHead, source: Source) -> dict[str, Any]:
    return head.video.model_dump() | {
        "graph_id": head.id,
        "path": source.path,
        "etag": source.etag,
        "model": head.model.name,
        "model_version": head.model.version,
        "model_sha256": source.model_sha256,
        "engine": head.model.engine,
        "precision": head.model.precision,
        "options": options_json(head.options),
        "vocabulary": _VOCABULARY.dump_json(head.vocabulary).decode(),
        "made": _now(),
    }


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "index": frame.index,
        "timestamp": frame.timestamp,
        "objects": [thing.model_dump() for thing in frame.objects],
        "triplets": [triplet.model_dump(exclude={"uncertainty"}) for triplet in frame.triplets],
    }


def _now() -> datetime:
    return datetime.now(UTC)
