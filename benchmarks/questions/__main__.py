"""Asks the questions, and prints how many each way of answering gets right.

    .venv/bin/python -m benchmarks.questions [--videos 14] [--model NAME ...] [--write]

The videos are of each world in turn, from seeds that training never used. Tune on others than the reported seed. The
questions are asked of the annotation once, and three times of what each model makes of the video:

truth: the query, of the graph that the annotation makes. It must get everything.
model: the query, of the graph that a bundled model makes.
prompt: the caption prompt of the model's graph, in the form whose lines have times, searched by words: a line answers
    where it has the words of all that is asked, in whatever order.
triplets: the triplets of the model's frames without their time, of whatever order.

The least score of a relation is chosen for each and for every video on the other videos.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
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
LEAST_SCORES: Final = (0.1, 0.2, 0.3, 0.4)
MODELS: Final = ("arn-compact", "sttran-rs-net-compact", "tr2-rs-net-compact")
WORDS: Final = Words.of(ACTION_GENOME)
SYSTEMS: Final[Mapping[str, Callable[[SceneGraph, float], SceneGraph]]] = {
    "model": graphs.of_model,
    "prompt": graphs.of_prompt,
    "triplets": graphs.of_triplets,
}


@dataclass(frozen=True)
class Case:
    """A video: its questions, the graph of its annotation and those of the models, by name."""

    questions: Sequence[Question]
    truth: SceneGraph
    graphs: Mapping[str, SceneGraph]


@dataclass(frozen=True)
class Mark:
    """Whether an answer is right, and whether it is proven: right, with moments that are right for half of the time."""

    kind: str
    right: bool
    proven: bool


@click.command()
@click.option("--videos", default=14, show_default=True, type=click.IntRange(min=2), help="Videos to ask about.")
@click.option("--seed", default=16001, show_default=True)
@click.option(
    "--model", "models", multiple=True, default=MODELS, show_default=True, help="Bundle; the first one by kind."
)
@click.option("--write", is_flag=True, help="Write the tables into docs/search.md.")
def main(videos: int, seed: int, models: tuple[str, ...], write: bool) -> None:
    """Prints the tables, and fails where the truth's graph does not get everything."""
    with tempfile.TemporaryDirectory() as folder:
        asked = list(cases(videos, seed, models, Path(folder)))
    truth = [mark for case in asked for mark in marks_of(case.questions, case.truth)]
    marks = {model: results(asked, model) for model in models}
    text = "\n".join(
        [
            f"{len(truth)} questions about {len(asked)} videos of a minute.",
            "",
            *table_of_models(marks),
            "",
            f"Of `{models[0]}` by kind:",
            "",
            *table_of_kinds({"truth": truth} | marks[models[0]]),
        ]
    )
    click.echo(text)
    if write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{text}\n{END}{rest.partition(END)[2]}")
    if wrong := sum(not mark.proven for mark in truth):
        raise click.ClickException(f"{wrong} answers from the truth's graphs are not those of the annotation")


def results(asked: Sequence[Case], model: str) -> dict[str, list[Mark]]:
    """Returns the marks of every way of answering from a model's graphs.

    A video's least score is the one with which the others do best.
    """
    marks: dict[str, list[Mark]] = {}
    for name, make in SYSTEMS.items():
        timeless = name != "model"  # only a search knows order
        tried = {
            least: [
                list(marks_of(case.questions, make(case.graphs[model], least), timeless=timeless)) for case in asked
            ]
            for least in LEAST_SCORES
        }
        proven = {least: [sum(mark.proven for mark in of_case) for of_case in tried[least]] for least in LEAST_SCORES}
        marks[name] = []
        for index in range(len(asked)):
            best = max(LEAST_SCORES, key=lambda least: sum(proven[least]) - proven[least][index])
            marks[name] += tried[best][index]
    return marks


def cases(count: int, seed: int, models: Sequence[str], folder: Path) -> Iterator[Case]:
    """Renders videos of all worlds in turn, and makes their graphs and questions. Leaves out those without questions.

    models: names of bundles.
    """
    with ExitStack() as stack:
        pipelines = {
            name: stack.enter_context(closing(open_pipeline(load_settings(), bundles=[ROOT / "bundles" / name])))
            for name in models
        }
        for index in range(count):
            world = list(WORLDS.values())[index % len(WORLDS)]
            story = make_story(world, story_seed(seed, "test", index), seconds=SECONDS)
            facts = facts_of(ground_truth(story, [step * INTERVAL for step in range(round(SECONDS / INTERVAL))]))
            questions = questions_of(facts, SECONDS, seed + index)
            if not questions:
                continue
            path = folder / f"{seed}-{index}.mp4"
            write_video(path, story, SECONDS, FRAME_RATE)
            # A person who drinks from a cup holds it too, so a pair may have several predicates of a group.
            options = VideoOptions(fps=1 / INTERVAL, constraint="no")
            graphs_of_models = {name: pipeline.run(path, options) for name, pipeline in pipelines.items()}
            yield Case(questions, graphs.of_truth(facts, SECONDS), graphs_of_models)


def marks_of(questions: Sequence[Question], graph: SceneGraph, *, timeless: bool = False) -> Iterator[Mark]:
    """Asks a graph."""
    rows = rows_of(graph)
    for question in questions:
        found = find_in_rows(rows, parse(question.timeless if timeless else question.query, WORDS))
        right = is_right(question.read(found), question.answer)
        yield Mark(question.kind, right, right and share_in_common(times(found), question.moments) >= ENOUGH)


def table_of_models(marks: Mapping[str, Mapping[str, Sequence[Mark]]]) -> Iterator[str]:
    """Yields the lines of a table: percent of answers that are right, and of those that are proven."""
    yield f"| bundle | {' | '.join(SYSTEMS)} |"
    yield f"|---|{'---|' * len(SYSTEMS)}"
    for model, of_model in marks.items():
        yield f"| `{model}` | {' | '.join(_cell(of_model[name]) for name in SYSTEMS)} |"


def table_of_kinds(marks: Mapping[str, Sequence[Mark]]) -> Iterator[str]:
    """Yields the lines of a table of all ways of answering, by kind of question."""
    yield f"| kind | {' | '.join(marks)} |"
    yield f"|---|{'---|' * len(marks)}"
    kinds = dict.fromkeys(mark.kind for of_system in marks.values() for mark in of_system)
    for kind in kinds:
        cells = (_cell([mark for mark in of_system if mark.kind == kind]) for of_system in marks.values())
        yield f"| {kind} | {' | '.join(cells)} |"
    yield f"| all | {' | '.join(map(_cell, marks.values()))} |"


def _cell(marks: Sequence[Mark]) -> str:
    right, proven = (sum(values) for values in ([mark.right for mark in marks], [mark.proven for mark in marks]))
    return f"{100 * right / len(marks):.0f} / {100 * proven / len(marks):.0f}"


if __name__ == "__main__":
    main()
