"""True times, damaged in one of the known ways, come back true."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.video import Container
from service.video.timing import (
    StreamFacts,
    order_is_plausible,
    player_zero,
    timing_of_frames,
    timing_of_packets,
    usual_step,
)

Times = NDArray[np.float64]
HOUR = 3600.0


def regular(count: int, rate: float) -> Times:
    return np.arange(count) / rate


@st.composite
def even_videos(draw: st.DrawFn) -> Times:
    """Times of 40 to 400 frames at some rate."""
    return regular(draw(st.integers(40, 400)), draw(st.sampled_from([5.0, 10.0, 24.0, 25.0, 29.97, 30.0, 60.0])))


@st.composite
def videos_with_pauses(draw: st.DrawFn) -> Times:
    """The same with pauses of up to 5 hours at some places."""
    times = draw(even_videos())
    for _ in range(draw(st.integers(1, 3))):
        times[draw(st.integers(8, len(times) - 8)) :] += draw(st.floats(0.5, 5 * HOUR))
    return times


def one_too_late(draw: st.DrawFn, times: Times) -> Times:
    return shifted(times, [draw(st.integers(0, len(times) - 1))], draw(st.floats(2.5, 2 * HOUR)))


def one_too_early(draw: st.DrawFn, times: Times) -> Times:
    return shifted(times, [draw(st.integers(0, len(times) - 1))], -draw(st.floats(2.5, 2 * HOUR)))


def many_here_and_there(draw: st.DrawFn, times: Times) -> Times:
    for place in range(draw(st.integers(2, 5)), len(times) - 5, draw(st.integers(6, 30))):
        times = shifted(times, [place], draw(st.floats(2.5, 100.0)) * draw(st.sampled_from([-1, 1])))
    return times


def a_few_in_a_row(draw: st.DrawFn, times: Times) -> Times:
    begin = draw(st.integers(8, len(times) - 12))
    places = range(begin, begin + draw(st.integers(2, 4)))
    return shifted(times, places, draw(st.floats(2.5, 2 * HOUR)) * draw(st.sampled_from([-1, 1])))


def the_same_as_its_neighbour(draw: st.DrawFn, times: Times) -> Times:
    place = draw(st.integers(2, len(times) - 3))
    return shifted(times, [place], times[place + draw(st.sampled_from([-1, 1]))] - times[place])


def some_without_a_time(draw: st.DrawFn, times: Times) -> Times:
    return shifted(times, range(draw(st.integers(1, 5)), len(times) - 1, draw(st.integers(2, 9))), np.nan)


def garbage(draw: st.DrawFn, times: Times) -> Times:
    return shifted(times, [draw(st.integers(0, len(times) - 1))], draw(st.sampled_from([3e17, -3e17, 1e11, -1e11])))


def shifted(times: Times, places: range | list[int], by: float) -> Times:
    damaged = times.copy()
    damaged[list(places)] += by
    return damaged


Damage = Callable[[st.DrawFn, Times], Times]
AT_ONE_PLACE: list[Damage] = [one_too_late, one_too_early, a_few_in_a_row, the_same_as_its_neighbour]
DAMAGES: list[Damage] = [*AT_ONE_PLACE, many_here_and_there, some_without_a_time, garbage]


def decided(stated: Times, container: Container = Container.MP4, rate: float | None = None) -> Times:
    return timing_of_frames(StreamFacts(container, 0.0, rate), stated, last_duration=0.0).times


@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_times_come_back_true(damage: Damage, data: st.DataObject) -> None:
    true = data.draw(even_videos())
    stated = damage(data.draw, true) + data.draw(st.sampled_from([0.0, 1.4833, 90_000.0]))
    times = decided(stated)
    assert np.abs(times - true).max() <= true[1] / 2
    assert np.all(np.diff(times) > 0)


@pytest.mark.parametrize("damage", AT_ONE_PLACE)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_times_come_back_true_though_the_video_has_a_pause(damage: Damage, data: st.DataObject) -> None:
    """Not beside the damage: there it is open whether a frame lies before the pause or after it."""
    true = data.draw(even_videos())
    stated = damage(data.draw, true)
    step = true[1]
    harmed = np.flatnonzero(stated != true)
    places = [place for place in range(12, len(true) - 12) if np.abs(harmed - place).min() > 12]
    assume(places)
    place, pause = data.draw(st.sampled_from(places)), data.draw(st.floats(0.5, 5 * HOUR))
    true, stated = true.copy(), stated.copy()
    true[place:] += pause
    stated[place:] += pause
    assert np.abs(decided(stated) - true).max() <= step / 2


@pytest.mark.parametrize("damage", AT_ONE_PLACE)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_frame_is_off_by_more_than_the_worst_damage(damage: Damage, data: st.DataObject) -> None:
    """Wherever the pauses are."""
    true = data.draw(videos_with_pauses())
    stated = damage(data.draw, true)
    times = decided(stated)
    assert np.abs(times - true).max() <= np.abs(stated - true).max() + np.median(np.diff(true))
    assert np.all(np.diff(times) >= 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(even_videos(), min_size=2, max_size=4), st.sampled_from([0.0, -1000.0, 95_443.0]))
def test_recordings_one_after_the_other_add_up(parts: list[Times], offset: float) -> None:
    """In MPEG-TS; a clock that jumped far ahead, as a counter of 33 bits seems to do, begins another one as well."""
    step = float(np.diff(parts[0])[0])
    parts = [regular(len(part), 1 / step) for part in parts]
    stated = np.concatenate([part + number * offset for number, part in enumerate(parts)])
    timing = timing_of_frames(StreamFacts(Container.MPEG_TS, 0.0, None), stated, last_duration=step)
    assert timing.times == pytest.approx(regular(len(stated), 1 / step), abs=step / 100)
    assert len(timing.joints) == len(parts) - 1
    assert timing.end == pytest.approx(len(stated) * step, abs=step / 100)


@settings(max_examples=60, deadline=None)
@given(videos_with_pauses(), st.sampled_from([Container.MP4, Container.MATROSKA]))
def test_true_times_stay_as_they_are(true: Times, container: Container) -> None:
    timing = timing_of_frames(StreamFacts(container, 0.0, None), true, last_duration=0.0)
    assert timing.times == pytest.approx(true, abs=6e-5)
    assert (timing.estimated, timing.joints) == (0, ())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=80))
def test_uneven_times_stay_as_they_are(steps: list[float]) -> None:
    true = np.concatenate([[0.0], np.cumsum(steps)])
    assert decided(true) == pytest.approx(true, abs=6e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(), st.floats(-100, 100)), min_size=1, max_size=60))
@example([0.0, sys.float_info.min, -4.0])  # the usual step is so short that nothing may be divided by it
def test_whatever_a_file_states_times_are_finite_and_ascend_from_zero(stated: list[float]) -> None:
    timing = timing_of_frames(StreamFacts(Container.MPEG_TS, 0.0, 25.0), np.array(stated), last_duration=np.inf)
    assert timing.times[0] == 0
    assert np.all(np.isfinite(timing.times))
    assert np.all(np.diff(timing.times) >= 0)
    assert timing.times[-1] <= timing.end < np.inf


@pytest.mark.parametrize(
    ("stated", "true", "estimated"),
    [
        ([np.nan, np.nan, np.nan], [0.0, 0.1, 0.2], 3),
        ([5.0, 5.1, 5.2, 5.25], [0.0, 0.1, 0.2, 0.25], 0),
        ([0.0, np.nan, 0.2], [0.0, 0.1, 0.2], 1),
        ([0.0, 0.1, 0.1, 0.3], [0.0, 0.1, 0.2, 0.3], 1),
        ([1.0, 1.1, -3e17], [0.0, 0.1, 0.2], 1),
        ([0.0, 3e17, 0.2], [0.0, 0.1, 0.2], 1),
        ([7.0], [0.0], 0),
    ],
)
def test_a_few_frames_are_enough_to_decide(stated: list[float], true: list[float], estimated: int) -> None:
    timing = timing_of_frames(StreamFacts(Container.MP4, 0.0, 10.0), np.array(stated), last_duration=0.0)
    assert timing.times == pytest.approx(true)
    assert timing.estimated == estimated
    assert timing.end == pytest.approx(true[-1] + 0.1)


def test_a_long_stretch_of_wrong_times_is_repaired_where_the_old_clock_goes_on() -> None:
    true = regular(1500, 25.0)
    for offset in (-700.0, 700.0, 2 * HOUR):
        assert decided(shifted(true, range(500, 700), offset)) == pytest.approx(true, abs=1e-4)


def test_a_pause_is_another_recording_only_where_clocks_begin_anywhere() -> None:
    stated = np.concatenate([regular(100, 25.0), 2 * HOUR + regular(100, 25.0)])
    assert decided(stated, Container.MATROSKA)[-1] == pytest.approx(2 * HOUR + 3.96)
    assert decided(stated, Container.MPEG_TS)[-1] == pytest.approx(7.96)


def test_frames_that_were_lost_before_a_pause_do_not_shift_what_follows() -> None:
    true = np.concatenate([regular(100, 25.0), 30.0 + regular(100, 25.0)])
    stated = np.delete(true, range(90, 100))
    assert decided(stated) == pytest.approx(stated, abs=6e-5)


def test_a_video_begins_with_its_first_frame_that_can_be_decoded() -> None:
    facts = StreamFacts(Container.MPEG_TS, begins=2.8, declared_rate=None)
    timing = timing_of_packets(facts, 3.0 + regular(100, 10.0), first=5.0, last_duration=0.1)
    assert len(timing.times) == 80
    assert (timing.times[0], timing.end, timing.zero) == (0.0, 8.0, 5.0)
    assert timing.undecodable == pytest.approx(2.0)
    assert timing.start == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("container", "zero"), [(Container.MPEG_TS, 1.4), (Container.MPEG_PS, 1.4), (Container.MP4, 0.0)]
)
def test_a_players_clock_begins_with_a_stream_or_with_the_zero_of_the_file(container: Container, zero: float) -> None:
    assert player_zero(container, begins=1.4, first=3.0) == zero
    assert player_zero(Container.MATROSKA, begins=-0.5, first=-0.5) == -0.5
    assert player_zero(Container.MATROSKA, begins=-0.007, first=0.0) == 0.0


@pytest.mark.parametrize(
    ("stamps", "reorders", "plausible"),
    [
        ([0, 1, 2, 3], False, True),
        ([0, 2, 1, 3], False, False),
        ([0, 2, 1, 4, 3, 6, 5], True, True),
        ([0, 2, 1, 4, 4, 6, 5], True, False),
        ([*range(50), 90, *range(51, 100), *range(101, 200)], True, False),
        ([], True, True),
    ],
)
def test_an_order_that_no_decoder_shows_is_noticed(stamps: list[int], reorders: bool, plausible: bool) -> None:
    assert order_is_plausible(np.array(stamps, np.int64), reorders=reorders) is plausible


def test_the_usual_step_is_the_declared_one_where_it_fits() -> None:
    rounded = np.round(regular(100, 30.0), 3)
    assert usual_step(rounded, 30.0) == pytest.approx(1 / 30)
    assert usual_step(rounded, 25.0) == pytest.approx(1 / 30, abs=0.001)
    assert usual_step(np.array([0.0]), None) == pytest.approx(0.04)


def test_times_are_rounded_like_scores() -> None:
    times = decided(regular(400, 24.0))
    assert times.tolist() == [round(time, 4) for time in times.tolist()]
    assert times[384] == 16.0
