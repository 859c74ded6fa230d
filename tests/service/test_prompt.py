"""The caption prompt reads as sentences, says what matters first and fits its budget."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scene_graph import Frame, Relation, SceneObject
from models.vocabulary import OBJECT_CLASSES, PREDICATES, runs_from_object
from service.prompt import MIN_TOKENS, Appearances, build_messages, build_prompt, count_tokens


def frame(*labels: str, index: int = 0, first_id: int = 1) -> Frame:
    things = [
        SceneObject(id=identity, label=label, score=0.9, box=(0, 0, 9, 9))
        for identity, label in enumerate(labels, start=first_id)
    ]
    return Frame(index=index, timestamp=index / 2, objects=things, triplets=[])


def holds(predicate: str, thing: int = 2, start: float = 0.0, end: float = 3.5, score: float = 0.8, **rest) -> Relation:
    """A relation of person 1 (or `person`) and a thing, in Action Genome's direction."""
    ends = (rest.pop("person", 1), thing)
    subject, object_ = ends[::-1] if runs_from_object(predicate) else ends
    relevance = rest.pop("relevance", None)
    return Relation(
        subject=subject,
        predicate=predicate,
        object=object_,
        start=start,
        end=end,
        score=score,
        relation_score=relevance,
    )


def story(prompt: str) -> list[str]:
    return prompt.partition("What happens")[2].partition(":\n")[2].split("\n")


SENTENCES = {
    "looking_at": "the person looks at the cup or bottle",
    "not_looking_at": "the person does not look at the cup or bottle",
    "unsure": "the person may be looking at the cup or bottle",
    "above": "the cup or bottle is above the person",
    "beneath": "the cup or bottle is beneath the person",
    "in_front_of": "the cup or bottle is in front of the person",
    "behind": "the cup or bottle is behind the person",
    "on_the_side_of": "the cup or bottle is beside the person",
    "in": "the person is in the cup or bottle",
    "carrying": "the person carries the cup or bottle",
    "covered_by": "the person is covered by the cup or bottle",
    "drinking_from": "the person drinks from the cup or bottle",
    "eating": "the person eats the cup or bottle",
    "have_it_on_the_back": "the person has the cup or bottle on their back",
    "holding": "the person holds the cup or bottle",
    "leaning_on": "the person leans on the cup or bottle",
    "lying_on": "the person lies on the cup or bottle",
    "not_contacting": "the person does not touch the cup or bottle",
    "other_relationship": "the person interacts with the cup or bottle",
    "sitting_on": "the person sits on the cup or bottle",
    "standing_on": "the person stands on the cup or bottle",
    "touching": "the person touches the cup or bottle",
    "twisting": "the person twists the cup or bottle",
    "wearing": "the person wears the cup or bottle",
    "wiping": "the person wipes the cup or bottle",
    "writing_on": "the person writes on the cup or bottle",
}


def test_the_whole_prompt_of_a_small_graph() -> None:
    frames = [frame("person", "cup/glass/bottle", "chair")]
    relations = [holds("holding"), holds("looking_at"), holds("in_front_of"), holds("sitting_on", 3, 4.0, 10.0)]
    assert build_prompt(Appearances.of(frames), relations, duration=10.0) == (
        "The following was read from a 10-second video by a scene-graph model. "
        "Write one short caption for the video.\n"
        "People and things: a person, a chair, a cup or bottle.\n"
        "What happens, most relevant first:\n"
        "4 to 10 s: the person sits on the chair.\n"
        "0 to 3.5 s: the person holds and looks at the cup or bottle, which is in front of them."
    )


def test_every_predicate_has_a_sentence() -> None:
    assert set(SENTENCES) == set(PREDICATES)


@pytest.mark.parametrize("predicate", PREDICATES)
def test_a_predicate_reads_as_a_sentence(predicate: str) -> None:
    prompt = build_prompt(Appearances.of([frame("person", "cup/glass/bottle")]), [holds(predicate)], duration=10.0)
    assert story(prompt) == [f"0 to 3.5 s: {SENTENCES[predicate]}."]


@pytest.mark.parametrize("label", OBJECT_CLASSES[1:])
def test_no_name_keeps_its_slash(label: str) -> None:
    prompt = build_prompt(Appearances.of([frame("person", label)]), [holds("holding")], duration=10.0)
    assert "/" not in prompt
    assert f"holds the {label.split('/')[0] if label != 'paper/notebook' else 'notebook'}" in prompt


