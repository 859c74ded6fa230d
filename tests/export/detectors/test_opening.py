"""What is found out about a detector from its file and a trial run, and what only a flag can tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from export.detectors.opening import ROWS, Flags, open_detector
from export.detectors.pictures import IMAGENET_MEAN, IMAGENET_STD, Normalisation, Picture, normalise
from export.detectors.readings import GridReading, QueryReading, RowReading, cells_of
from export.errors import ExportError
from tests.support.detectors import write_fixed_detector

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
PICTURE = {"images": (FLOAT, (1, 3, 64, 96))}
NAMES = ("person", "cup")
PIXELS = np.array([[[10, 10, 50, 60], [20, 20, 90, 30]]], np.float32)
ROW_OUTPUTS: dict[str, NDArray[Any]] = {
    "boxes": PIXELS,
    "scores": np.ones((1, 2), np.float32),
    "labels": np.zeros((1, 2), np.int64),
}


def logits(*shape: int) -> NDArray[Any]:
    return np.linspace(-3, 3, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def write(folder: Path, inputs: Any = None, outputs: Any = None, **metadata: str) -> Path:
    return write_fixed_detector(folder / "detector.onnx", inputs or PICTURE, outputs or ROW_OUTPUTS, **metadata)


def test_names_come_from_the_metadata_unless_they_are_given(tmp_path: Path) -> None:
    path = write(tmp_path, names="{0: 'person', 1: 'cup'}")
    assert open_detector(path).names == NAMES
    assert open_detector(path, ("a", "b")).names == ("a", "b")


def test_a_detector_without_names_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--classes"):
        open_detector(write(tmp_path))


def test_names_must_be_as_many_as_columns(tmp_path: Path) -> None:
    path = write(tmp_path, outputs={"pred_boxes": PIXELS / 100, "logits": logits(1, 2, 5)})
    with pytest.raises(ExportError, match="2 names of classes, but the detector has 5 columns"):
        open_detector(path, NAMES)


def test_the_input_says_its_size(tmp_path: Path) -> None:
    detector = open_detector(write(tmp_path), NAMES)
    assert detector.picture == Picture("images", FLOAT, False, True, False, (64, 96))
    assert detector.one_by_one


def test_an_open_size_must_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, {"images": (FLOAT, (1, 3, "height", "width"))})
    with pytest.raises(ExportError, match="--input-size WIDTHxHEIGHT"):
        open_detector(path, NAMES)
    assert open_detector(path, NAMES, Flags(input_size=(64, 96))).picture.size == (64, 96)


def test_a_size_that_is_not_the_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--input-size is 32x64, but .* \[1, 3, 64, 96\]"):
        open_detector(write(tmp_path), NAMES, Flags(input_size=(64, 32)))


@pytest.mark.parametrize(
    ("shape", "channels_last", "has_batch"), [((1, 64, 96, 3), True, True), ((3, 64, 96), False, False)]
)
def test_the_place_of_the_channels_is_seen(
    tmp_path: Path, shape: tuple[int, ...], channels_last: bool, has_batch: bool
) -> None:
    picture = open_detector(write(tmp_path, {"images": (FLOAT, shape)}), NAMES).picture
    assert (picture.channels_last, picture.has_batch, picture.size) == (channels_last, has_batch, (64, 96))


def test_a_batch_that_the_outputs_do_not_follow_is_run_one_by_one(tmp_path: Path) -> None:
    detector = open_detector(write(tmp_path, {"images": (FLOAT, ("batch", 3, 64, 96))}), NAMES)
    assert detector.picture.any_batch
    assert detector.one_by_one, "two pictures gave the boxes of one"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"images": (FLOAT, (2, 3, 64, 96))}, "batch of 1"),
        ({"images": (FLOAT, (1, 1, 64, 96))}, "3 channels"),
        ({"tokens": (INT64, (1, 77))}, "one input of pictures"),
        (PICTURE | {"depth": (FLOAT, (1, 1, 64, 96))}, "one input of pictures"),
        (PICTURE | {"prompt": (INT64, (1, 7))}, "'prompt' is not known"),
    ],
)
def test_inputs_that_nobody_can_fill_are_refused(tmp_path: Path, inputs: Any, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        open_detector(write(tmp_path, inputs), NAMES)


def test_known_inputs_beside_the_picture_are_filled(tmp_path: Path) -> None:
    beside = {
        "orig_target_sizes": (INT64, (1, 2)), "pixel_mask": (INT64, (1, "h", "w")),
        "im_shape": (FLOAT, (1, 2)), "scale_factor": (FLOAT, (1, 2)),
    }  # fmt: skip
    extras = open_detector(write(tmp_path, PICTURE | beside), NAMES).extras
    assert extras["orig_target_sizes"].tolist() == [[96, 64]]
    assert extras["im_shape"].tolist() == [[64, 96]]
    assert extras["scale_factor"].tolist() == [[1, 1]]
    assert extras["pixel_mask"].shape == (1, 64, 96)
    assert extras["pixel_mask"].all()


def test_the_unit_of_boxes_is_seen_in_a_trial_run(tmp_path: Path) -> None:
    in_pixels = open_detector(write(tmp_path), NAMES).reading
    in_fractions = open_detector(write(tmp_path, outputs=ROW_OUTPUTS | {"boxes": PIXELS / 100}), NAMES).reading
    assert isinstance(in_pixels, RowReading)
    assert isinstance(in_fractions, RowReading)
    assert (in_pixels.convention.width, in_pixels.convention.height) == (96, 64)
    assert (in_fractions.convention.width, in_fractions.convention.height) == (1, 1)


def test_tensorflows_boxes_begin_with_the_upper_edge(tmp_path: Path) -> None:
    names = {"boxes": "detection_boxes", "scores": "detection_scores", "labels": "detection_classes"}
    path = write(tmp_path, outputs={names[name]: array.astype(np.float32) for name, array in ROW_OUTPUTS.items()})
    reading = open_detector(path, NAMES).reading
    assert isinstance(reading, RowReading)
    assert reading.convention.form == "yxyx"


def test_where_a_trial_run_finds_nothing_the_unit_must_be_given(tmp_path: Path) -> None:
    nothing = {"boxes": PIXELS[0, :0], "scores": np.ones(0, np.float32), "labels": np.zeros(0, np.int64)}
    path = write(tmp_path, outputs=nothing)
    with pytest.raises(ExportError, match="--box-unit"):
        open_detector(path, NAMES)
    assert open_detector(path, NAMES, Flags(box_unit="pixel")).names == NAMES


@pytest.mark.parametrize(
    ("columns", "values", "wanted"),
    [
        (2, logits(1, 2, 2), "sigmoid"),
        (3, logits(1, 2, 3), "softmax"),
        (2, np.full((1, 2, 2), 0.5, np.float32), "none"),
    ],
)
def test_logits_are_told_from_scores(tmp_path: Path, columns: int, values: NDArray[Any], wanted: str) -> None:
    path = write(tmp_path, outputs={"pred_boxes": PIXELS / 100, "logits": values})
    reading = open_detector(path, NAMES).reading
    assert isinstance(reading, QueryReading)
    assert (reading.activation, reading.convention.form) == (wanted, "cxcywh")
    asked = open_detector(path, NAMES, Flags(activation="none", box_format="xyxy")).reading
    assert isinstance(asked, QueryReading)
    assert (asked.activation, asked.convention.form) == ("none", "xyxy")


@pytest.mark.parametrize("decoded", [False, True])
def test_a_decoded_grid_is_told_from_a_raw_one(tmp_path: Path, decoded: bool) -> None:
    grid = np.full((1, cells_of((64, 96)), 7), 0.5, np.float32)
    grid[..., :4] *= 120 if decoded else 1
    path = write(tmp_path, outputs={"output": grid})
    reading = open_detector(path, NAMES).reading
    assert isinstance(reading, GridReading)
    assert (reading.decoded, reading.activation) == (decoded, "none")
    asked = open_detector(path, NAMES, Flags(decoded=not decoded)).reading
    assert isinstance(asked, GridReading)
    assert asked.decoded != decoded


def test_each_family_gets_the_numbers_it_was_trained_on(tmp_path: Path) -> None:
    fractions = PIXELS / 100
    rf_detr = open_detector(write(tmp_path, outputs={"dets": fractions, "labels": logits(1, 2, 2)}), NAMES)
    rt_detr = open_detector(write(tmp_path, outputs={"pred_boxes": fractions, "logits": logits(1, 2, 2)}), NAMES)
    grid = np.full((1, cells_of((64, 96)), 7), 0.5, np.float32)
    yolox = open_detector(write(tmp_path, outputs={"output": grid}), NAMES)
    in_bytes = open_detector(write(tmp_path, {"images": (UINT8, (1, 64, 96, 3))}), NAMES)
    assert rf_detr.normalisation == Normalisation(1.0, IMAGENET_MEAN, IMAGENET_STD)
    assert rt_detr.normalisation == Normalisation(1.0)
    assert yolox.normalisation == Normalisation(255.0, bgr=True)
    assert in_bytes.normalisation == Normalisation(255.0)


def test_flags_decide_before_the_family(tmp_path: Path) -> None:
    flags = Flags(scale=1.0, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), bgr=True)
    assert open_detector(write(tmp_path), NAMES, flags).normalisation == Normalisation(1.0, flags.mean, flags.std, True)
    with pytest.raises(ExportError, match="takes bytes"):
        open_detector(write(tmp_path, {"images": (UINT8, (1, 64, 96, 3))}), NAMES, replace(flags, bgr=None))


def test_pixels_are_scaled_shifted_and_reversed() -> None:
    frames = np.array([[[[255, 0, 51]]]], np.uint8)
    picture = Picture("images", FLOAT, False, True, True, (1, 1))
    pixels = normalise(frames, Normalisation(1.0, (0.1, 0.2, 0.5), (1.0, 2.0, 0.5), bgr=True), picture)
    assert pixels.shape == (1, 3, 1, 1)
    assert pixels.ravel().tolist() == pytest.approx([0.1, -0.1, 1.0])


def test_rows_of_an_open_number_are_cut_to_a_fixed_one(tmp_path: Path) -> None:
    assert open_detector(write(tmp_path), NAMES).rows[0] == (2, 4)
    unbatched = {name: array[0] for name, array in ROW_OUTPUTS.items()}
    detector = replace(open_detector(write(tmp_path, outputs=unbatched), NAMES), open_rows=True)
    assert detector.rows == ((ROWS, 4), (ROWS,), (ROWS,))


@pytest.mark.parametrize("content", [b"no model at all", b""])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError):
        open_detector(path, NAMES)


def test_what_was_found_out_is_told(tmp_path: Path) -> None:
    first, second = open_detector(write(tmp_path), NAMES).said
    assert first == "input images: 96x64 pixels, RGB, white is 1, one frame at a time"
    assert second == "outputs boxes, scores, labels: rows, boxes xyxy in pixels"
