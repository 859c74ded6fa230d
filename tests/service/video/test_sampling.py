from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.video import DecodeLimits, Sampling
from service.video.sampled_frames import Sampler

steps = st.lists(st.integers(2, 3000), min_size=1, max_size=40)


def sampling(**values: float | int | None) -> Sampling:
    return Sampling(**({"fps": 2.0, "max_frames": 10, "height": 8, "width": 8} | values))  # type: ignore[arg-type]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # other work may take the processor
@given(steps, st.integers(1, 600), st.integers(0, 5000), st.one_of(st.none(), st.integers(1, 5000)))
def test_the_frame_on_display_at_each_sampling_time_is_taken(
    milliseconds: list[int], tenths: int, start: int, length: int | None
) -> None:
    """Against exact arithmetic, one asked time after the other."""
    fps = tenths / 10
    ends = np.cumsum(milliseconds)
    begins = np.concatenate([[0], ends[:-1]])
    end = None if length is None else (start + length) / 1000
    taken = Sampler(sampling(fps=fps, start=start / 1000, end=end)).takes(begins / 1000, ends / 1000)
    expected = set()
    last = int(ends[-1]) if length is None else min(int(ends[-1]), start + length)
    asked = Fraction(start)
    while asked < last:
        # Half a microsecond of slack: the sampler counts in floating point.
        shown = np.flatnonzero(begins <= asked + 1 + Fraction(1, 2000))
        certain = np.flatnonzero(begins <= asked + 1 - Fraction(1, 2000))
        if len(shown) == len(certain) and asked + 1 < int(ends[-1]):
            expected.add(int(shown[-1]))
        asked += Fraction(10000, tenths)
    assert expected <= set(np.flatnonzero(taken).tolist())
    assert len(expected) <= int(taken.sum()) <= len(expected) + 2


def test_a_time_is_past_the_range_only_after_its_end() -> None:
    sampler = Sampler(sampling(end=4.0))
    assert not sampler.is_past(3.9)
    assert sampler.is_past(4.1)
    assert not Sampler(sampling()).is_past(1e9)


@pytest.mark.parametrize(
    "values",
    [
        {"fps": 0.0},
        {"fps": -1.0},
        {"fps": math.nan},
        {"fps": math.inf},
        {"fps": 1001.0},
        {"start": -1.0},
        {"start": math.nan},
        {"end": 0.0},
        {"start": 2.0, "end": 2.0},
        {"end": math.inf},
        {"max_frames": 0},
        {"height": 0},
        {"width": 100_000},
    ],
)
def test_a_sampling_that_makes_no_sense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(reversed(values))):
        sampling(**values)


@pytest.mark.parametrize("name", ["seconds", "cpu_seconds", "max_pixels", "chunk_frames", "threads", "memory_bytes"])
def test_a_limit_of_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        DecodeLimits(**{name: 0})
