"""Queries in SQL find what docs/search.md says: they are compared with a plain evaluation, on random graphs."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from models.graph.scene_graph import Options
from models.graph.vocabulary import PredicateGroup, Vocabulary
from service.archive.tables import Rows, options_json, table_of
from service.search.errors import QueryError
from service.search.moments import find_in_rows
from service.search.queries import parse
from service.search.words import Words
from tests.support.plain_search import Part, PlainRelation, PlainThing, PlainVideo, evaluate

VOCABULARY = Vocabulary(
    objects=("person", "cup/glass", "bag", "bed"),
    groups=(
        PredicateGroup(name="contact", predicates=("holding", "touching", "away_from"), says_little=("away_from",)),
        PredicateGroup(name="place", predicates=("behind",), direction="object_to_subject"),
    ),
)
WORDS = Words.of(VOCABULARY, label_groups={"goods": ("glass", "bag"), "unknown": ("zebra",)})
LABELS = {
    "person": {"person"},
    "People": {"person"},
    "cup": {"cup/glass"},
    '"cup/glass"': {"cup/glass"},
    "goods": {"cup/glass", "bag"},
    "bag|bed": {"bag", "bed"},
    "anything": None,
}
PREDICATES = {
    "holding": {"holding"},
    "touching": {"touching"},
    "behind": {"behind"},
    "contact": {"holding", "touching"},
    "holding|behind": {"holding", "behind"},
    "related_to": None,
}
RELATIONS = [
    "before",
    "after",
    "meets",
    "met_by",
    "overlaps",
    "overlapped_by",
    "starts",
    "started_by",
    "during",
    "contains",
    "finishes",
    "finished_by",
    "equals",
]
TIMES = st.integers(0, 12).map(lambda step: step / 2) | st.sampled_from([0.4999, 1.501, 2.2])
SCORES = st.sampled_from([0.1, 0.5, 0.6, 0.9])


@st.composite
def videos(draw: st.DrawFn, key: str) -> PlainVideo:
    kinds = draw(st.lists(st.sampled_from(VOCABULARY.objects), min_size=1, max_size=4))
    objects = {}
    for id, label in enumerate(kinds, 1):
        first, last = sorted((draw(TIMES), draw(TIMES)))
        objects[id] = (label, first, last, draw(SCORES))
    relations = {}
    for _ in range(draw(st.integers(0, 7))):
        subject, thing = draw(st.sampled_from(sorted(objects))), draw(st.sampled_from(sorted(objects)))
        start, end = sorted((draw(TIMES), draw(TIMES)))
        predicate = draw(st.sampled_from(VOCABULARY.predicates))
        key_of_relation = (subject, predicate, thing, start)
        scores = draw(SCORES), draw(st.none() | SCORES)
        relations[key_of_relation] = PlainRelation(key_of_relation, subject, predicate, thing, start, end, *scores)
    path = draw(st.sampled_from([None, "a.mp4", "x/a.mp4", "x/b_1.mp4", "100%.mp4"]))
    begins, ends = draw(st.sampled_from([(0.0, 7.0), (1.0, 5.5)]))
    return PlainVideo(key, path, draw(st.sampled_from([0.5, 1.0])), (begins, ends), objects, tuple(relations.values()))


def rows_of(video: PlainVideo) -> dict[str, list[dict[str, Any]]]:
    shared = {"video": video.key, "owner": "", "interval": video.interval}
    begins, ends = video.seen
    options = Options(fps=2, start=begins, end=None, max_frames=99, min_score=0, top_k=9, constraint="with")
    labels = {id: label for id, (label, *_) in video.objects.items()}
    described = {"path": video.path, "options": options_json(options), "frames": 9, "duration": ends}
    return {
        "videos": [shared | described],
        "objects": [
            shared | {"id": id, "label": label, "first": first, "last": last, "score": score}
            for id, (label, first, last, score) in video.objects.items()
        ],
        "relations": [
            shared
            | {name: getattr(one, name) for name in PlainRelation.__dataclass_fields__ if name != "key"}
            | {"subject_label": labels[one.subject], "object_label": labels[one.object]}
            for one in video.relations
        ],
    }


@st.composite
def things(draw: st.DrawFn) -> tuple[str, PlainThing]:
    word = draw(st.sampled_from(list(LABELS)))
    variable = draw(st.none() | st.sampled_from(["a", "b"]))
    if variable and draw(st.booleans()):
        return variable, PlainThing(variable, variable=variable)
    labels = LABELS[word]
    thing = PlainThing(word.strip('"'), None if labels is None else frozenset(labels), variable)
    return f"{word} {variable}" if variable else word, thing


@st.composite
def counted(draw: st.DrawFn) -> tuple[str, PlainThing]:
    word = draw(st.sampled_from(list(LABELS)))
    bound, number = draw(st.sampled_from(["", "at least", "at most", "exactly"])), draw(st.integers(1, 3))
    labels = LABELS[word]
    thing = PlainThing(
        word.strip('"'), None if labels is None else frozenset(labels), None, (bound or "at least", number)
    )
    return f"{bound} {number} {word}", thing


@st.composite
def triples(draw: st.DrawFn) -> tuple[str, Part]:
    sides = [draw(things()), draw(things())]
    if draw(st.integers(0, 5)) == 0:
        sides[draw(st.integers(0, 1))] = draw(counted())
    predicate = draw(st.sampled_from(list(PREDICATES)))
    text = f"{sides[0][0]} {predicate} {sides[1][0]}"
    return text, ("triple", sides[0][1], PREDICATES[predicate], sides[1][1])


OR, AND, SEQUENCE, LASTING, NEGATED, FILTERED, ATOM = range(7)


@st.composite
def queries(draw: st.DrawFn, depth: int = 3) -> tuple[str, Part, int]:
    """A text, what it means, and how tightly it binds."""

    def inner(level: int) -> tuple[str, Part]:
        text, part, binds = draw(queries(depth - 1))
        return (text if binds >= level else f"({text})"), part

    kinds = ["triple"] * 3 + ["presence", "video"]
    if depth:
        kinds += ["for", "with", "path", "not", "without", "and", "and", "and", "or", "relation", "relation", "then"]
    kind = draw(st.sampled_from(kinds))
    if kind == "triple":
        return *draw(triples()), ATOM
    if kind == "presence":
        text, thing = draw(things() | counted())
        return text, ("presence", thing), ATOM
    if kind == "video":
        return "video", ("video",), ATOM
    if kind == "for":
        text, part = inner(LASTING)
        bound, seconds = (
            draw(st.sampled_from(["", "at least", "at most", "exactly"])),
            draw(st.sampled_from([0.5, 1, 2.5])),
        )
        spelled = draw(st.sampled_from([f"{seconds}s", f"{seconds * 1000:g} ms", f"{seconds} seconds"]))
        return f"{text} for {bound} {spelled}", ("for", part, bound or "at least", seconds), LASTING
    if kind == "with":
        text, part = inner(FILTERED)
        name, comparison = (
            draw(st.sampled_from(["score", "relation_score"])),
            draw(st.sampled_from([">=", "<=", ">", "<"])),
        )
        value = draw(st.sampled_from([0.5, 0.7, 1]))
        return f"{text} with {name} {comparison} {value}", ("with", part, name, comparison, value), FILTERED
    if kind == "path":
        text, part = inner(FILTERED)
        pattern = draw(st.sampled_from(["a.mp4", "x/*", "b_1.mp4", "a_mp4", "%", "*.mp4", "100%.mp4", "*"]))
        return f'{text} in video "{pattern}"', ("path", part, pattern), FILTERED
    if kind == "not":
        text, part = inner(NEGATED)
        return f"not {text}", ("not", part), NEGATED
    if kind in ("without", "and"):
        left, right = inner(AND), inner(SEQUENCE)
        return f"{left[0]} {kind} {right[0]}", (kind, left[1], right[1]), AND
    if kind == "or":
        left, right = inner(OR), inner(AND)
        return f"{left[0]} OR {right[0]}", ("or", left[1], right[1]), OR
    left, right = inner(SEQUENCE), inner(LASTING)
    if kind == "then":
        within = draw(st.none() | st.sampled_from([0.5, 2.0]))
        limit = "" if within is None else f"within {within}s"
        return f"{left[0]} then {limit} {right[0]}", ("then", left[1], right[1], within), SEQUENCE
    relation = draw(st.sampled_from(RELATIONS))
    return f"{left[0]} {relation} {right[0]}", (relation, left[1], right[1]), SEQUENCE


@settings(
    max_examples=int(os.environ.get("SEARCH_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(queries(), videos("aaaaaaaaaaaa"), videos("bbbbbbbbbbbb"))
def test_moments_in_sql_are_those_of_the_definitions(
    query: tuple[str, Part, int], first: PlainVideo, second: PlainVideo
) -> None:
    text, part, _ = query
    try:
        understood = parse(text, WORDS)
    except QueryError as error:
        if "named elsewhere" in str(error) or "other way" in str(error) or "give at most" in str(error):
            reject()
        raise
    parts = [rows_of(video) for video in (first, second)]
    names = ("videos", "objects", "relations")
    rows: Rows = {name: table_of(name, (row for rows in parts for row in rows[name])) for name in names}
    found = [(moment.video, answer_of(moment)) for moment in find_in_rows(rows, understood)]
    expected = [(video.key, answer) for video in (first, second) for answer in evaluate(part, video)]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def answer_of(moment: Any) -> tuple[Any, ...]:
    proof = sorted((one.subject, one.predicate, one.object, one.start) for one in moment.relations)
    objects = tuple(sorted(moment.objects.items()))
    return moment.start, moment.end, moment.score, moment.relation_score, objects, tuple(proof)
