from __future__ import annotations

import pytest

from benchmarks.questions.__main__ import SECONDS, Case, Mark, marks_of, results, table_of_kinds, table_of_models
from benchmarks.questions.answers import is_right, share_in_common
from benchmarks.questions.asking import INTERVAL, Fact, facts_of, questions_of
from benchmarks.questions.graphs import of_prompt, of_triplets, of_truth
from models.graph.scene_graph import Relation
from tests.support.graphs import frame, scene_graph
from training.data.puppets.dataset import story_seed
from training.data.puppets.story import make_story
from training.data.puppets.video import ground_truth
from training.data.puppets.world import WORLDS

BOX = (0.0, 0.0, 9.0, 9.0)
THINGS = [(1, "person", BOX), (2, "cup/glass/bottle", BOX), (3, "bed", BOX)]


@pytest.mark.parametrize("world", WORLDS.values(), ids=lambda world: world.name)
def test_the_truths_graph_gets_every_question_of_twelve_kinds(world) -> None:
    asked = 0
    for index in range(12):
        story = make_story(world, story_seed(77, "test", index), seconds=SECONDS)
        if len(story.cast.acts) == 1:
            continue
        facts = facts_of(ground_truth(story, [step * INTERVAL for step in range(round(SECONDS / INTERVAL))]))
        questions = questions_of(facts, SECONDS, index)
        assert len({question.kind for question in questions}) in (0, 12)
        marks = list(marks_of(questions, of_truth(facts, SECONDS)))
        assert [mark for mark in marks if not mark.proven] == []
        asked += bool(marks)
        if asked == 2:
            return
    pytest.fail("too few stories change")


def test_a_video_in_which_nothing_changes_is_not_asked_about() -> None:
    assert questions_of([Fact("holding", 2, "bed", 0.0, SECONDS)], SECONDS, 0) == []
    changing = [Fact("holding", 2, "bed", 0.0, 3.0), Fact("behind", 2, "bed", 0.0, SECONDS)]
    assert len(questions_of(changing, SECONDS, 0)) == 12


def test_a_wrong_graph_gets_questions_wrong() -> None:
    world = next(iter(WORLDS.values()))
    times = [step * INTERVAL for step in range(round(SECONDS / INTERVAL))]
    asked, other = (facts_of(ground_truth(make_story(world, story_seed(77, "test", i)), times)) for i in (0, 1))
    marks = list(marks_of(questions_of(asked, SECONDS, 0), of_truth(other, SECONDS)))
    assert len(marks) == 12
    assert sum(mark.proven for mark in marks) < 6


def test_every_bundle_is_asked_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.questions.__main__.LEAST_SCORES", (0.2,))
    facts = [Fact("holding", 2, "bed", 0.0, 30.0), Fact("behind", 2, "bed", 0.0, SECONDS)]
    truth = of_truth(facts, SECONDS)
    nothing = truth.model_copy(update={"relations": []})
    case = Case(questions_of(facts, SECONDS, 0), truth, {"sure": truth, "blind": nothing})
    sure, blind = (results([case], model)["model"] for model in ("sure", "blind"))
    assert all(mark.proven for mark in sure)
    assert sum(mark.proven for mark in blind) < 6


def test_tables_give_percent_of_right_and_of_proven_answers() -> None:
    marks = [Mark("who", True, True), Mark("who", True, False), Mark("when", False, False), Mark("when", True, True)]
    none = [Mark("who", False, False)] * 4
    of_bundle = {"model": marks, "prompt": none, "triplets": none}
    assert list(table_of_models({"mine": of_bundle}))[-1] == "| `mine` | 75 / 50 | 0 / 0 | 0 / 0 |"
    rows = list(table_of_kinds({"model": marks}))[2:]
    assert rows == [
        "| who | 100 / 50 |",
        "| when | 50 / 50 |",
        "| all | 75 / 50 |",
    ]


def test_triplets_without_time_hold_all_the_time() -> None:
    held = [(1, "holding", 2)]
    frames = [frame(0, 0.0, THINGS, held), frame(1, 1.0, THINGS)]
    (relation,) = of_triplets(scene_graph(frames, size=(9, 9)), 0.5).relations
    assert (relation.predicate, relation.start, relation.end) == ("holding", 0.0, 2.0)
    assert of_triplets(scene_graph(frames, size=(9, 9)), 0.9).relations == []


def test_a_prompt_says_what_words_of_one_line_say() -> None:
    relations = [
        Relation(subject=1, predicate=predicate, object=thing, start=start, end=end, score=0.9, relation_score=None)
        for predicate, thing, start, end in (("holding", 2, 0, 4), ("lying_on", 3, 0, 4), ("drinking_from", 2, 5, 7))
    ]
    frames = [frame(index, index, THINGS) for index in range(10)]
    graph = of_prompt(scene_graph(frames, size=(9, 9), relations=relations, duration=10.0), 0.5)
    labels = {thing.id: thing.label for thing in graph.frames[0].objects}
    said = {(one.predicate, labels[one.object], one.start, one.end) for one in graph.relations}
    assert ("drinking_from", "cup/glass/bottle", 5.0, 7.0) in said
    assert {("holding", "cup/glass/bottle", 0.0, 4.0), ("lying_on", "bed", 0.0, 4.0)} <= said
    # Words do not tell what belongs together.
    assert ("holding", "bed", 0.0, 4.0) in said


def test_answers_are_right_by_their_kind() -> None:
    assert is_right(frozenset({"cup"}), frozenset({"cup"}))
    assert not is_right(frozenset({"cup", "bed"}), frozenset({"cup"}))
    assert is_right(4.0, 5.0)
    assert not is_right(3.0, 5.0)
    assert is_right(((0.0, 2.0),), ((1.0, 2.0),))
    assert not is_right(((0.0, 2.0),), ((1.5, 2.0),))
    with pytest.raises(TypeError):
        is_right(1.0, frozenset())


def test_times_in_common_are_a_share_of_both_together() -> None:
    assert share_in_common(((0.0, 2.0), (4.0, 6.0)), ((1.0, 5.0),)) == pytest.approx(2 / 6)
    assert share_in_common((), ()) == 1
