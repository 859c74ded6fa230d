"""The one runner of stages: how it cuts a video for each span, and what it gives to whom."""

from __future__ import annotations

import numpy as np
import pytest

from models.engines import FunctionStage, Tensors, run_stages
from models.engines.engine import Arrays
from models.graph.bundle import Span


class Recorder:
    """Adds 1 to every value of its input, and records the shapes that it is given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, arrays: Arrays) -> Tensors:
        (values,) = arrays.values()
        self.shapes.append(values.shape)
        return {"more": values + 1}  # type: ignore[operator]


def values(batch: int, time: int) -> np.ndarray:
    return np.arange(batch * time * 2, dtype=np.float32).reshape(batch, time, 2)


@pytest.mark.parametrize(
    ("span", "time", "shapes"),
    [
        ("frame", 7, [(14, 1, 2)]),
        ("clip", 7, [(4, 3, 2), (2, 1, 2)]),
        ("clip", 6, [(4, 3, 2)]),
        ("clip", 2, [(2, 2, 2)]),
        ("video", 7, [(2, 7, 2)]),
    ],
)
def test_a_stage_gets_what_its_span_says_and_its_outputs_keep_the_order(
    span: Span, time: int, shapes: list[tuple[int, ...]]
) -> None:
    recorder = Recorder()
    known = run_stages([FunctionStage(("some",), span, recorder)], {"some": values(2, time)}, clip_length=3)
    assert recorder.shapes == shapes
    np.testing.assert_array_equal(known["more"], values(2, time) + 1)


@pytest.mark.parametrize("span", ["frame", "clip", "video"])
def test_without_a_clip_length_every_stage_takes_all_frames_at_once(span: Span) -> None:
    recorder = Recorder()
    run_stages([FunctionStage(("some",), span, recorder)], {"some": values(2, 7)})
    assert recorder.shapes == [(2, 7, 2)]


def test_a_stage_gets_its_inputs_only_and_those_of_earlier_stages() -> None:
    def both(arrays: Arrays) -> Tensors:
        assert set(arrays) == {"some", "more"}
        return {"sum": arrays["some"] + arrays["more"]}  # type: ignore[operator]

    stages = [FunctionStage(("some",), "clip", Recorder()), FunctionStage(("more", "some"), "video", both)]
    given = {"some": values(1, 4), "other": np.zeros((1, 4))}
    known = run_stages(stages, given, clip_length=3)
    assert set(known) == {"some", "other", "more", "sum"}
    assert set(given) == {"some", "other"}, "the caller's arrays stay as they are"
    np.testing.assert_array_equal(known["sum"], 2 * values(1, 4) + 1)
