"""Asks the questions, and prints how many each way of answering gets right.

    .venv/bin/python -m benchmarks.questions [--videos 14] [--write]

Half of the videos are of each world, from seeds that training never used. The questions are asked four times:

truth: the query, of the graph that the annotation makes. It must get everything.
model: the query, of the graph that a bundled model makes.
prompt: the caption prompt of the model's graph, in the form whose lines have times, searched by words: a line answers
    where it has the words of all that is asked, in whatever order.
triplets: the triplets of the model's frames without their time, of whatever order.

The least score of a relation is chosen for each on other videos.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.questions import graphs
from benchmarks.questions.answers import ENOUGH, is_right, share_in_common, times
from benchmarks.questions.asking import INTERVAL, Question, facts_of, questions_of
from models.graph.scene_graph import SceneGraph
from models.graph.vocabulary import ACTION_GENOME
from service.loading import open_pipeline
from service.options import VideoOptions
from service.search.moments import find_in_rows, rows_of
from service.search.queries import parse
from service.search.words import Words
from service.settings import load_settings
from training.data.puppets.dataset import story_seed
from training.data.puppets.story import make_story
from training.data.puppets.video import ground_truth, write_video
from training.data.puppets.world import WORLDS

ROOT: Final = Path(__file__).parent.parent.parent
DOCUMENT: Final = ROOT / "docs" / "search.md"
BEGIN, END = "<!-- questions -->\n", "<!-- end of questions -->"
SECONDS: Final = 60.0
FRAME_RATE: Final = 4  # of the videos; twice a second is looked at
LEAST_SCORES: Final = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WORDS: Final = Words.of(ACTION_GENOME)
SYSTEMS: Final[Mapping[str, Callable[[SceneGraph, float], SceneGraph]]] = {
    "model": graphs.of_model,
    "prompt": graphs.of_prompt,
    "triplets": graphs.of_triplets,
}


@dataclass(frozen=True)
class Case:
    """A video: its questions, the graph of its annotation and that of the model."""

    questions: Sequence[Question]
    truth: SceneGraph
    graph: SceneGraph


@dataclass(frozen=True)
class Mark:
    """Whether an answer is right, and whether it is proven: right, with moments that are right for half of the time."""

    kind: str
    right: bool
    proven: bool


@click.command()
@click.option("--videos", default=14, show_default=True, type=click.IntRange(min=2), help="Videos to ask about.")
@click.option("--others", default=4, show_default=True, type=click.IntRange(min=2), help="Videos for least scores.")
@click.option("--seed", default=16001, show_default=True)
@click.option("--model", default="sttran-rs-net-compact", show_default=True)
@click.option("--write", is_flag=True, help="Write the table into docs/search.md.")
def main(videos: int, others: int, seed: int, model: str, write: bool) -> None:
    """Prints the table, and fails where the truth's graph does not get everything."""
    with tempfile.TemporaryDirectory() as folder:
        tried = list(cases(others, seed + 1, model, Path(folder)))
        asked = list(cases(videos, seed, model, Path(folder)))
    table, marks = results(tried, asked)
    click.echo(table)
    if write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{table}\n{END}{rest.partition(END)[2]}")
    if wrong := sum(not mark.proven for mark in marks["truth"]):
        raise click.ClickException(f"{wrong} answers from the truth's graphs are not those of the annotation")


def results(tried: Sequence[Case], asked: Sequence[Case]) -> tuple[str, Mapping[str, Sequence[Mark]]]:
    """Chooses least scores with the cases that are tried, and returns the table and the marks of those asked."""
    marks = {"truth": [mark for case in asked for mark in marks_of(case.questions, case.truth)]}
    least = {}
    for name, make in SYSTEMS.items():
        least[name] = max(LEAST_SCORES, key=lambda score: sum(mark.proven for mark in marks_with(make, tried, score)))
        marks[name] = marks_with(make, asked, least[name])
    videos = sum(bool(case.questions) for case in asked)
    return "\n".join(table_of(marks, least, videos)), marks


def cases(count: int, seed: int, model: str, folder: Path) -> Iterator[Case]:
    """Renders videos of both worlds in turn, and makes their graphs and questions."""
    with closing(open_pipeline(load_settings(), bundles=[ROOT / "bundles" / model])) as pipeline:
        for index in range(count):
            world = list(WORLDS.values())[index % len(WORLDS)]
            story = make_story(world, story_seed(seed, "test", index), seconds=SECONDS)
            facts = facts_of(ground_truth(story, [step * INTERVAL for step in range(round(SECONDS / INTERVAL))]))
            path = folder / f"{seed}-{index}.mp4"
            write_video(path, story, SECONDS, FRAME_RATE)
            # A person who drinks from a cup holds it too, so a pair may have several predicates of a group.
            graph = pipeline.run(path, VideoOptions(fps=1 / INTERVAL, constraint="no"))
            yield Case(questions_of(facts, SECONDS, seed + index), graphs.of_truth(facts, SECONDS), graph)


def marks_with(make: Callable[[SceneGraph, float], SceneGraph], asked: Sequence[Case], least: float) -> list[Mark]:
    """Returns the marks of one way of answering, with relations of at least this score. Only a search knows order."""
    timeless = make is not graphs.of_model
    return [mark for case in asked for mark in marks_of(case.questions, make(case.graph, least), timeless=timeless)]


def marks_of(questions: Sequence[Question], graph: SceneGraph, *, timeless: bool = False) -> Iterator[Mark]:
    """Asks a graph."""
    rows = rows_of(graph)
    for question in questions:
        found = find_in_rows(rows, parse(question.timeless if timeless else question.query, WORDS))
        right = is_right(question.read(found), question.answer)
        yield Mark(question.kind, right, right and share_in_common(times(found), question.moments) >= ENOUGH)


def table_of(marks: Mapping[str, Sequence[Mark]], least: Mapping[str, float], videos: int) -> Iterator[str]:
    """Yields the lines of the table: percent of answers that are right, and of those that are proven."""
    scores = ", ".join(f"{name} {score:g}" for name, score in least.items())
    yield f"{len(marks['truth'])} questions about {videos} videos of a minute. Least scores of relations: {scores}."
    yield ""
    yield f"| kind | {' | '.join(marks)} |"
    yield f"|---|{'---|' * len(marks)}"
    kinds = dict.fromkeys(mark.kind for mark in marks["truth"])
    for kind in kinds:
        cells = (_cell([mark for mark in of_system if mark.kind == kind]) for of_system in marks.values())
        yield f"| {kind} | {' | '.join(cells)} |"
    yield f"| all | {' | '.join(map(_cell, marks.values()))} |"


def _cell(marks: Sequence[Mark]) -> str:
    right, proven = (sum(values) for values in ([mark.right for mark in marks], [mark.proven for mark in marks]))
    return f"{100 * right / len(marks):.0f} / {100 * proven / len(marks):.0f}"


if __name__ == "__main__":
    main()
