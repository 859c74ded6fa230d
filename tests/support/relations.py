"""Frames and relations made by hand."""

from __future__ import annotations

from models.graph.scene_graph import Frame, Relation, SceneObject
from models.graph.vocabulary import ACTION_GENOME


def frame(*labels: str, index: int = 0, first_id: int = 1) -> Frame:
    """A frame at `index` / 2 seconds with these things, whose ids count up."""
    things = [
        SceneObject(id=identity, label=label, score=0.9, box=(0, 0, 9, 9))
        for identity, label in enumerate(labels, start=first_id)
    ]
    return Frame(index=index, timestamp=index / 2, objects=things, triplets=[])


def holds(
    predicate: str,
    thing: int = 2,
    start: float = 0.0,
    end: float = 3.5,
    *,
    score: float = 0.8,
    person: int = 1,
    relevance: float | None = None,
) -> Relation:
    """A relation of a person and a thing, in Action Genome's direction."""
    subject, object_ = (thing, person) if ACTION_GENOME.runs_from_object(predicate) else (person, thing)
    return Relation(
        subject=subject,
        predicate=predicate,
        object=object_,
        start=start,
        end=end,
        score=score,
        relation_score=relevance,
    )
