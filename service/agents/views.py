"""What an archive knows of single videos, for one owner: a list of them, a window of time, a description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, TypeAdapter

from models.graph.scene_graph import Relation
from models.graph.vocabulary import Vocabulary
from service.archive.folder import ArchiveFolder, TableName, is_packed
from service.archive.reading import Files, steadily
from service.archive.tables import TABLES
from service.jobs.errors import NotFound
from service.prompt import MIN_TOKENS, Appearances, build_prompt, count_tokens

_LISTED = ["video", "owner", "graph_id", "path", "model", "duration", "frames", "made", "problem"]
_VOCABULARY = TypeAdapter(Vocabulary)
_NAME = "id or path, as other tools take it"


class ListedVideo(BaseModel):
    """A video of an archive."""

    video: str = Field(description=_NAME)
    duration: float | None = Field(description="seconds")
    model: str | None = Field(description="that made the graph")
    frames: int = Field(description="sampled frames")
    problem: str | None = Field(description="why it has no graph; null where it has one")


class VideoList(BaseModel):
    """A page of the videos of an archive, the newest first."""

    videos: list[ListedVideo]
    total: int = Field(description="number of all videos")
    next: int | None = Field(description="`offset` of the next page; null on the last one")
    note: str = Field(description="what is not known")


class Window(BaseModel):
    """What is known of a part of a video."""

    video: str = Field(description=_NAME)
    start: float
    end: float
    objects: list[str] = Field(description="label#id: when it is seen first and last, score")
    relations: list[str] = Field(
        description="interval: subject#id predicate object#id, score, in order of time; pair: the relation score"
    )
    objects_left_out: int = Field(description="objects that did not fit into max_tokens")
    relations_left_out: int = Field(description="relations that did not fit, those with the lowest scores")
    note: str = Field(description="what is not known")


class Description(BaseModel):
    """What a video shows."""

    video: str = Field(description=_NAME)
    duration: float | None = Field(description="seconds")
    model: str | None
    summary: str = Field(description="the most telling relations in words, with their times")
    objects: list[str] = Field(description="label#id: when it is seen first and last, score")
    objects_left_out: int = Field(description="objects that did not fit into max_tokens")
    note: str = Field(description="what is not known")


@dataclass(frozen=True)
class ArchiveViews:
    """Reads an archive. All methods block, and raise what the archive's store raises.

    owner: whose videos are seen; None for all.
    """

    folder: ArchiveFolder
    owner: str | None = None

    def videos(self, *, limit: int, offset: int) -> VideoList:
        """A page of the videos."""
        rows = sorted(self._all_videos(), key=lambda row: (row["made"], row["video"]), reverse=True)
        page = rows[offset : offset + limit]
        listed = [
            ListedVideo(
                video=_name(row),
                duration=row["duration"],
                model=row["model"],
                frames=row["frames"] or 0,
                problem=row["problem"],
            )
            for row in page
        ]
        is_last = offset + len(page) >= len(rows) or not page
        note = "" if rows else "nothing is known: the archive has no video of yours"
        return VideoList(videos=listed, total=len(rows), next=None if is_last else offset + len(page), note=note)

    def window(self, video: str, start: float, end: float, max_tokens: int) -> Window:
        """The objects and relations of a part of a video, the best relations up to a number of tokens.

        start, end: seconds from the first frame.

        Raises NotFound, with what there is instead.
        """
        row = self._find(video)
        objects = {thing["id"]: thing for thing in self._rows("objects", row["video"]) if _is_in(thing, start, end)}
        relations = [relation for relation in self._rows("relations", row["video"]) if _is_in(relation, start, end)]
        room, named, told = max_tokens, set[int](), list[dict[str, Any]]()
        for relation in sorted(relations, key=_rank, reverse=True):
            new = {relation["subject"], relation["object"]} & objects.keys() - named
            room -= count_tokens("\n".join([_relation_line(relation), *(_object_line(objects[each]) for each in new)]))
            if room < 0:
                break
            told.append(relation)
            named |= new
        others = [thing for identity, thing in objects.items() if identity not in named]
        shown = [objects[identity] for identity in sorted(named)] + _fitting(others, room)
        told.sort(key=lambda relation: (relation["start"], relation["end"]))
        return Window(
            video=_name(row),
            start=start,
            end=end,
            objects=list(map(_object_line, shown)),
            relations=list(map(_relation_line, told)),
            objects_left_out=len(objects) - len(shown),
            relations_left_out=len(relations) - len(told),
            note=_note(row, start, relations),
        )

    def describe(self, video: str, max_tokens: int) -> Description:
        """What a video shows: in words, up to half the tokens, and its objects. Raises NotFound."""
        row = self._find(video)
        objects, summary = list(self._rows("objects", row["video"])), ""
        if row["problem"] is None:
            summary = build_prompt(
                _appearances(row, objects),
                [_relation(relation) for relation in self._rows("relations", row["video"])],
                _VOCABULARY.validate_json(row["vocabulary"]),
                duration=row["duration"],
                max_tokens=max(max_tokens // 2, MIN_TOKENS),
            ).partition("\n")[2]
        shown = _fitting(objects, max_tokens - count_tokens(summary))
        return Description(
            video=_name(row),
            duration=row["duration"],
            model=row["model"],
            summary=summary,
            objects=list(map(_object_line, shown)),
            objects_left_out=len(objects) - len(shown),
            note=_note(row, 0.0, objects),
        )

    def _find(self, video: str) -> dict[str, Any]:
        """The row of a video by its id, its key, its path or the end of its path. Raises NotFound."""
        rows = list(self._all_videos())
        for row in rows:
            if video in (row["graph_id"], row["video"], row["path"]):
                return self._whole(row)
        for row in rows:
            if row["path"] is not None and row["path"].endswith(f"/{video}"):
                return self._whole(row)
        raise NotFound(f"there is no video {video[:80]!r}: list_videos names all {len(rows)} that there are")

    def _whole(self, row: dict[str, Any]) -> dict[str, Any]:
        return next(self._rows("videos", row["video"]))

    def _all_videos(self) -> Iterator[dict[str, Any]]:
        def read(found: Files) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = []
            for name in found.names:
                with self.folder.store.open(self.folder.path("videos", name), "rb") as file:
                    rows += pq.read_table(file, columns=_LISTED).to_pylist()
            return [row for row in rows if row["video"] not in found.deleted]

        for row in steadily(self.folder, read):
            if self.owner is None or row["owner"] == self.owner:
                yield row

    def _rows(self, table: TableName, video: str) -> Iterator[dict[str, Any]]:
        """The rows of one video. Only the parts of files are read that may have them."""

        def read(found: Files) -> list[pa.Table]:
            names = [name for name in found.names if name == video or is_packed(name)]
            here = self.folder.names(table)
            parts = []
            for name in names:
                if name in here:
                    with self.folder.store.open(self.folder.path(table, name), "rb") as file:
                        parts.append(pq.read_table(file, schema=TABLES[table], filters=[("video", "=", video)]))
            return parts

        for part in steadily(self.folder, read):
            yield from part.to_pylist()


def _name(row: dict[str, Any]) -> str:
    name: str = row["path"] or row["graph_id"] or row["video"]
    return name


def _is_in(row: dict[str, Any], start: float, end: float) -> bool:
    """Whether an object or a relation shares time with an interval."""
    first, last = (row["first"], row["last"]) if "first" in row else (row["start"], row["end"])
    return bool(first < end and last > start)


def _rank(relation: dict[str, Any]) -> tuple[float, float]:
    pair = relation["relation_score"]
    return relation["score"] * (1.0 if pair is None else pair), relation["end"] - relation["start"]


def _fitting(objects: Sequence[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """The objects that are seen most surely and longest, as many as fit into so many tokens."""
    fitting = []
    for thing in sorted(objects, key=lambda thing: thing["score"] * thing["frames"], reverse=True):
        room -= count_tokens(_object_line(thing))
        if room < 0:
            break
        fitting.append(thing)
    return fitting


def _object_line(thing: dict[str, Any]) -> str:
    return f"{thing['label']}#{thing['id']}: {thing['first']:.1f}-{thing['last']:.1f} s, score {thing['score']:.2f}"


def _relation_line(relation: dict[str, Any]) -> str:
    pair = relation["relation_score"]
    scores = f"score {relation['score']:.2f}" + ("" if pair is None else f", pair {pair:.2f}")
    subject, thing = (f"{relation[f'{side}_label']}#{relation[side]}" for side in ("subject", "object"))
    return f"{relation['start']:.1f}-{relation['end']:.1f} s: {subject} {relation['predicate']} {thing}, {scores}"


def _appearances(row: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Appearances:
    """The appearances of a video's objects, in sampled frames, of which the archive has only the times."""
    interval = row["interval"] or 1.0
    appearances = Appearances(frame_count=row["frames"], sampled=(0.0, interval * (row["frames"] - 1)))
    for thing in objects:
        identity, label = thing["id"], thing["label"]
        appearances.labels[identity] = label
        appearances.first[identity] = round(thing["first"] / interval)
        appearances.last[identity] = max(round(thing["last"] / interval) - 1, appearances.first[identity])
        appearances.seen[identity] = thing["first"], max(thing["last"] - interval, thing["first"])
        appearances.scores[label] = appearances.scores.get(label, 0.0) + thing["score"] * thing["frames"]
    return appearances


def _relation(row: dict[str, Any]) -> Relation:
    return Relation(**{name: row[name] for name in Relation.model_fields})


def _note(row: dict[str, Any], start: float, known: Sequence[Any]) -> str:
    if row["problem"] is not None:
        return f"nothing is known of this video: {row['problem_detail'] or row['problem']}"
    if row["duration"] is not None and start >= row["duration"]:
        return f"nothing is known: the video ends at {row['duration']:.1f} s"
    return "" if known else "nothing is known: the model saw nothing there; that is no proof that nothing happens"
