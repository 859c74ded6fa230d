"""Messages about values that a pydantic model accepts or refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

_LONGEST_VALUE = 40  # characters
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Mistake:
    """A value that a validation refuses.

    path: the names and positions that lead to it; empty where the content as a whole is wrong.
    kind: pydantic's name of the error, such as `missing`.
    value: the value itself.
    reason: the reason, as the end of a sentence.
    """

    path: tuple[str | int, ...]
    kind: str
    value: object
    reason: str

    @property
    def place(self) -> str:
        """The path as text, such as `stages.0.file`."""
        return ".".join(map(str, self.path))


def first_mistake(error: ValidationError) -> Mistake:
    """Returns the first of the mistakes that an error lists."""
    return mistake_of(error.errors(include_url=False)[0])


def mistake_of(details: Mapping[str, Any]) -> Mistake:
    """Converts one entry of `ValidationError.errors()`, or of the error that FastAPI makes of them."""
    # Messages of our own validators are sentences already; pydantic's begin with "Input should".
    reason = re.sub(r"^\w+ should ", "it must ", details["msg"].removeprefix("Value error, "))
    return Mistake(tuple(details["loc"]), details["type"], details["input"], reason)


def in_words(error: ValidationError, whole: str = "the content") -> str:
    """Describes the first mistake in one line without a full stop: its place, the value found there, and the reason.

    whole: name of the validated content, for mistakes that have no place in it.
    """
    mistake = first_mistake(error)
    place = mistake.place or whole
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if mistake.kind == "missing":
        return f"{place} is missing{others}"
    if mistake.kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is not a known name{others}"
    if isinstance(mistake.value, str | int | float | bool | None) and mistake.path:
        return f"{place} is {shortened(mistake.value)}: {mistake.reason}{others}"
    return f"{place}: {mistake.reason}{others}"


def shortened(value: object) -> str:
    """Returns a value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def check_digits(value: object) -> object:
    """Refuses texts that Python takes for numbers and nobody else does: `1_0`, digits of other scripts.

    Call it before pydantic reads the number. Raises pydantic's PydanticCustomError.
    """
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise PydanticCustomError("digits", "Input should be a number in the digits 0 to 9")
    return value


def accepted_values(model: type[BaseModel], name: str) -> str:
    """Describes the values of a field by its JSON schema, such as `a number over 0 and at most 1000`."""
    return _accepted(model.model_json_schema()["properties"][name])


def _accepted(schema: dict[str, Any]) -> str:
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    choices = [str(value) for kind in kinds for value in kind.get("enum", [kind["const"]] if "const" in kind else [])]
    if choices:
        return f"one of {', '.join(choices)}"
    match kinds[0].get("type"):
        case "boolean":
            return "true or false"
        case "number":
            return f"a number{_range(kinds[0])}"
        case "integer":
            return f"a whole number{_range(kinds[0])}"
        case _:
            return "a text"


def _range(schema: dict[str, Any]) -> str:
    low, above, high = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if above is not None:
        return f" over {above:.15g}" + ("" if high is None else f" and at most {high:.15g}")
    if high is not None:
        return f" from {low or 0:.15g} to {high:.15g}"
    return "" if low is None else f" from {low:.15g} up"
