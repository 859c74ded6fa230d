from __future__ import annotations

import pytest

from service.errors import InvalidOption
from service.options import RequestOptions, VideoOptions


def test_nothing_given_means_the_defaults() -> None:
    assert VideoOptions.from_texts({}) == VideoOptions()
    assert VideoOptions.from_texts({"fps": "", "model": " "}) == VideoOptions()


def test_every_option_is_read() -> None:
    texts = {
        "model": "tiny",
        "fps": "0.5",
        "start": "1",
        "end": "2.5",
        "max_frames": "7",
        "min_score": "0.25",
        "top_k": "3",
        "constraint": "semi",
        "uncertainty": "true",
    }
    options = VideoOptions.from_texts(texts)
    assert options.model_dump() == {
        "model": "tiny",
        "fps": 0.5,
        "start": 1.0,
        "end": 2.5,
        "max_frames": 7,
        "min_score": 0.25,
        "top_k": 3,
        "constraint": "semi",
        "uncertainty": True,
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("fps", text)
            for text in ("0", "-1", "1e9", "nan", "inf", "two", "1000.1", "1_0", "٢", "\uff12", "1 0", "0x2")
        ),
        *(("start", text) for text in ("-0.1", "nan", "inf", "1e300", "x", "1_0", "\u20031")),
        *(("end", text) for text in ("-1", "nan", "inf", "1e300", "1_0.5", "Infinity")),
        *(("max_frames", text) for text in ("0", "-3", "1.5", "nan", "٣", "1_0", "1e1", "9" * 5000)),
        *(("min_score", text) for text in ("-0.1", "1.1", "nan")),
        *(("top_k", text) for text in ("0", "1001", "many", "1_0", "\uff11\uff10")),
        *(("constraint", text) for text in ("without", "WITH")),
        *(("uncertainty", text) for text in ("yes", "2", "T", "on", "\uff11", "tru\u0435")),
        ("resolution", "1"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        VideoOptions.from_texts({name: text})
    assert caught.value.option == name
    assert name in caught.value.detail
    assert "give" in caught.value.detail or "use" in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("true", "True", "TRUE", "tRuE", "1", " true ")),
        *((text, False) for text in ("false", "False", "FALSE", "0", "")),
    ],
)
def test_uncertainty_is_true_or_false(text: str, value: bool) -> None:
    options = VideoOptions.from_texts({"uncertainty": text})
    assert options.uncertainty is value
    assert options.applied(max_fps=60, max_frames=3600)[0].uncertainty is value


@pytest.mark.parametrize(("text", "value"), [("+5", 5), ("007", 7), ("5.0", 5), (" 5\t", 5)])
def test_numbers_may_be_written_in_other_ways_too(text: str, value: int) -> None:
    assert VideoOptions.from_texts({"top_k": text}).top_k == value
    assert VideoOptions.from_texts({"fps": text}).fps == value


@pytest.mark.parametrize("end", ["2", "1.5"])
def test_start_must_come_before_end(end: str) -> None:
    with pytest.raises(InvalidOption, match=f"start 2 is not before end {end}"):
        VideoOptions.from_texts({"start": "2", "end": end})


def test_a_refusal_says_what_is_wrong_the_value_and_what_to_give() -> None:
    for texts, detail in (
        ({"fps": "0"}, "fps is '0': give a number over 0 and at most 1000"),
        ({"top_k": "many"}, "top_k is 'many': give a whole number from 1 to 1000"),
        ({"constraint": "loose"}, "constraint is 'loose': give one of with, no, semi"),
        ({"uncertainty": "yes"}, "uncertainty is 'yes': give true or false"),
    ):
        with pytest.raises(InvalidOption, match=f"^{detail}$"):
            VideoOptions.from_texts(texts)
    with pytest.raises(InvalidOption, match=r"^--max-frames is '0'"):
        VideoOptions.from_texts({"max_frames": "0"}, spelled=lambda name: f"--{name.replace('_', '-')}")


def test_query_and_body_may_share_the_options_but_not_one_option() -> None:
    query = RequestOptions.from_texts({"fps": "1", "start": "2"})
    together = query.with_body(RequestOptions.from_texts({"end": "3", "webhook": "https://example.org"}))
    assert together.of_graph == VideoOptions(fps=1, start=2, end=3)
    assert together.webhook == "https://example.org"
    assert query.with_body(RequestOptions(end=None, webhook="")) == query
    with pytest.raises(InvalidOption, match="fps is given in the body and in the query"):
        query.with_body(RequestOptions(fps=2))
    with pytest.raises(InvalidOption, match="start 2 is not before end 1"):
        query.with_body(RequestOptions(end=1))


def test_values_over_the_operators_caps_are_lowered_with_a_warning() -> None:
    applied, warnings = VideoOptions.from_texts({"fps": "30", "max_frames": "1000"}).applied(max_fps=10, max_frames=50)
    assert (applied.fps, applied.max_frames) == (10, 50)
    assert [warning.code for warning in warnings] == ["fps_lowered", "max_frames_lowered"]


def test_values_within_the_caps_are_applied_without_a_warning() -> None:
    applied, warnings = VideoOptions.from_texts({"fps": "3", "max_frames": "5"}).applied(max_fps=60, max_frames=3600)
    assert (applied.fps, applied.max_frames, warnings) == (3, 5, [])
