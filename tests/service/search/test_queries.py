from __future__ import annotations

import pytest

from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from service.search.errors import QueryError
from service.search.queries import LONGEST_TEXT, parse
from service.search.tree import Both, Count, Either, Lasting, Not, Presence, Related, Scored, Thing, Triple, Without
from service.search.words import Words

WORDS = Words.of(ACTION_GENOME)


def refused(text: str, words: Words = WORDS) -> QueryError:
    with pytest.raises(QueryError) as caught:
        parse(text, words)
    return caught.value


def labels(word: str, words: Words = WORDS) -> tuple[str, ...] | None:
    root = parse(word, words).root
    assert isinstance(root, Presence)
    return root.thing.labels


def test_a_triple_holds_the_vocabularys_names() -> None:
    triple = parse("person drinking_from cup", WORDS).root
    assert triple == Triple(Thing("person", ("person",)), ("drinking_from",), Thing("cup", ("cup/glass/bottle",)))


@pytest.mark.parametrize("word", ["cup", "Glass", "cup/glass/bottle", '"cup/glass/bottle"', "cups", "bottles"])
def test_a_label_is_found_by_its_parts_and_plurals(word: str) -> None:
    assert labels(word) == ("cup/glass/bottle",)


def test_people_and_persons_are_persons() -> None:
    assert labels("people") == labels("persons") == ("person",)


def test_spaces_and_underscores_in_names_are_the_same() -> None:
    words = Words.of(Vocabulary(objects=("person", "dining table"), groups=ACTION_GENOME.groups))
    assert labels("dining_table", words) == labels('"Dining  Table"', words) == ("dining table",)


def test_a_label_goes_before_a_group_of_the_same_name() -> None:
    words = Words.of(ACTION_GENOME, label_groups={"food": ("sandwich",), "meal": ("food", "sandwich", "pizza")})
    assert labels("food", words) == ("food",)
    assert labels("meal", words) == ("food", "sandwich")


def test_several_names_are_joined() -> None:
    assert labels("bed|cup|bed") == ("bed", "cup/glass/bottle")
    assert labels("bed|anything") is None


def test_a_group_of_predicates_leaves_out_those_that_say_little() -> None:
    triple = parse("person attention cup", WORDS).root
    assert isinstance(triple, Triple)
    assert triple.predicates == ("looking_at",)


def test_vocabularies_are_joined() -> None:
    other = Vocabulary(
        objects=("person", "drone"), groups=(PredicateGroup(name="air", predicates=("flying", "behind")),)
    )
    words = Words.of(ACTION_GENOME, other)
    assert labels("drone", words) == ("drone",)
    # The vocabularies disagree on its direction, so either is possible.
    parse("person behind table or table behind person", words)


def test_operators_bind_as_documented() -> None:
    root = parse("bed or cup and not bag for 2s without box during chair", WORDS).root
    assert isinstance(root, Either)
    without = root.right
    assert isinstance(without, Without)
    assert isinstance(without.right, Related)
    both = without.left
    assert isinstance(both, Both)
    assert isinstance(both.right, Lasting)
    assert isinstance(both.right.part, Not)


def test_filters_belong_to_what_not_negates() -> None:
    root = parse("not bed with score >= 0.5", WORDS).root
    assert isinstance(root, Not)
    assert isinstance(root.part, Scored)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2), ("2 seconds", 2), ("1.5 min", 90), ("500ms", 0.5), ("1 h", 3600)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    root = parse(f"bed FOR At Most {text}", WORDS).root
    assert isinstance(root, Lasting)
    assert (root.bound, root.seconds) == ("at most", seconds)


def test_counts_are_at_least_unless_they_say_otherwise() -> None:
    counts = [parse(text, WORDS).root.thing.count for text in ("2 cups", "exactly 1 cup", "at most 3 cups")]
    assert counts == [Count("at least", 2), Count("exactly", 1), Count("at most", 3)]


