from __future__ import annotations

import pytest

from service.prompt import count_tokens


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
