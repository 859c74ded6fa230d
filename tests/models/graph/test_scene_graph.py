"""The graph refuses what would contradict itself, and comes back from JSON as it went in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.graph.scene_graph import Frame, SceneGraph, SceneObject, Triplet
from models.graph.vocabulary import ACTION_GENOME

PERSON = {"id": 1, "label": "person", "score": 0.98, "box": (1.0, 2.0, 30.0, 40.0)}
CUP = {"id": 4, "label": "cup/glass/bottle", "score": 0.9, "box": (5.0, 6.0, 9.0, 9.5)}
HOLDING = {
    "subject": 1, "predicate": "holding", "object": 4, "group": "contacting",
    "predicate_score": 0.91, "relation_score": None, "score": 0.79,
}  # fmt: skip


def content(**changes: Any) -> dict[str, Any]:
    """The JSON of a graph of one frame."""
    return {
        "id": "a",
        "video": {"sha256": "0", "width": 64, "height": 48, "duration": None, "frame_rate": 25.0, "codec": "h264"},
        "model": {"name": "tiny", "version": "1", "engine": "CPUExecutionProvider", "precision": "fp32"},
        "options": {
            "fps": 2, "start": 0, "end": None, "max_frames": 10, "min_score": 0.2, "top_k": 5, "constraint": "with",
        },
        "frames": [{"index": 0, "timestamp": 0.0, "objects": [PERSON, CUP], "triplets": [HOLDING]}],
        "relations": [
            {"subject": 1, "predicate": "holding", "object": 4, "start": 0, "end": 1, "score": 1,
             "relation_score": None}
        ],
        "prompt": "A person holds a cup.",
        "timings": {"total": 1.5},
        "warnings": [{"code": "cut_short", "detail": "…"}],
        **changes,
    }  # fmt: skip


def test_a_graph_survives_json() -> None:
    graph = SceneGraph.model_validate(content())
    assert graph.status == "succeeded"
    assert SceneGraph.model_validate_json(graph.model_dump_json()) == graph


def test_a_graph_without_a_vocabulary_has_that_of_action_genome() -> None:
    graph = SceneGraph.model_validate(content())
    assert graph.vocabulary == ACTION_GENOME
    assert json.loads(graph.model_dump_json())["vocabulary"]["subjects"] == ["person"]


def test_names_are_those_of_the_graphs_own_vocabulary() -> None:
    vocabulary = {
        "objects": ["mug", "robot"],
        "subjects": ["robot"],
        "groups": [{"name": "g", "predicates": ["lifts"]}],
    }
    things = [{**PERSON, "label": "robot"}, {**CUP, "label": "mug"}]
    lifting = {**HOLDING, "predicate": "lifts", "group": "g"}
    frames = [{"index": 0, "timestamp": 0.0, "objects": things, "triplets": [lifting]}]
    own = content(vocabulary=vocabulary, frames=frames, relations=[])
    assert SceneGraph.model_validate(own).frames[0].objects[0].label == "robot"
    with pytest.raises(ValidationError, match="object label 'cup/glass/bottle' is not in the graph's vocabulary"):
        SceneGraph.model_validate(content(vocabulary=vocabulary))


@pytest.mark.parametrize("change", [{"group": "spatial"}, {"predicate": "juggling"}])
def test_a_predicate_outside_its_group_is_refused(change: dict[str, str]) -> None:
    frames = [{"index": 0, "timestamp": 0.0, "objects": [PERSON, CUP], "triplets": [{**HOLDING, **change}]}]
    with pytest.raises(ValidationError, match="is not a predicate of a group"):
        SceneGraph.model_validate(content(frames=frames))


def test_a_relation_outside_the_vocabulary_is_refused() -> None:
    relation = {**content()["relations"][0], "predicate": "juggling"}
    with pytest.raises(ValidationError, match="predicate 'juggling' is not in the graph's vocabulary"):
        SceneGraph.model_validate(content(relations=[relation]))


def test_uncertainty_is_in_the_json_only_where_it_is_known() -> None:
    without = Triplet.model_validate(HOLDING)
    assert without.model_dump() == HOLDING, "a relation score that is null stays, an unknown uncertainty does not"
    assert "uncertainty" not in without.model_dump_json()
    sure = {"epistemic": 0.25, "aleatoric": 3.5}
    known = Triplet.model_validate({**HOLDING, "uncertainty": sure})
    assert known.model_dump()["uncertainty"] == sure
    assert Triplet.model_validate_json(known.model_dump_json()) == known


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_an_uncertainty_is_a_number_from_zero_up(value: float) -> None:
    with pytest.raises(ValidationError, match="epistemic"):
        Triplet.model_validate({**HOLDING, "uncertainty": {"epistemic": value, "aleatoric": 0.0}})


@pytest.mark.parametrize("change", [{"score": 1.01}, {"id": 0}, {"colour": "red"}, {"box": (1.0, 2.0, 3.0)}])
def test_an_object_out_of_range_or_with_unknown_fields_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        SceneObject.model_validate({**CUP, **change})


@pytest.mark.parametrize("side", ["subject", "object"])
def test_a_triplet_must_name_objects_of_its_frame(side: str) -> None:
    with pytest.raises(ValidationError, match=r"frame 3: a triplet names object .*7.*not there"):
        Frame.model_validate(
            {"index": 3, "timestamp": 1.5, "objects": [PERSON, CUP], "triplets": [{**HOLDING, side: 7}]}
        )


def test_the_parts_of_a_graph_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Triplet.model_validate(HOLDING).score = 1.0  # type: ignore[misc]
