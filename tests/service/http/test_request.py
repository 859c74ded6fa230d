"""What routes read from the headers of a request."""

from __future__ import annotations

import pytest

from service.http.request import Preference, read_preference


@pytest.mark.parametrize(
    ("headers", "seconds", "applied"),
    [
        ([], 60, None),
        (["wait=10"], 10, "wait=10"),
        (["wait=0"], 0, "wait=0"),
        (["WAIT=5"], 5, "wait=5"),
        (['wait="5"'], 5, "wait=5"),
        (["wait=5; strict"], 5, "wait=5"),
        (["wait=100000"], 600, "wait=600"),
        (["wait=5, wait=7"], 5, "wait=5"),
        (["respond-async"], 0, "respond-async"),
        (["respond-async", "wait=3"], 3, "respond-async, wait=3"),
        (["wait=3, respond-async"], 3, "respond-async, wait=3"),
        (["handling=lenient"], 60, None),
        (["handling=lenient, respond-async"], 0, "respond-async"),
        (["wait"], 60, None),
        (["wait=soon"], 60, None),
        (["wait=-1"], 60, None),
        (["wait=1.5"], 60, None),
        ([""], 60, None),
        ([",;=,"], 60, None),
    ],
)
def test_preferences_are_honoured_or_ignored(headers: list[str], seconds: float, applied: str | None) -> None:
    assert read_preference(headers, default=60, cap=600) == Preference(seconds, applied)