@pytest.mark.parametrize(
    ("predicates", "sentence"),
    [
        (["holding", "looking_at"], "the person holds and looks at the bag"),
        (["wiping", "holding", "touching", "looking_at"], "the person wipes, holds, touches and looks at the bag"),
        (["have_it_on_the_back", "looking_at"], "the person has the bag on their back and looks at it"),
        (["in_front_of", "above"], "the bag is in front of and above the person"),
        (["in", "looking_at"], "the person looks at and is in the bag"),
        (["carrying", "on_the_side_of"], "the person carries the bag, which is beside them"),
    ],
)
def test_predicates_of_a_pair_and_a_time_share_a_sentence(predicates: list[str], sentence: str) -> None:
    relations = [holds(predicate, score=0.8 - 0.01 * rank) for rank, predicate in enumerate(predicates)]
    assert story(build_prompt(Appearances.of([frame("person", "bag")]), relations, duration=10.0)) == [
        f"0 to 3.5 s: {sentence}."
    ]


def test_predicates_of_nearly_the_same_time_share_a_sentence_and_others_do_not() -> None:
    relations = [
        holds("holding", end=4.0),
        holds("looking_at", end=3.5, score=0.5),
        holds("touching", start=3.0, end=4.0),
    ]
    assert story(build_prompt(Appearances.of([frame("person", "bag")]), relations, duration=10.0)) == [
        "0 to 4 s: the person holds and looks at the bag.",
        "3 to 4 s: the person touches the bag.",
    ]


def test_plural_nouns_take_plural_verbs() -> None:
    relations = [holds("have_it_on_the_back"), holds("looking_at"), holds("behind", 3)]
    prompt = build_prompt(Appearances.of([frame("person", "groceries", "clothes")]), relations, duration=10.0)
    assert "some groceries, some clothes" in prompt or "some clothes, some groceries" in prompt
    assert "has the groceries on their back and looks at them" in prompt
    assert "the clothes are behind the person" in prompt


def test_what_says_little_is_left_out_beside_what_says_more() -> None:
    relations = [holds("holding"), holds("not_looking_at", score=0.9), holds("unsure", start=1, end=2, score=0.9)]
    assert story(build_prompt(Appearances.of([frame("person", "bag")]), relations, duration=10.0)) == [
        "0 to 3.5 s: the person holds the bag."
    ]


def test_what_says_little_is_told_last_where_nothing_else_holds() -> None:
    relations = [holds("not_looking_at", score=1.0), holds("not_contacting", score=0.9), holds("behind", 3, score=0.1)]
    prompt = build_prompt(Appearances.of([frame("person", "bag", "bed")]), relations, duration=10.0)
    assert story(prompt) == [
        "0 to 3.5 s: the bed is behind the person; the person does not touch and does not look at the bag."
    ]


def test_a_weak_touch_under_a_strong_denial_is_not_told() -> None:
    relations = [holds("not_contacting", score=0.8), holds("touching", score=0.5), holds("behind", score=0.6)]
    assert story(build_prompt(Appearances.of([frame("person", "bed")]), relations, duration=10.0)) == [
        "0 to 3.5 s: the bed is behind the person."
    ]


def test_a_predicate_far_behind_the_best_of_its_group_is_not_told() -> None:
    relations = [holds("holding", score=0.8), holds("eating", score=0.3), holds("touching", score=0.5)]
    assert story(build_prompt(Appearances.of([frame("person", "food")]), relations, duration=10.0)) == [
        "0 to 3.5 s: the person holds and touches the food."
    ]


def test_several_of_a_label_are_numbered() -> None:
    frames = [frame("person", "chair", "chair", "food", "food", "person")]
    relations = [holds("sitting_on", 2), holds("behind", 3), holds("eating", 5, person=6)]
    prompt = build_prompt(Appearances.of(frames), relations, duration=10.0)
    assert "two people, two chairs, two items of food." in prompt
    assert "the first person sits on the first chair" in prompt
    assert "the second chair is behind the first person" in prompt
    assert "the second person eats the second item of food" in prompt


