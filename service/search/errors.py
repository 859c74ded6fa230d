"""Errors of searching.

QueryError              422  the query cannot be understood
SearchTooSlow           503  the search took longer than it may
UnknownWord                  a word names nothing; it becomes a QueryError, which knows the place
"""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.errors import RequestError, Unavailable


class QueryError(RequestError):
    """A query cannot be understood.

    line, column: place in the query, from 1.
    expected: words that are known or can stand at that place, the nearest first.
    text: the query.
    """

    status = 422
    code = "invalid_query"
    title = "The query cannot be understood"

    def __init__(self, detail: str, *, text: str = "", line: int = 1, column: int = 1, expected: Sequence[str] = ()):
        super().__init__(f"line {line}, column {column}: {detail}")
        self.text, self.line, self.column, self.expected = text, line, column, tuple(expected)

    @property
    def pointer(self) -> str:
        """The line of the query and, below it, a caret that points at the place."""
        lines = self.text.splitlines() or [""]
        return f"{lines[min(self.line, len(lines)) - 1]}\n{' ' * (self.column - 1)}^"

    def problem(self, *, instance: str | None = None, job_id: str | None = None) -> dict[str, Any]:
        """The problem document, with the place and the words that are known there."""
        known = {"line": self.line, "column": self.column, "expected": list(self.expected)}
        return super().problem(instance=instance, job_id=job_id) | known


class SearchTooSlow(Unavailable):
    """A search took longer than it may."""

    code = "search_too_slow"
    title = "The search takes too long"


class UnknownWord(LookupError):
    """A word names nothing here.

    known: words that resemble it, the nearest first, or all words where none does.
    """

    def __init__(self, word: str, known: Sequence[str]) -> None:
        super().__init__(word)
        self.word, self.known = word, tuple(known)
