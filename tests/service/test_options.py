from __future__ import annotations

import pytest

from service.errors import InvalidOption
from service.options import VideoOptions, parse_options


def test_nothing_given_means_the_defaults() -> None:
    assert parse_options({}) == VideoOptions()
    assert parse_options({"fps": "", "model": " "}) == VideoOptions()


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
    options = parse_options(texts)
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
        *(("fps", text) for text in ("0", "-1", "1e9", "nan", "inf", "two", "1000.1")),
        *(("start", text) for text in ("-0.1", "nan", "inf", "1e300", "x")),
        *(("end", text) for text in ("-1", "nan", "inf", "1e300")),
        *(("max_frames", text) for text in ("0", "-3", "1.5", "nan", "9" * 5000)),
        *(("min_score", text) for text in ("-0.1", "1.1", "nan")),
        *(("top_k", text) for text in ("0", "1001", "many")),
        *(("constraint", text) for text in ("without", "WITH")),
        *(("uncertainty", text) for text in ("yes", "True", "2")),
        ("resolution", "1"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_options({name: text})
    assert caught.value.option == name
    assert name in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False), ("", False)])
def test_uncertainty_is_asked_for_or_not(text: str, value: bool) -> None:
    options = parse_options({"uncertainty": text})
    assert options.uncertainty is value
    assert options.applied(max_fps=60, max_frames=3600)[0].uncertainty is value


@pytest.mark.parametrize("end", ["2", "1.5"])
def test_start_must_come_before_end(end: str) -> None:
    with pytest.raises(InvalidOption, match=f"start 2 is not before end {end}"):
        parse_options({"start": "2", "end": end})


def test_what_is_over_the_operators_caps_is_lowered_with_a_warning() -> None:
    applied, warnings = parse_options({"fps": "30", "max_frames": "1000"}).applied(max_fps=10, max_frames=50)
    assert (applied.fps, applied.max_frames) == (10, 50)
    assert [warning.code for warning in warnings] == ["fps_lowered", "max_frames_lowered"]


def test_what_is_within_the_caps_is_applied_silently() -> None:
    applied, warnings = parse_options({"fps": "3", "max_frames": "5"}).applied(max_fps=60, max_frames=3600)
    assert (applied.fps, applied.max_frames, warnings) == (3, 5, [])