def test_what_is_never_there_at_the_same_time_shares_a_name() -> None:
    frames = [frame("person", "chair"), frame("person", "chair", index=1, first_id=3)]
    prompt = build_prompt(Appearances.of(frames), [holds("sitting_on", 4, person=3)], duration=10.0)
    assert "a person, a chair." in prompt
    assert "the person sits on the chair" in prompt


def test_a_crowd_is_counted() -> None:
    frames = [frame("person", *["shoe"] * 13)]
    prompt = build_prompt(Appearances.of(frames), [holds("wearing", 2), holds("holding", 14)], duration=10.0)
    assert "13 shoes" in prompt
    assert "wears the first shoe" in prompt
    assert "holds shoe number 13" in prompt


def test_the_most_relevant_by_relation_score_is_kept() -> None:
    frames = [frame("person", "person", "refrigerator", "refrigerator", "bag")]
    relations = [
        holds("behind", 3, end=10.5, score=0.9, relevance=0.2),
        holds("holding", 5, start=4.0, end=4.5, score=0.4, relevance=0.9),
    ]
    (kept,) = story(build_prompt(Appearances.of(frames), relations, duration=12.0, max_tokens=MIN_TOKENS))
    assert kept == "4 to 4.5 s: the first person holds the bag."


def test_the_most_relevant_by_relation_score_is_told_and_named_first_however_brief() -> None:
    def told(bag: float | None, chair: float | None) -> tuple[list[str], str]:
        relations = [
            holds("sitting_on", 2, end=9.0, score=0.9, relevance=chair),
            holds("holding", 3, start=4.0, end=4.5, score=0.4, relevance=bag),
        ]
        prompt = build_prompt(Appearances.of([frame("person", "chair", "bag")]), relations, duration=12.0)
        return story(prompt), prompt.split("\n")[1]

    sits, holds_it = "0 to 9 s: the person sits on the chair.", "4 to 4.5 s: the person holds the bag."
    assert told(bag=0.9, chair=0.2) == ([holds_it, sits], "People and things: a person, a bag, a chair.")
    assert told(bag=0.2, chair=0.9) == ([sits, holds_it], "People and things: a person, a chair, a bag.")
    assert told(bag=None, chair=None) == ([sits, holds_it], "People and things: a person, a chair, a bag.")


def test_without_a_relation_score_what_lasts_is_kept() -> None:
    frames = [frame("person", "person", "refrigerator", "refrigerator", "bag")]
    relations = [holds("behind", 3, end=10.5, score=0.6), holds("holding", 5, start=4.0, end=4.5, score=0.9)]
    (kept,) = story(build_prompt(Appearances.of(frames), relations, duration=12.0, max_tokens=MIN_TOKENS))
    assert kept == "0 to 10.5 s: the first refrigerator is behind the first person."


def test_the_least_relevant_sentences_are_dropped_and_the_rest_stays_in_order() -> None:
    labels = ["bag", "bed", "book", "box", "broom", "chair", "dish", "door"]
    relations = [
        holds("holding", number, start=float(number), end=number + 1.0, relevance=round(0.1 * ((5 * number) % 11), 1))
        for number in range(2, 10)
    ]
    whole = story(build_prompt(Appearances.of([frame("person", *labels)]), relations, duration=None))
    short = story(build_prompt(Appearances.of([frame("person", *labels)]), relations, duration=None, max_tokens=130))
    assert len(whole) == 8
    assert 0 < len(short) < 8
    assert short == [line for line in whole if line in short]
    relevance = {labels[number - 2]: relations[number - 2].relation_score for number in range(2, 10)}
    told = {relevance[label] for label in labels if any(label in line for line in short)}
    assert told == set(sorted(relevance.values(), reverse=True)[: len(short)])


def test_sentences_of_one_time_share_a_line_and_the_whole_time_is_said_so() -> None:
    frames = [frame("person", "bag", "bed")]
    relations = [holds("holding", end=10.0), holds("behind", 3, end=10.0)]
    assert story(build_prompt(Appearances.of(frames), relations, duration=10.0)) == [
        "The whole time: the person holds the bag; the bed is behind the person."
    ]


def test_a_moment_is_told_as_a_moment() -> None:
    prompt = build_prompt(
        Appearances.of([frame("person", "bag")]), [holds("holding", start=0.0, end=0.0)], duration=None
    )
    assert story(prompt) == ["At 0 s: the person holds the bag."]


