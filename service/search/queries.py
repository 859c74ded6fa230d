"""Reads queries. docs/search.md defines the language.

`parse` resolves every word, so that a tree holds labels and predicates of the vocabulary and nothing of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args
from lark.exceptions import VisitError
from lark.tree import Meta

from models.graph.phrases import listed
from service.search.errors import QueryError, UnknownWord
from service.search.tree import (
    Both,
    Count,
    Either,
    InVideo,
    Lasting,
    Node,
    Not,
    Presence,
    Related,
    Scored,
    Then,
    Thing,
    Triple,
    WholeVideo,
    Without,
    bound_in,
    conjuncts,
    parts_of,
    things_of,
)
from service.search.words import ANYTHING, RELATED_TO, Words

LONGEST_TEXT = 2000  # characters
MOST_TRIPLES = 12
MOST_PARTS = 60
_MOST_SHOWN = 8  # known words in an error's sentence
_SECONDS = {"milli": 0.001, "ms": 0.001, "m": 60.0, "s": 1.0, "h": 3600.0}  # beginning of a unit to its length
# Terminals of the grammar in words. What is missing here is not worth telling.
_TERMINALS = {
    "AND": "and",
    "OR": "or",
    "NOT": "not",
    "WITHOUT": "without",
    "THEN": "then",
    "FOR": "for",
    "WITH": "with",
    "WITHIN": "within",
    "VIDEO": "video",
    "_IN_VIDEO": 'in video "…"',
    "RELATION": "one of Allen's relations, such as during",
    "NAME": "a name",
    "QUOTED": 'a text in ""',
    "VARIABLE": "a variable",
    "DURATION": "a duration, such as 2s",
    "NUMBER": "a number",
    "FIELD": "score or relation_score",
    "COMPARISON": ">=, <=, > or <",
    "LPAR": "(",
    "RPAR": ")",
    "VBAR": "|",
    "$END": "the end",
}


@dataclass(frozen=True)
class Query:
    """A query that was understood."""

    text: str
    root: Node


def parse(text: str, vocabulary: Words) -> Query:
    """Reads a query.

    vocabulary: the words that it may use, such as `Words.of(graph.vocabulary)`.

    Raises QueryError where it cannot be understood.
    """
    if len(text) > LONGEST_TEXT:
        raise QueryError(f"the query has {len(text)} characters: give at most {LONGEST_TEXT}", text=text)
    try:
        root: Node = _Reader(text, vocabulary).transform(_parser().parse(text))
    except UnexpectedInput as error:
        raise _unexpected(error, text) from None
    except VisitError as error:
        if isinstance(error.orig_exc, QueryError):
            raise error.orig_exc from None
        raise
    _check(root, text)
    return Query(text, root)


@cache
def _parser() -> Lark:
    grammar = files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


@v_args(inline=True)
class _Reader(Transformer[Token, Node]):
    """Makes the tree, with a method for each rule of the grammar."""

    def __init__(self, text: str, words: Words) -> None:
        super().__init__()
        self._text = text
        self._words = words

    either = Either
    both = Both
    without = Without
    negation = Not
    whole_video = WholeVideo
    presence = Presence
    by_score = staticmethod(lambda field, comparison, number: (Scored, field.lower(), str(comparison), float(number)))
    by_path = staticmethod(lambda text: (InVideo, text[1:-1]))

    def related(self, left: Node, relation: Token, right: Node) -> Node:
        return Related(left, relation.lower(), right)

    def then(self, left: Node, within: Token | None, right: Node) -> Node:
        return Then(left, right, None if within is None else _seconds(within))

    def timed(self, part: Node, duration: tuple[Any, float]) -> Node:
        return Lasting(part, *duration)

    def duration(self, bound: Token | None, length: Token) -> tuple[Any, float]:
        return _bound(bound), _seconds(length)

    def filtered(self, part: Node, condition: tuple[Any, ...]) -> Node:
        kind, *values = condition
        node: Node = kind(part, *values)
        return node

    def triple(self, subject: Thing, predicates: tuple[str, ...] | None, thing: Thing) -> Node:
        if subject.count and thing.count:
            raise self._error("both sides are counted: count one of them", *thing.place)
        self._check_direction(subject, predicates, thing)
        return Triple(subject, predicates, thing)

    @v_args(meta=True)
    def thing(self, meta: Meta, parts: list[Any]) -> Thing:
        count, names, variable = parts
        if count and variable:
            raise self._error(f"{variable} cannot stand for several objects: leave it out", *_place(variable))
        labels = self._resolved(names, self._words.labels_of, "label", ANYTHING)
        name = str(variable) if variable else "|".join(map(_unquoted, names))
        return Thing(
            name.lower() if variable else name, labels, name.lower() if variable else None, count, _place(meta)
        )

    def variable(self, variable: Token) -> Thing:
        name = variable.lower()
        return Thing(name, None, name, None, _place(variable))

    def predicate(self, names: list[Token]) -> tuple[str, ...] | None:
        return self._resolved(names, self._words.predicates_of, "predicate", RELATED_TO)

    def names(self, *names: Token) -> list[Token]:
        return list(names)

    def name(self, name: Token) -> Token:
        return name

    def count(self, bound: Token | None, number: Token) -> Count:
        if not number.isdecimal() or not 1 <= int(number) <= 1000:
            raise self._error(f"{number} objects cannot be counted: give 1 to 1000", *_place(number))
        return Count(_bound(bound), int(number))

    def _resolved(
        self, names: list[Token], find: Callable[[str], tuple[str, ...] | None], kind: str, wildcard: str
    ) -> tuple[str, ...] | None:
        found: dict[str, None] = {}
        for name in names:
            try:
                known = find(_unquoted(name))
            except UnknownWord as error:
                shown = [*error.known[:_MOST_SHOWN], *["…"] * (len(error.known) > _MOST_SHOWN)]
                remedy = f"use {', '.join(shown)}, or {wildcard} for every one" if shown else "there are no graphs here"
                detail = f"{error.word!r} is not a known {kind}: {remedy}"
                raise self._error(detail, *_place(name), expected=error.known) from None
            if known is None:
                return None
            found |= dict.fromkeys(known)
        return tuple(found)

    def _check_direction(self, subject: Thing, predicates: tuple[str, ...] | None, thing: Thing) -> None:
        """Raises QueryError where a triple reads the wrong way round, so that nothing could ever match."""
        if predicates is None or subject.labels is None or thing.labels is None:
            return
        subjects, first, second = set(self._words.subjects), set(subject.labels), set(thing.labels)
        if first <= subjects and not second & subjects:
            wrong = True
        elif second <= subjects and not first & subjects:
            wrong = False
        else:
            return
        if all(self._words.predicates[predicate] is wrong for predicate in predicates):
            detail = f"{predicates[0]} runs the other way: write {thing.name} {predicates[0]} {subject.name}"
            raise self._error(detail, *subject.place)

    def _error(self, detail: str, line: int, column: int, *, expected: Sequence[str] = ()) -> QueryError:
        return QueryError(detail, text=self._text, line=line, column=column, expected=expected)


def _check(root: Node, text: str) -> None:
    """Raises QueryError where a query is too large, or has a variable that `not` or `without` cannot know."""
    parts = list(parts_of(root))
    triples = sum(isinstance(part, Triple | Presence) for part in parts)
    if triples > MOST_TRIPLES or len(parts) > MOST_PARTS:
        detail = f"the query has {triples} triples in {len(parts)} parts: give at most {MOST_TRIPLES} in {MOST_PARTS}"
        raise QueryError(detail, text=text)
    everywhere = _occurrences(root)
    bound: dict[int, set[str]] = {}  # of negated nodes, by identity: variables that what they are taken from binds
    for part in parts:
        if isinstance(part, Without):
            bound[id(part.right)] = bound_in(part.left)
        elif isinstance(part, Both):
            chain = conjuncts(part)
            known = set().union(*map(bound_in, chain))
            bound |= {id(node.part): bound.get(id(node.part), set()) | known for node in chain if isinstance(node, Not)}
        elif isinstance(part, Not):
            bound.setdefault(id(part.part), set())
    for part in parts:
        if id(part) not in bound:
            continue
        inside = _occurrences(part)
        for thing in things_of(part):
            name = thing.variable
            if name is not None and everywhere[name] > inside[name] and name not in bound[id(part)]:
                detail = f"{name} is named elsewhere too, but not in what the negation is taken from: name it there"
                line, column = thing.place
                raise QueryError(detail, text=text, line=line, column=column)


def _occurrences(node: Node) -> Counter[str]:
    return Counter(thing.variable for thing in things_of(node) if thing.variable is not None)


def _unexpected(error: UnexpectedInput, text: str) -> QueryError:
    """An error of the grammar in words: the place, and all that could stand there."""
    match error:
        case UnexpectedToken():
            known = error.accepts or error.expected
            at_end = error.token.type == "$END"
            found = "the query ends here" if at_end else f"{str(error.token)!r} cannot stand here"
        case UnexpectedCharacters():
            known, at_end = error.allowed, False
            found = f"{error.char!r} cannot stand here"
        case _:
            known, at_end, found = set(), True, "the query ends here"
    expected = [words for terminal, words in _TERMINALS.items() if terminal in known]
    lines = text.splitlines() or [""]
    line, column = (len(lines), len(lines[-1].rstrip()) + 1) if at_end else (error.line, error.column)
    detail = f"{found}: give {listed(expected, 'or')}"
    return QueryError(detail, text=text, line=line, column=column, expected=expected)


def _place(part: Token | Meta) -> tuple[int, int]:
    return part.line or 1, part.column or 1


def _unquoted(name: str) -> str:
    return name[1:-1] if name.startswith('"') else str(name)


def _bound(bound: Token | None) -> Any:
    return "at least" if bound is None else " ".join(bound.lower().split())


def _seconds(duration: Token) -> float:
    number, unit = re.split(r"\s*(?=[a-z])", duration.lower(), maxsplit=1)
    return float(number) * next(seconds for name, seconds in _SECONDS.items() if unit.startswith(name))