def test_comments_and_lines_are_passed_over() -> None:
    assert parse("person # who\n  holding cup # what", WORDS).root == parse("person holding cup", WORDS).root


@pytest.mark.parametrize(
    ("text", "line", "column", "expected"),
    [
        ("person dringking_from cup", 1, 8, "drinking_from"),
        ("persn holding cup", 1, 1, "person"),
        ("person holding\n  cpu", 2, 3, "cup"),
        ("person holding then cup", 1, 16, "a name"),
        ("person holding cup while bed", 1, 20, "and"),
        ("(person holding cup", 1, 20, ")"),
        ("person holding cup for 2", 1, 24, "a duration, such as 2s"),
        ("person holding cup for", 1, 23, "a duration, such as 2s"),
        ("person holding cup with score = 1", 1, 31, ">=, <=, > or <"),
        ('person in video "x', 1, 17, 'a text in ""'),
        ("", 1, 1, "a name"),
    ],
)
def test_an_error_names_the_place_and_what_is_known_there(text: str, line: int, column: int, expected: str) -> None:
    error = refused(text)
    assert (error.line, error.column) == (line, column)
    assert expected in error.expected
    assert str(error).startswith(f"line {line}, column {column}: ")
    assert error.pointer.splitlines()[-1] == " " * (column - 1) + "^"
    assert error.problem()["column"] == column


def test_an_unknown_word_that_resembles_none_is_told_all_that_are_known() -> None:
    error = refused("person xxxxxxxx cup")
    assert set(ACTION_GENOME.predicates) <= set(error.expected)
    assert "related_to" in str(error)


def test_an_archive_without_graphs_knows_no_words() -> None:
    assert "there are no graphs here" in str(refused("cup", Words.of()))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("person in_front_of table", "write table in_front_of person"),
        ("table holding person", "write person holding table"),
    ],
)
def test_a_triple_the_wrong_way_round_is_refused_with_the_right_one(text: str, remedy: str) -> None:
    assert remedy in str(refused(text))


def test_one_side_of_a_triple_can_be_counted() -> None:
    assert refused("2 people holding 2 cups").column == 18


def test_what_is_counted_has_no_variable() -> None:
    assert refused("2 people a holding cup").column == 10


@pytest.mark.parametrize("text", ["0 people", "1001 people", "1.5 people"])
def test_only_whole_numbers_are_counted(text: str) -> None:
    assert "give 1 to 1000" in str(refused(text))


@pytest.mark.parametrize(
    "text",
    [
        "not a looking_at phone and (a holding cup or person holding bag)",
        "(not a holding cup) before a holding bag",
        "a holding cup and (not a holding bag for 2s)",
        "bed without (not a holding cup) and a holding bag",
    ],
)
def test_a_variable_that_a_negation_shares_must_be_named_beside_it(text: str) -> None:
    error = refused(text)
    assert "name it there" in str(error)
    assert text[error.column - 1] == "a"


@pytest.mark.parametrize(
    "text",
    [
        "a holding cup and not a holding bag",
        "a holding cup without a holding bag",
        "(a holding cup and bed) and (bag and not a holding bag)",
        "not a holding cup",
        "video without (a holding cup and not a looking_at cup)",
    ],
)
def test_a_variable_that_is_named_beside_a_negation_or_only_in_it_is_taken(text: str) -> None:
    parse(text, WORDS)


def test_a_query_that_is_too_long_or_has_too_many_parts_is_refused() -> None:
    assert str(LONGEST_TEXT) in str(refused("bed " + " " * LONGEST_TEXT))
    assert "give at most 12" in str(refused(" and ".join(["bed"] * 13)))
    assert "in 60" in str(refused("not " * 70 + "bed"))


def test_deep_parentheses_do_no_harm() -> None:
    depth = (LONGEST_TEXT - 10) // 2
    assert parse("(" * depth + "bed" + ")" * depth, WORDS).root == parse("bed", WORDS).root
