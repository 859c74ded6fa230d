"""Scripts of scenes: the predictions of a model, written the way one would tell them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import Frame, Relation
from models.graph.vocabulary import ACTION_GENOME as VOCABULARY
from service.graph import GraphBuilder

Box = tuple[float, float, float, float]

STANDING = (0.3, 0.2, 0.5, 0.9)  # where the one person of most scenes is


@dataclass
class Said:
    """One slot: a person, a thing and the predicates between them. `also` gives other classes a score.

    `doubts` holds the epistemic and the aleatoric uncertainty of predicates.
    """

    label: str
    box: Box
    person: Box = STANDING
    score: float = 0.9
    person_score: float = 0.95
    relation: float | None = None
    also: dict[str, float] = field(default_factory=dict)
    doubts: dict[str, tuple[float, float]] = field(default_factory=dict)
    predicates: dict[str, float] = field(default_factory=dict)


def say(label: str, box: Box, person: Box = STANDING, **rest: float | dict[str, Any] | None) -> Said:
    """`say("chair", box, touching=0.8)`: what is no field of `Said` is a predicate."""
    fields = {name: rest.pop(name) for name in ("score", "person_score", "relation", "also", "doubts") if name in rest}
    return Said(label, box, person, predicates=rest, **fields)  # type: ignore[arg-type]


def predict(script: list[list[Said]], slots: int | None = None) -> PairPredictions:
    """The predictions of a model that says `script`, a list of frames; slots beyond what is said hold garbage."""
    frames, slots = len(script), slots or max((len(frame) for frame in script), default=1) or 1
    rng = np.random.default_rng(0)

    def garbage(*depth: int) -> np.ndarray:
        return rng.random((frames, slots, *depth), dtype=np.float32)

    mask = np.zeros((frames, slots), dtype=np.bool_)
    people, things, classes = garbage(4), garbage(4), garbage(36)
    person_scores, relations = garbage(), garbage()
    predicates, epistemic, aleatoric = garbage(26), garbage(26), garbage(26)
    scored = doubted = False
    for t, frame in enumerate(script):
        for p, said in enumerate(frame):
            mask[t, p] = True
            people[t, p], things[t, p], person_scores[t, p] = said.person, said.box, said.person_score
            classes[t, p] = 0
            for label, score in ({said.label: said.score} | said.also).items():
                classes[t, p, VOCABULARY.object_index[label]] = score
            predicates[t, p] = 0.01
            for predicate, score in said.predicates.items():
                predicates[t, p, VOCABULARY.predicate_index[predicate]] = score
            if said.relation is not None:
                scored, relations[t, p] = True, said.relation
            for predicate, (of_model, of_video) in said.doubts.items():
                doubted, column = True, VOCABULARY.predicate_index[predicate]
                epistemic[t, p, column], aleatoric[t, p, column] = of_model, of_video
    return PairPredictions(
        mask,
        people,
        person_scores,
        things,
        classes,
        predicates,
        relation_scores=relations if scored else None,
        epistemic=epistemic if doubted else None,
        aleatoric=aleatoric if doubted else None,
    )


def moved(box: Box, right: float = 0.0, down: float = 0.0) -> Box:
    """The box, moved by fractions of the picture."""
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def clip_of(predictions: PairPredictions, start: int, stop: int) -> PairPredictions:
    """Some frames of the predictions."""
    arrays = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    return PairPredictions(**{name: None if array is None else array[start:stop] for name, array in arrays.items()})


def make_builder(**options: Any) -> GraphBuilder:
    """A builder that shows nearly everything, but for these options."""
    defaults = {
        "vocabulary": VOCABULARY,
        "width": 640,
        "height": 360,
        "thresholds": Thresholds(object_score=0.2, predicate_score=0.2, duplicate_iou=0.6),
        "scoring": Scoring(),
        "statements": Statements(),
        "min_score": 0,
        "top_k": 100,
        "constraint": "with",
    }
    return GraphBuilder(**defaults | options)


def build(
    predictions: PairPredictions, cuts: Iterable[int] = (), interval: float = 0.5, **options: Any
) -> tuple[list[Frame], list[Relation]]:
    """The graph of a video whose predictions came in clips that were cut before these frames."""
    times = options.pop("timestamps", np.arange(len(predictions)) * interval)
    builder = make_builder(**options)
    for start, stop in pairwise([0, *sorted(cuts), len(predictions)]):
        builder.add(clip_of(predictions, start, stop), times[start:stop])
    graph = builder.finish()
    assert len(graph) == len(predictions)
    return list(graph.frames()), graph.relations


@pytest.fixture(scope="session")
def stage() -> SimpleNamespace:
    """Helpers to write a scene."""
    return SimpleNamespace(say=say, predict=predict, moved=moved, standing=STANDING, build=build, builder=make_builder)
