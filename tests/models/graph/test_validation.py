from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from models.graph.validation import accepted_values, first_mistake, in_words


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("write an even number")
    return value


class Inner(BaseModel):
    size: int = Field(ge=1)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rate: float | None = Field(None, gt=0, le=1000)
    share: float = Field(0.5, ge=0, le=1)
    count: int = Field(1, ge=1)
    kind: Literal["with", "no"] = "no"
    engine: Literal["cpu", "gpu"] | Literal["stub"] = "cpu"
    flag: bool = False
    name: str = Field("x", pattern="^[a-z]+$")
    pairs: Annotated[int, AfterValidator(_even)] = 2
    inner: list[Inner] = Field(default_factory=list)


def error_of(content: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(content)
    return caught.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"rate": 0}', "rate is 0: it must be greater than 0"),
        ('{"rate": "fast"}', "rate is 'fast': it must be a valid number"),
        ('{"inner": [{"size": 1}, {"size": 0}]}', "inner.1.size is 0: it must be greater than or equal to 1"),
        ('{"inner": [{}]}', "inner.0.size is missing"),
        ('{"inner": 1}', "inner is 1: it must be a valid array"),
        ('{"speed": 1}', "speed is not a known name"),
        ('{"pairs": 3}', "pairs is 3: write an even number"),
        ('{"kind": "some"}', "kind is 'some': it must be 'with' or 'no'"),
        (f'{{"name": "{"A" * 100}"}}', f"name is '{'A' * 39}…: it must match pattern"),
        ("[]", "the file: it must be an object"),
        ("{", "the file: Invalid JSON"),
    ],
)
def test_a_refusal_is_one_line_with_the_place_and_the_value(content: str, words: str) -> None:
    assert in_words(error_of(content), "the file").startswith(words)


def test_further_mistakes_are_counted() -> None:
    assert in_words(error_of('{"rate": 0, "count": 0, "share": 2}')).endswith("(and 2 more)")


def test_the_first_mistake_says_where_it_is() -> None:
    mistake = first_mistake(error_of('{"inner": [{"size": 0}]}'))
    assert (mistake.path, mistake.place, mistake.value) == (("inner", 0, "size"), "inner.0.size", 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rate", "a number over 0 and at most 1000"),
        ("share", "a number from 0 to 1"),
        ("count", "a whole number from 1 up"),
        ("kind", "one of with, no"),
        ("engine", "one of cpu, gpu, stub"),
        ("flag", "true or false"),
        ("name", "a text"),
    ],
)
def test_what_a_field_accepts_is_said_in_words(name: str, words: str) -> None:
    assert accepted_values(Outer, name) == words
