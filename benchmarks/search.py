"""Measures how long a search of a large archive takes: `python -m benchmarks.search [FOLDER]`.

The archive has synthetic videos: 60 relations each among 2 persons and 8 things. Labels and predicates are as uneven as
in real video: the second is half as common as the first, the third a third, and so on. It is made in FOLDER, and used
again.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.graph.scene_graph import Options
from models.graph.vocabulary import ACTION_GENOME
from service.archive.folder import ArchiveFolder, TableName
from service.archive.tables import TABLES, options_json, video_key
from service.archive.writing import append_many
from service.search.moments import find_moments, words_of
from service.search.queries import parse

RELATIONS_OF_A_VIDEO: Final = 60
PERSONS, THINGS = 2, 8  # of a video
SECONDS, INTERVAL = 60.0, 0.5
VIDEOS_OF_A_FILE: Final = 20_000
MOST_MEGABYTES: Final = 60.0
TURNS: Final = 7


@dataclass(frozen=True)
class Question:
    """A kind of query, and how many milliseconds its median may take on two cores with 100,000 videos."""

    kind: str
    query: str
    most: float


@dataclass(frozen=True)
class Timing:
    """The number of moments that a query has, and the medians of its milliseconds.

    processor: of all cores together. Where the time is much longer than this on two cores, the machine is not idle.
    """

    moments: int
    milliseconds: float
    processor: float


COMMON_PREDICATES: Final = (
    "looking_at", "in_front_of", "holding", "not_looking_at", "not_contacting", "touching", "behind", "sitting_on",
    "beneath", "standing_on", "wearing", "drinking_from",
)  # fmt: skip
COMMON_THINGS: Final = (
    "table", "chair", "cup/glass/bottle", "clothes", "phone/camera", "bag", "book", "door", "food", "bed",
)  # fmt: skip
"""The most common first; all others follow in the order of the vocabulary."""
QUESTIONS: Final = (
    Question("one triple", "person drinking_from cup for 2s", 150),
    Question("during", "(person a holding phone) during (a sitting_on furniture)", 400),
    Question("then within", "person a touching door then within 5s a holding bag", 800),
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--videos", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--cores", type=click.IntRange(min=1), default=2, show_default=True, help="That may be used.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(folder: Path | None, videos: int, cores: int, as_json: bool) -> None:
    """Prints the medians and the size, and fails where one is over its limit."""
    with _folder(folder) as place:
        archive = ArchiveFolder(place)
        if not (place / "archive.json").exists():
            make_archive(archive, videos)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
        size, timings = megabytes(place), {question: measured(archive, question) for question in QUESTIONS}
    if as_json:
        named = {question.kind: asdict(timing) for question, timing in timings.items()}
        click.echo(json.dumps({"videos": videos, "megabytes": size, **named}))
    else:
        click.echo(f"{videos} videos, {size} MB")
        for question, timing in timings.items():
            click.echo(
                f"{question.kind}: {timing.moments} moments in {timing.milliseconds} ms "
                f"({timing.processor} of processors): {question.query}"
            )
    over = [question.kind for question, timing in timings.items() if timing.milliseconds > question.most]
    if over or size > MOST_MEGABYTES:
        raise click.ClickException(f"over the limit: {', '.join(over) or 'the size'}")


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def measured(archive: ArchiveFolder, question: Question) -> Timing:
    """Times a query from the text to the first page. The first turn does not count."""
    taken, worked = [], []
    for _ in range(TURNS):
        begin, begin_of_work = time.perf_counter(), time.process_time()
        found = find_moments(archive, parse(question.query, words_of(archive)), owner="somebody")
        taken.append(1000 * (time.perf_counter() - begin))
        worked.append(1000 * (time.process_time() - begin_of_work))
    return Timing(found.total, *(round(statistics.median(times[1:]), 1) for times in (taken, worked)))


def megabytes(folder: Path) -> float:
    """Returns the size of an archive's files."""
    return round(sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 1e6, 1)


def make_archive(archive: ArchiveFolder, videos: int) -> None:
    """Writes an archive of synthetic videos, in files as compaction leaves them."""
    archive.make()
    random = np.random.default_rng(16)
    keys = sorted(video_key(str(number)) for number in range(videos))
    for first in range(0, videos, VIDEOS_OF_A_FILE):
        append_many(archive, _rows(keys[first : first + VIDEOS_OF_A_FILE], random))


