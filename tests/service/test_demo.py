"""What `make demo` prints."""

from __future__ import annotations

import pytest

from service.demo import SHOWN_FRAMES, show
from tests.support.graphs import frame, scene_graph

PERSON, CUP = (1, "person", (0.0, 0.0, 10.0, 20.0)), (2, "cup/glass/bottle", (5.0, 5.0, 8.0, 8.0))


def test_frames_are_shown_from_the_first_that_says_something(capsys: pytest.CaptureFixture[str]) -> None:
    silent = [frame(index, float(index), [PERSON]) for index in range(4)]
    telling = [frame(index, float(index), [PERSON, CUP], [(1, "holding", 2)]) for index in range(4, 10)]
    show(scene_graph([*silent, *telling], size=(20, 20)))
    lines = capsys.readouterr().out.splitlines()
    times = [line for line in lines if line.endswith(" s")]
    assert times == ["4.00 s", "5.00 s", "6.00 s"]
    assert len(times) == SHOWN_FRAMES
    assert lines.count("  0.80  <person 1, holding, cup/glass/bottle 2>") == SHOWN_FRAMES


def test_a_graph_that_says_nothing_is_shown_without_frames(capsys: pytest.CaptureFixture[str]) -> None:
    show(scene_graph([frame(0, 0.0, [])], size=(20, 20)))
    assert capsys.readouterr().out == "1 frames by tiny 1 on onnxruntime-cpu\n\n\n\n"
