"""How much of its processors a virtual machine was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stolen_time import StolenTime, say_stolen


def test_stolen_time_is_a_share_of_all_time_that_passed(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 10 50 800 5 1 2 30 7 7\ncpu0 1 2 3\n")
    with StolenTime(stat) as stolen:
        stat.write_text("cpu  150 10 60 820 5 1 2 50 99 99\ncpu0 1 2 3\n")
    assert stolen.share == pytest.approx(20 / 100)


def test_nothing_is_stolen_where_no_time_passes_or_nobody_counts(tmp_path: Path) -> None:
    with StolenTime() as stolen:
        pass
    assert stolen.share == 0
    with StolenTime(tmp_path / "none") as stolen:
        pass
    assert stolen.share == 0


def test_only_figures_that_cannot_be_trusted_are_remarked_on() -> None:
    assert say_stolen(0.02) == ""
    assert say_stolen(0.2) == "disturbed: 20% of the processors' time went to other machines of the host; measure again"
