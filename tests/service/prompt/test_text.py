"""The prompt reads as sentences, says what matters first and fits its budget, in every form."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph.scene_graph import Frame, Relation, SceneObject
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from service.prompt import FORMS, MIN_TOKENS, Appearances, FormName, build_messages, build_prompt, count_tokens, tell
from tests.support.relations import frame, holds

FRAMES = [frame("person", "cup/glass/bottle", "chair", "bed", "person")]
RELATIONS = [
    holds("holding", score=0.9),
    holds("looking_at"),
    holds("in_front_of"),
    holds("sitting_on", 3, 4.0, 10.0),
    holds("lying_on", 4, 0.0, 10.0, person=5, score=0.47),
]
HEAD = "The following was read from a 10-second video by a scene-graph model. Write one short caption for the video.\n"


def prompt_of(frames: list[Frame], *relations: Relation, duration: float | None = 10.0, **rest) -> str:
    return build_prompt(Appearances.of(frames), relations, ACTION_GENOME, duration=duration, **rest)


def test_the_story_by_time() -> None:
    assert prompt_of(FRAMES, *RELATIONS, form="by_time") == (
        f"{HEAD}What happens, in order:\n"
        "Throughout: the second person lies on the bed.\n"
        "Until 4 s: the first person holds and looks at the cup or bottle.\n"
        "From 4 s on: the first person sits on the chair."
    )


def test_the_story_by_relevance() -> None:
    assert prompt_of(FRAMES, *RELATIONS, form="by_relevance") == (
        f"{HEAD}What happens, most relevant first:\n"
        "From 4 s on: the first person sits on the chair.\n"
        "Throughout: the second person lies on the bed.\n"
        "Until 4 s: the first person holds and looks at the cup or bottle."
    )


def test_the_story_by_person() -> None:
    assert prompt_of(FRAMES, *RELATIONS, holds("looking_at", start=6.0, end=8.0), form="by_person") == (
        f"{HEAD}Who does what:\n"
        "The first person holds the cup or bottle (until 4 s), looks at it (until 4 s, 6 to 8 s), "
        "sits on the chair (from 4 s on).\n"
        "The second person lies on the bed (throughout)."
    )


def test_every_form_is_listed() -> None:
    assert tuple(FORMS) == get_args(FormName)


@pytest.mark.parametrize("form", FORMS)
def test_the_most_telling_events_are_kept_whatever_the_form(form: FormName) -> None:
    labels = ["bag", "bed", "book", "box", "broom", "chair", "dish", "door"]
    relations = [
        holds("holding", number, start=float(number), end=number + 2.0, relevance=round(0.1 * ((5 * number) % 11), 1))
        for number in range(2, 10)
    ]
    appearances = Appearances.of([frame("person", *labels)])
    whole = tell(appearances, relations, ACTION_GENOME, duration=60.0, form=form).events
    short = tell(appearances, relations, ACTION_GENOME, duration=60.0, form=form, max_tokens=90).events
    assert len(whole) == 8
    assert 1 < len(short) < 8
    assert short == whole[: len(short)]
    matters = [event.relation_score for event in whole]
    assert matters == sorted(matters, reverse=True)


@pytest.mark.parametrize("form", FORMS)
def test_all_that_a_telling_states_is_in_its_text(form: FormName) -> None:
    told = tell(Appearances.of(FRAMES), RELATIONS, ACTION_GENOME, duration=10.0, form=form)
    assert len(told.events) == 4
    for words in ("holds", "looks at", "sits on the chair", "lies on the bed", "4 s", "hroughout"):
        assert words in told.text


def test_labels_without_an_event_are_named_when_there_is_room() -> None:
    frames = [frame("person", "bag", "food", "shoe", "shoe", *ACTION_GENOME.objects[7:15])]
    assert "\nAlso there: two shoes, some food, a chair, " in prompt_of(frames, holds("holding"))
    assert prompt_of(frames, holds("holding"), max_tokens=MIN_TOKENS).endswith(
        "\nAlso there: two shoes, some food, a chair, a closet."
    )


def test_a_video_without_objects_gives_a_prompt_that_says_so() -> None:
    for frames in ([], [frame()]):
        prompt = prompt_of(frames, duration=12.4, max_tokens=MIN_TOKENS)
        assert prompt.startswith("No people or relations were found in this 12-second video")
        assert count_tokens(prompt) <= MIN_TOKENS


def test_objects_without_relations_are_named_and_the_prompt_says_that_there_are_none() -> None:
    assert prompt_of([frame("person", "person", "bed")]).endswith(
        "No relations between people and things were found.\nThere are: two people (at 0 s), a bed."
    )


def walk(index: int, *people: int) -> Frame:
    """A frame at `index` / 2 seconds with the people of these ids."""
    things = [SceneObject(id=identity, label="person", score=0.9, box=(0, 0, 9, 9)) for identity in people]
    return Frame(index=index, timestamp=index / 2, objects=things, triplets=[])


def test_the_prompt_of_a_person_alone_says_when_they_are_there() -> None:
    frames = [walk(index, *[1] * (6 <= index < 9), *[2] * (index >= 18)) for index in range(20)]
    assert prompt_of(frames) == (
        f"{HEAD}No relations between people and things were found.\nThere are: a person (3 to 5 s, from 9 s on)."
    )


def test_people_who_are_there_at_different_times_are_told_apart() -> None:
    frames = [walk(index, *[1] * (index < 12), *[2] * (index >= 8)) for index in range(20)]
    assert prompt_of(frames).endswith("\nThere are: two people (the first until 6 s, the second from 4 s on).")
    crowd = [walk(index, *range(1, 2 + index // 2)) for index in range(20)]
    assert prompt_of(crowd, max_tokens=MIN_TOKENS).endswith("\nThere are: ten people.")


def test_people_whom_no_event_names_are_told_beside_those_who_do_something() -> None:
    frames = [frame("person", "cup/glass/bottle", "person", "cup/glass/bottle", index=index) for index in range(20)]
    prompt = prompt_of(frames, holds("holding"))
    assert prompt.endswith(
        "The first person holds the first cup or bottle (until 4 s).\nAlso there: another person (throughout)."
    )


def test_a_budget_in_which_nothing_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens must be at least 60, not 59"):
        prompt_of([], max_tokens=MIN_TOKENS - 1)


@pytest.mark.parametrize("form", FORMS)
def test_at_the_least_budget_one_event_is_told(form: FormName) -> None:
    frames = [frame("person", "person", "cup/glass/bottle", "cup/glass/bottle")]
    relation = holds("drinking_from", 3, person=2, start=4234.5, end=5299.5)
    prompt = prompt_of(frames, relation, duration=13000.5, max_tokens=MIN_TOKENS, form=form)
    assert "second person drinks from the first cup or bottle" in prompt
    assert "71 to 88 min" in prompt


def test_no_numbers_of_the_model_reach_the_prompt() -> None:
    prompt = prompt_of([frame("person", "bag")], holds("holding", score=0.7312, relevance=0.6421))
    assert not re.search(r"0\.\d", prompt)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Frame], list[Relation], float | None]:
    labels = draw(st.lists(st.sampled_from(ACTION_GENOME.objects), max_size=30))
    count = draw(st.integers(1, 3))
    frames = [frame("person", *labels, index=index) for index in range(count)] if draw(st.booleans()) else []
    duration = draw(st.none() | st.floats(0, 1e5))
    if not frames:
        return [frame()] * draw(st.integers(0, 2)), [], duration
    scores = st.floats(0, 1)
    times = st.lists(st.floats(0, 1e5), min_size=2, max_size=2).map(sorted)
    alike = draw(st.lists(times, min_size=1, max_size=3))
    relations = [
        holds(
            draw(st.sampled_from(ACTION_GENOME.predicates)),
            draw(st.integers(1, len(labels) + 1)),
            *draw(st.sampled_from(alike) | times),
            score=draw(scores),
            person=draw(st.integers(1, len(labels) + 1)),
            relevance=draw(st.none() | scores),
        )
        for _ in range(draw(st.integers(0, 25)))
    ]
    return frames, relations, duration


@settings(deadline=None, max_examples=80)
@given(graphs(), st.integers(MIN_TOKENS, 500), st.sampled_from(list(FORMS)))
def test_every_prompt_fits_and_is_made_of_whole_sentences(graph, max_tokens: int, form: FormName) -> None:
    frames, relations, duration = graph
    told = tell(Appearances.of(frames), relations, ACTION_GENOME, duration=duration, max_tokens=max_tokens, form=form)
    assert count_tokens(told.text) <= max_tokens
    assert all(line.endswith((".", ":")) for line in told.text.split("\n"))
    assert bool(told.events) == bool(relations and frames)


@pytest.fixture(scope="module")
def clip_tokens():
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except (ImportError, RuntimeError) as error:  # the latter when torch and torchvision do not match
        pytest.skip(f"open_clip cannot be imported: {error}")
    tokenizer = SimpleTokenizer()
    return lambda text: len(tokenizer.encode(text))


@pytest.mark.parametrize("form", FORMS)
def test_the_count_is_above_what_clip_counts(clip_tokens, form: FormName) -> None:
    frames = [frame(*ACTION_GENOME.objects)]
    relations = [
        holds(predicate, thing, start=thing / 3, end=thing / 2)
        for thing in range(2, 37)
        for predicate in ACTION_GENOME.predicates[thing % 3 :: 3]
    ]
    prompt = prompt_of(frames, *relations, duration=123.4, max_tokens=5000, form=form)
    for text in (prompt, *prompt.split("\n"), build_messages(prompt, ACTION_GENOME)[0]["content"]):
        assert clip_tokens(text) <= count_tokens(text)
    assert count_tokens(prompt) < 2 * clip_tokens(prompt)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("cup", 1),
        ("holds", 2),
        ("refrigerator", 3),
        ("3.5 s:", 5),
        ("a\nb", 3),
        ("a   b", 4),
        ("\u2013\u00e9", 5),
        ("  ", 1),
    ],
)
def test_tokens_are_counted_by_pieces(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_tokens_add_up_over_lines() -> None:
    assert count_tokens("one line") + count_tokens("\nanother") == count_tokens("one line\nanother")


def test_subjects_are_named_by_their_own_nouns() -> None:
    group = PredicateGroup(name="g", predicates=("lifts",))
    vocabulary = Vocabulary(objects=("crate", "person", "robot"), subjects=("robot", "person"), groups=(group,))

    def prompt(*labels: str) -> str:
        return build_prompt(Appearances.of([frame(*labels)]), [], vocabulary, duration=None)

    assert prompt().startswith("No robots, people or relations were found in this video")
    assert prompt("crate", "person").endswith(
        "No relations between robots, people and things were found.\nThere are: a person (at 0:00), a crate."
    )
