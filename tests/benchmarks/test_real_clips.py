"""Graphs of real clips against what was seen in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.errors import BenchError
from benchmarks.real_clips.__main__ import FOLDER, figures, main
from benchmarks.real_clips.judging import Clip, Statement, Truths, judge
from models.graph.bundle import Bundle
from models.graph.scene_graph import Relation, SceneGraph
from tests.support.graphs import frame, scene_graph

ROOT = Path(__file__).parents[2]
BOX = (0.0, 0.0, 10.0, 10.0)
THINGS = [(1, "person", BOX), (2, "book", BOX), (3, "chair", BOX)]


def graph(*said: tuple[str, int, float, float, float]) -> SceneGraph:
    """A graph of ten seconds: predicate, thing, start, end and score of what the person does."""
    relations = [
        Relation(subject=1, predicate=predicate, object=thing, start=start, end=end, score=score, relation_score=None)
        for predicate, thing, start, end, score in said
    ]
    return scene_graph([frame(0, 0.0, THINGS)], size=(10, 10), relations=relations, duration=10.0)


def clip(*true: tuple[str, str, float, float], possible: tuple[Statement, ...] = ()) -> Clip:
    return Clip(source="somebody/something clip.mp4", true=list(true), possible=list(possible))


READS = clip(("holding", "book", 0, 8), ("sitting_on", "chair", 0, 10), possible=(("looking_at", "*"),))


def test_what_is_neither_true_nor_possible_is_false() -> None:
    said = graph(("holding", 2, 0, 4, 0.8), ("looking_at", 2, 0, 9, 0.9), ("touching", 3, 1, 2, 0.5))
    verdict = judge(said, READS, [])
    assert verdict.foremost == [(("holding", "book"), True), (("touching", "chair"), False)]
    assert (verdict.right, verdict.found, verdict.known) == (1, 1, 2)
    assert judge(said, READS, [("touching", "*")]).foremost == [(("holding", "book"), True)]


def test_five_statements_are_judged_those_of_most_score_and_time() -> None:
    predicates = ["touching", "carrying", "wiping", "eating", "twisting", "holding"]
    said = graph(*((predicate, 2, 0, 1, 0.1 * rank) for rank, predicate in enumerate(predicates, 1)))
    foremost = [predicate for (predicate, _), _ in judge(said, READS, []).foremost]
    assert foremost == predicates[:0:-1]


def test_a_truth_is_found_where_a_tenth_of_its_time_is_stated() -> None:
    long = clip(("holding", "book", 0, 50))
    assert judge(graph(("holding", 2, 0, 4.9, 0.8)), long, []).found == 0
    assert judge(graph(("holding", 2, 0, 2.5, 0.8), ("holding", 2, 5, 7.5, 0.8)), long, []).found == 1
    assert judge(graph(("holding", 2, 60, 70, 0.8)), long, []).found == 0


def test_relations_from_a_thing_to_a_person_are_not_judged() -> None:
    behind = Relation(subject=3, predicate="behind", object=1, start=0, end=9, score=0.9, relation_score=None)
    said = scene_graph([frame(0, 0.0, THINGS)], size=(10, 10), relations=[behind])
    assert judge(said, READS, []).foremost == []


def test_figures_are_sums() -> None:
    verdicts = [judge(graph(("holding", 2, 0, 4, 0.8), ("touching", 3, 1, 2, 0.5)), READS, [])] * 2
    assert figures(verdicts) == {"clips": 2, "true": 2, "foremost": 4, "found": 2, "truths": 4}


@pytest.mark.parametrize("name", ["kept", "tuned", "generated"])
def test_truths_name_what_the_default_model_knows(name: str) -> None:
    truths = Truths.model_validate_json((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    vocabulary = Bundle.load(ROOT / "bundles" / "everyday").manifest.vocabulary
    for each in truths.clips.values():
        for predicate, label, start, end in each.true:
            assert start < end
            assert not vocabulary.runs_from_object(predicate)
            assert label in vocabulary.things
        for predicate, label in [*each.possible, *truths.always_possible]:
            assert predicate == "*" or predicate in vocabulary.predicates
            assert label == "*" or label in vocabulary.things


def test_no_clip_is_chosen_on_and_kept() -> None:
    names = [
        Truths.model_validate_json((FOLDER / f"{name}.json").read_text(encoding="utf-8")).clips
        for name in ("kept", "tuned", "generated")
    ]
    sources = [each.source for clips in names for each in clips.values()]
    assert len(set(sources)) == len(sources)


def test_a_folder_without_the_clips_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="save them under the names of the truths, as "):
        CliRunner().invoke(main, [str(tmp_path)], catch_exceptions=False)
