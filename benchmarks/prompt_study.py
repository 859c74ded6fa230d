"""Measures which form of the prompt states most of what is true; fills the table of docs/prompt.md.

    .venv/bin/python -m benchmarks.prompt_study [--videos 10] [--seed 7001] [--write]

The program renders Puppet Genome videos, half of them in each world, from seeds that training never used, so that the
story of each video is known. It makes their graphs with the bundled models, words them in every form and budget, and
counts the true events and the false ones that the prompts state.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.graph.scene_graph import Relation, SceneGraph
from models.graph.vocabulary import ACTION_GENOME
from service.loading import open_pipeline
from service.options import VideoOptions
from service.prompt import FORMS, Appearances, Telling, tell
from service.settings import load_settings
from training.data.puppets.dataset import story_seed
from training.data.puppets.story import make_story
from training.data.puppets.video import Truth, ground_truth, write_video
from training.data.puppets.world import WORLDS

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "prompt.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
SCORED, UNSCORED = "sttran-rs-net-compact", "arn-compact"
KINDS = (SCORED, f"{SCORED}, without them", f"{UNSCORED}, which has none")
BUDGETS = (100, 200, 400)
SECONDS = 30.0
STEP = 0.25  # seconds between two looks at the truth
LEAST_SECONDS = 1.0  # of a true event: two frames a second cannot show shorter ones
BRIDGED_SECONDS = 1.0
SHARE = 0.5
IS_NO_EVENT = {
    predicate
    for group in ACTION_GENOME.groups
    for predicate in group.predicates
    if group.overshadowed_by or predicate in group.says_little
}


@dataclass(frozen=True)
class Fact:
    """An event: a predicate between the person and a thing of that label, from `start` to `end` in seconds."""

    predicate: str
    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Case:
    """A video: the truth, moment by moment, and its graphs by kind."""

    truth: Sequence[Truth]
    graphs: Mapping[str, SceneGraph]


@dataclass
class Count:
    """Numbers of true and of false events that prompts state."""

    stated: int = 0
    false: int = 0


def main() -> None:
    """Prints the table, or writes it into the document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompt_study", description=__doc__)
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7001)
    parser.add_argument("--write", action="store_true", help="write the table into docs/prompt.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = "\n".join(table_of(list(cases(arguments.videos, arguments.seed, Path(folder)))))
    print(table)
    if arguments.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{table}\n{END}{rest.partition(END)[2]}")


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Renders videos of both worlds in turn and makes their graphs."""
    settings = load_settings()
    bundles = [ROOT / "bundles" / name for name in (SCORED, UNSCORED)]
    with closing(open_pipeline(settings, bundles=bundles)) as pipeline:
        for index in range(count):
            world = list(WORLDS.values())[index % len(WORLDS)]
            story = make_story(world, story_seed(seed, "test", index), seconds=SECONDS)
            path = folder / f"{index}.mp4"
            write_video(path, story, SECONDS)
            scored, unscored = (
                pipeline.run(path, VideoOptions.model_validate({"model": name})) for name in (SCORED, UNSCORED)
            )
            truth = ground_truth(story, [step * STEP for step in range(round(SECONDS / STEP))])
            yield Case(truth, dict(zip(KINDS, (scored, without_scores(scored), unscored), strict=True)))


def without_scores(graph: SceneGraph) -> SceneGraph:
    """Returns the graph as a model without a relation scorer would give it."""
    return graph.model_copy(update={"relations": [_without_score(relation) for relation in graph.relations]})


def _without_score(relation: Relation) -> Relation:
    # A score is the product of others with the relation score.
    score = min(1.0, relation.score / relation.relation_score) if relation.relation_score else relation.score
    return relation.model_copy(update={"score": score, "relation_score": None})


def table_of(cases: Sequence[Case]) -> Iterator[str]:
    """Yields the lines of the table."""
    true = sum(len(true_events(case.truth)) for case in cases)
    yield f"{len(cases)} videos with {true} true events. Each cell: true events stated / false ones stated."
    yield ""
    yield f"| tokens | form | {' | '.join(KINDS)} |"
    yield f"|---|---|{'---|' * len(KINDS)}"
    for budget in BUDGETS:
        for form in FORMS:
            counts = {kind: Count() for kind in KINDS}
            for case in cases:
                for kind, graph in case.graphs.items():
                    telling = tell(
                        Appearances.of(graph.frames),
                        graph.relations,
                        graph.vocabulary,
                        duration=graph.video.duration,
                        max_tokens=budget,
                        form=form,
                    )
                    counts[kind].stated += stated_events(telling, case.truth)
                    counts[kind].false += len(false_claims(telling, case.truth))
            cells = (f"{count.stated} / {count.false}" for count in counts.values())
            yield f"| {budget} | `{form}` | {' | '.join(cells)} |"


def true_events(truth: Sequence[Truth]) -> list[Fact]:
    """Returns what the person does with visible things: contacts and looks, not where things stand."""
    moments: dict[tuple[str, str], list[float]] = {}
    for now in truth:
        for predicate, label in sorted(holding(now)):
            if predicate not in IS_NO_EVENT:
                moments.setdefault((predicate, label), []).append(now.time)
    return [
        Fact(predicate, label, start, end)
        for (predicate, label), times in moments.items()
        for start, end in intervals(times)
        if end - start >= LEAST_SECONDS
    ]


def holding(now: Truth) -> set[tuple[str, str]]:
    """Returns every predicate that holds at one moment, with the label of its thing."""
    return {
        (predicate, thing.name)
        for thing in now.things
        if thing.visible
        for predicate in (*thing.attention, *thing.spatial, *thing.contacting)
    }


def intervals(times: Iterable[float]) -> list[tuple[float, float]]:
    """Joins sampled times into intervals and bridges short gaps."""
    found: list[tuple[float, float]] = []
    for time in times:
        if found and time - found[-1][1] <= BRIDGED_SECONDS:
            found[-1] = (found[-1][0], time + STEP)
        else:
            found.append((time, time + STEP))
    return found


def claims_of(telling: Telling) -> list[tuple[Fact, int]]:
    """Returns the events that a prompt states, each with the number of its person; puppet videos have one person."""
    return [
        (Fact(event.predicate, event.thing.label, event.start, event.end), event.subject.number)
        for event in telling.events
    ]


def is_true(claim: Fact, truth: Sequence[Truth]) -> bool:
    """Returns whether a claim holds for at least half of its time."""
    looks = [now for now in truth if claim.start <= now.time < max(claim.end, claim.start + STEP)]
    right = sum((claim.predicate, claim.label) in holding(now) for now in looks)
    return bool(looks) and right >= SHARE * len(looks)


def false_claims(telling: Telling, truth: Sequence[Truth]) -> list[Fact]:
    """Returns the false events that a prompt states."""
    return [claim for claim, person in claims_of(telling) if person > 1 or not is_true(claim, truth)]


def stated_events(telling: Telling, truth: Sequence[Truth]) -> int:
    """Counts the true events that a prompt states for at least half of their time."""
    claims = [claim for claim, person in claims_of(telling) if person == 1 and is_true(claim, truth)]
    return sum(_covered(event, claims) >= SHARE * (event.end - event.start) for event in true_events(truth))


def _covered(event: Fact, claims: Sequence[Fact]) -> float:
    same = (claim for claim in claims if (claim.predicate, claim.label) == (event.predicate, event.label))
    return sum(max(0.0, min(event.end, claim.end) - max(event.start, claim.start)) for claim in same)


if __name__ == "__main__":
    main()
