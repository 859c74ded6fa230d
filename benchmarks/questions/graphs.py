"""The graphs that are asked: of the annotation, of a model, of its caption prompt, and of its triplets without time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from benchmarks.questions.asking import INTERVAL, PERSON, Fact
from models.graph.scene_graph import Frame, ModelReference, Options, Relation, SceneGraph, SceneObject, Video
from models.graph.vocabulary import ACTION_GENOME
from service.prompt import Appearances, build_prompt

_BOX: Final = (0.0, 0.0, 1.0, 1.0)
_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_PLACEHOLDERS: Final = {"{}", "has", "them", "their", "is", "may", "be"}


def of_truth(facts: Sequence[Fact], seconds: float) -> SceneGraph:
    """Returns the graph of an annotation."""
    labels = {PERSON: "person"} | {fact.thing: fact.label for fact in facts}
    relations = [_relation(fact.predicate, fact.thing, fact.start, fact.end) for fact in facts]
    return _graph(labels, relations, seconds)


def of_model(graph: SceneGraph, least: float) -> SceneGraph:
    """Returns the graph of a model with the relations that score enough."""
    return graph.model_copy(update={"relations": [one for one in graph.relations if one.score >= least]})


def of_triplets(graph: SceneGraph, least: float) -> SceneGraph:
    """Returns the triplets of all frames as if each held all the time."""
    seconds = graph.video.duration or 0.0
    labels = {thing.id: thing.label for frame in graph.frames for thing in frame.objects}
    triplets = {
        (one.subject, one.predicate, one.object)
        for frame in graph.frames
        for one in frame.triplets
        if one.score >= least
    }
    relations = [
        Relation(subject=subject, predicate=predicate, object=thing, start=0, end=seconds, score=1, relation_score=None)
        for subject, predicate, thing in sorted(triplets)
    ]
    return _graph(labels, relations, seconds)


def of_prompt(graph: SceneGraph, least: float) -> SceneGraph:
    """Returns what the lines of the caption prompt say when they are searched by words.

    Each line has a time. Whatever predicate and thing have their words in it are taken to belong together.
    """
    seconds = graph.video.duration or 0.0
    relations = of_model(graph, least).relations
    text = build_prompt(
        Appearances.of(graph.frames), relations, ACTION_GENOME, duration=seconds, max_tokens=400, form="by_time"
    )
    ids = {label: id for id, label in enumerate(ACTION_GENOME.objects, PERSON)}
    said = {
        (predicate, label, *interval)
        for interval, words in _lines(text, seconds)
        for predicate in ACTION_GENOME.predicates
        for label in ACTION_GENOME.things
        if _words_of(predicate) <= words and _nouns_of(label) <= words
    }
    found = [_relation(predicate, ids[label], start, end) for predicate, label, start, end in sorted(said)]
    return _graph({id: label for label, id in ids.items()}, found, seconds)


def _lines(text: str, seconds: float) -> Iterator[tuple[tuple[float, float], set[str]]]:
    """Yields the interval of each line, and its words."""
    for line in text.splitlines():
        when, _, rest = line.partition(": ")
        for pattern, times in (
            (r"Throughout", lambda: (0.0, seconds)),
            (rf"At {_NUMBER} s", lambda at: (at, at + 2 * INTERVAL)),
            (rf"Until {_NUMBER} s", lambda end: (0.0, end)),
            (rf"From {_NUMBER} s on", lambda start: (start, seconds)),
            (rf"{_NUMBER} to {_NUMBER} s", lambda start, end: (start, end)),
        ):
            if found := re.fullmatch(pattern, when):
                yield times(*map(float, found.groups())), set(re.findall(r"\w+", rest))


def _words_of(predicate: str) -> set[str]:
    phrase = ACTION_GENOME.group_of(predicate).phrase(predicate)
    return set(phrase.split()) - _PLACEHOLDERS


def _nouns_of(label: str) -> set[str]:
    return set(ACTION_GENOME.noun(label).singular.split())


def _relation(predicate: str, thing: int, start: float, end: float) -> Relation:
    ends = (thing, PERSON) if ACTION_GENOME.runs_from_object(predicate) else (PERSON, thing)
    return Relation(
        subject=ends[0], predicate=predicate, object=ends[1], start=start, end=end, score=1, relation_score=None
    )


def _graph(labels: Mapping[int, str], relations: Iterable[Relation], seconds: float) -> SceneGraph:
    """Returns a graph whose objects are all seen in its one frame."""
    objects = [SceneObject(id=id, label=label, score=1, box=_BOX) for id, label in sorted(labels.items())]
    return SceneGraph(
        id="0" * 32,
        video=Video(sha256="0" * 64, width=1, height=1, duration=seconds, frame_rate=None, codec="none"),
        model=ModelReference(name="none", version="1", engine="none", precision="none"),
        options=Options(fps=1 / INTERVAL, start=0, end=None, max_frames=3600, min_score=0, top_k=20, constraint="with"),
        frames=[Frame(index=0, timestamp=0, objects=objects, triplets=[])],
        relations=list(relations),
        prompt="",
        timings={},
        warnings=[],
    )
