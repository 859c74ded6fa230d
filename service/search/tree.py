"""The tree that a query stands for. docs/search.md says which moments each node has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

Bound = Literal["at least", "at most", "exactly"]
Comparison = Literal[">=", "<=", ">", "<"]
ScoreField = Literal["score", "relation_score"]


@dataclass(frozen=True)
class Count:
    """A number of different objects at the same time. `at most` counts from 1."""

    bound: Bound
    number: int


@dataclass(frozen=True)
class Thing:
    """An object of a triple, or one that is seen.

    name: its words in the query, or its variable.
    place: line and column of its words in the query.
    labels: those it may have, or None for any.
    variable: the same object wherever the query has it; None where it has no variable.
    count: None for a single object.
    """

    name: str
    labels: tuple[str, ...] | None = None
    variable: str | None = None
    count: Count | None = None
    place: tuple[int, int] = field(default=(1, 1), compare=False)


@dataclass(frozen=True)
class Triple:
    """The relations of a subject, one of the predicates (None for any) and an object."""

    subject: Thing
    predicates: tuple[str, ...] | None
    object: Thing


@dataclass(frozen=True)
class Presence:
    """The time in which a thing is seen, from the first frame to the last."""

    thing: Thing


@dataclass(frozen=True)
class WholeVideo:
    """The part of a video that was looked at."""


@dataclass(frozen=True)
class Lasting:
    """The moments of a part that last so many seconds."""

    part: Node
    bound: Bound
    seconds: float


@dataclass(frozen=True)
class Scored:
    """The moments of a part whose score compares so."""

    part: Node
    field: ScoreField
    comparison: Comparison
    value: float


@dataclass(frozen=True)
class InVideo:
    """The moments of a part in videos whose path is, or ends with, the pattern. `*` stands for any characters."""

    part: Node
    pattern: str


@dataclass(frozen=True)
class Not:
    """The time in which no moment of the part holds."""

    part: Node


@dataclass(frozen=True)
class Without:
    """The moments of the left that share no time with one of the right."""

    left: Node
    right: Node


@dataclass(frozen=True)
class Both:
    """The time that a moment of the left shares with one of the right."""

    left: Node
    right: Node


@dataclass(frozen=True)
class Either:
    """The moments of both sides."""

    left: Node
    right: Node


@dataclass(frozen=True)
class Related:
    """The moments of the left that stand in one of Allen's relations to a moment of the right."""

    left: Node
    relation: str
    right: Node


@dataclass(frozen=True)
class Then:
    """Moments of the left followed by one of the right, at most `within` seconds later; None for any time."""

    left: Node
    right: Node
    within: float | None


Node = (
    Triple | Presence | WholeVideo | Lasting | Scored | InVideo | Not | Without | Both | Either | Related | Then
)  # fmt: skip


def parts_of(node: Node) -> Iterator[Node]:
    """Yields a node and all nodes below it, from left to right."""
    yield node
    for attribute in fields(node):
        if isinstance(part := getattr(node, attribute.name), Node):
            yield from parts_of(part)


def things_of(node: Node) -> Iterator[Thing]:
    """Yields the things of a node and of all below it, from left to right."""
    for part in parts_of(node):
        match part:
            case Triple():
                yield from (part.subject, part.object)
            case Presence():
                yield part.thing


def variables_of(node: Node) -> set[str]:
    """Returns the variables that a node names, those in `not` and `without` too."""
    return {thing.variable for thing in things_of(node) if thing.variable is not None}


def bound_in(node: Node) -> set[str]:
    """Returns the variables that stand for an object in every moment of a node."""
    match node:
        case Triple() | Presence():
            return variables_of(node)
        case WholeVideo() | Not():
            return set()
        case Either(left, right):
            return bound_in(left) & bound_in(right)
        case Without(left, _):
            return bound_in(left)
        case Both(left, right) | Related(left, _, right) | Then(left, right):
            return bound_in(left) | bound_in(right)
        case Lasting(part) | Scored(part) | InVideo(part):
            return bound_in(part)


def conjuncts(node: Node) -> list[Node]:
    """Returns the parts of a chain of `and`, from left to right."""
    return [*conjuncts(node.left), *conjuncts(node.right)] if isinstance(node, Both) else [node]