def test_nothing_found_is_said() -> None:
    for frames in ([], [frame()]):
        prompt = build_prompt(Appearances.of(frames), [], duration=12.4, max_tokens=MIN_TOKENS)
        assert prompt.startswith("No people or relations were found in this 12.4-second video")
        assert count_tokens(prompt) <= MIN_TOKENS


def test_people_without_relations_are_named_and_the_lack_is_said() -> None:
    prompt = build_prompt(Appearances.of([frame("person", "person", "bed")]), [], duration=3.0)
    assert prompt.endswith("two people, a bed.\nNo relations between them were found.")


def test_frames_pass_by_and_are_remembered() -> None:
    frames = [frame("person"), frame(index=1), frame("person", "bag", index=2)]
    appearances = Appearances()
    assert list(appearances.counting(iter(frames))) == frames
    assert appearances == Appearances.of(frames)
    assert appearances == Appearances(
        labels={1: "person", 2: "bag"},
        first={1: 0, 2: 2},
        last={1: 2, 2: 2},
        scores={"person": 1.8, "bag": 0.9},
        frame_count=3,
    )


def test_a_budget_in_which_nothing_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens must be at least 60, not 59"):
        build_prompt(Appearances.of([]), [], duration=None, max_tokens=MIN_TOKENS - 1)


def test_at_the_least_budget_one_sentence_is_told() -> None:
    predicates = ["drinking_from", "have_it_on_the_back", "looking_at", "in_front_of", "on_the_side_of"]
    relations = [
        holds(name, 3, person=2, start=1234.5, end=1299.5, score=0.8 - 0.01 * rank)
        for rank, name in enumerate(predicates)
    ]
    frames = [frame("person", "person", "cup/glass/bottle", "cup/glass/bottle")]
    prompt = build_prompt(Appearances.of(frames), relations, duration=1300.0, max_tokens=MIN_TOKENS)
    assert story(prompt) == ["1234.5 to 1299.5 s: the second person drinks from the first cup or bottle."]


def test_no_numbers_of_the_model_reach_the_prompt() -> None:
    prompt = build_prompt(
        Appearances.of([frame("person", "bag")]), [holds("holding", score=0.7312, relevance=0.6421)], duration=10.0
    )
    assert not re.search(r"0\.\d\d", prompt)


def test_messages_are_a_system_and_a_user_message() -> None:
    system, user = build_messages("The person holds the bag.")
    assert system["role"] == "system"
    assert "caption" in system["content"]
    assert user == {"role": "user", "content": "The person holds the bag."}


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


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Frame], list[Relation], float | None]:
    labels = draw(st.lists(st.sampled_from(OBJECT_CLASSES), max_size=30))
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
            draw(st.sampled_from(PREDICATES)),
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
@given(graphs(), st.integers(MIN_TOKENS, 500))
def test_every_prompt_fits_and_is_made_of_whole_sentences(graph, max_tokens: int) -> None:
    frames, relations, duration = graph
    prompt = build_prompt(Appearances.of(frames), relations, duration=duration, max_tokens=max_tokens)
    assert count_tokens(prompt) <= max_tokens
    assert prompt.endswith(".")
    assert all(line.endswith((".", ":")) for line in prompt.split("\n"))
    told = [line for line in story(prompt) if line]
    assert bool(told) == bool(relations and frames)


@pytest.fixture(scope="module")
def clip_tokens():
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except (ImportError, RuntimeError) as error:  # the latter when torch and torchvision do not match
        pytest.skip(f"open_clip cannot be imported: {error}")
    tokenizer = SimpleTokenizer()
    return lambda text: len(tokenizer.encode(text))


def test_the_count_is_above_what_clip_counts(clip_tokens) -> None:
    frames = [frame(*OBJECT_CLASSES)]
    relations = [
        holds(predicate, thing, start=thing / 3, end=thing / 2)
        for thing in range(2, 37)
        for predicate in PREDICATES[thing % 3 :: 3]
    ]
    prompt = build_prompt(Appearances.of(frames), relations, duration=123.4, max_tokens=5000)
    for text in (prompt, *prompt.split("\n"), *build_messages(prompt)[0].values(), *SENTENCES.values()):
        assert clip_tokens(text) <= count_tokens(text)
    assert count_tokens(prompt) < 2 * clip_tokens(prompt)