def _rows(keys: list[str], random: np.random.Generator) -> dict[TableName, pa.Table]:
    count = len(keys)
    labels = ["person", *_by_commonness(COMMON_THINGS, ACTION_GENOME.things)]
    predicates = _by_commonness(COMMON_PREDICATES, ACTION_GENOME.predicates)
    # The label of each object of each video: persons first, then things.
    of_objects = np.zeros((count, PERSONS + THINGS), dtype=np.intp)
    of_objects[:, PERSONS:] = 1 + _uneven(random, len(labels) - 1, (count, THINGS))
    shape = (count, RELATIONS_OF_A_VIDEO)
    persons = random.integers(0, PERSONS, shape)
    things = random.integers(PERSONS, PERSONS + THINGS, shape)
    held = _uneven(random, len(predicates), shape)
    runs_back = np.array([ACTION_GENOME.runs_from_object(name) for name in predicates])[held]
    subjects, objects = np.where(runs_back, things, persons), np.where(runs_back, persons, things)
    starts = INTERVAL * random.integers(0, int(SECONDS / INTERVAL), shape)
    rows = np.arange(count)[:, None]
    relations = {
        "subject": 1 + subjects,
        "subject_label": _words(labels, of_objects[rows, subjects]),
        "predicate": _words(predicates, held),
        "object": 1 + objects,
        "object_label": _words(labels, of_objects[rows, objects]),
        "start": starts,
        "end": np.minimum(starts + INTERVAL * (1 + random.geometric(0.15, shape)), SECONDS),
        "score": np.round(random.beta(4, 3, shape), 4),
        "relation_score": np.round(random.beta(3, 3, shape), 4),
    }
    firsts = INTERVAL * random.integers(0, 20, of_objects.shape)
    seen = {
        "id": np.broadcast_to(1 + np.arange(PERSONS + THINGS), of_objects.shape),
        "label": _words(labels, of_objects),
        "first": firsts,
        "last": np.full(of_objects.shape, SECONDS),
        "score": np.round(random.beta(5, 2, of_objects.shape), 4),
        "frames": ((SECONDS - firsts) / INTERVAL).astype(int),
    }
    hashes = random.bytes(32 * count).hex()
    options = Options(
        fps=1 / INTERVAL, start=0.0, end=None, max_frames=3600, min_score=0.0, top_k=20, constraint="with"
    )
    same = np.zeros(count, dtype=np.intp)
    videos = {
        "path": pa.array([f"videos/{key}.mp4" for key in keys]),
        "sha256": pa.array([hashes[64 * index : 64 * (index + 1)] for index in range(count)]),
        "model": _words(["synthetic"], same),
        "options": _words([options_json(options)], same),
        "vocabulary": _words([_vocabulary_json()], same),
        "duration": np.full(count, SECONDS),
        "frames": np.full(count, int(SECONDS / INTERVAL)),
    }
    return {
        "videos": _table("videos", keys, 1, videos),
        "objects": _table("objects", keys, PERSONS + THINGS, seen),
        "relations": _table("relations", keys, RELATIONS_OF_A_VIDEO, relations),
    }


def _table(name: TableName, keys: list[str], each: int, columns: Mapping[str, NDArray[Any] | pa.Array]) -> pa.Table:
    """A table with `each` rows a key, of columns of as many values; those that are missing are null."""
    rows = len(keys) * each
    values = {
        column: pa.array(array.reshape(-1)) if isinstance(array, np.ndarray) else array
        for column, array in columns.items()
    }
    values["video"] = _words(keys, np.repeat(np.arange(len(keys)), each))
    values["owner"] = _words(["somebody"], np.zeros(rows, dtype=np.intp))
    values["interval"] = pa.array(np.full(rows, INTERVAL))
    schema = TABLES[name]
    return pa.table([values.get(field.name, pa.nulls(rows)).cast(field.type) for field in schema], schema=schema)


def _words(words: Sequence[str], indices: NDArray[np.intp]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices.reshape(-1).astype(np.int32)), pa.array(words))


def _by_commonness(common: Sequence[str], names: Sequence[str]) -> list[str]:
    return [*common, *(name for name in names if name not in common)]


def _uneven(random: np.random.Generator, kinds: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Draws from kinds of which the second is half as common as the first, the third a third, and so on."""
    weights = 1 / np.arange(1, kinds + 1)
    return random.choice(kinds, shape, p=weights / weights.sum())


def _vocabulary_json() -> str:
    return TypeAdapter(type(ACTION_GENOME)).dump_json(ACTION_GENOME).decode()


if __name__ == "__main__":
    main()
