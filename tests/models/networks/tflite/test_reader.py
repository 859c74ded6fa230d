"""TensorFlow Lite files: quantised weights come back as floats, and a spoilt file gives one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import WeightsError
from models.networks.tflite import parse_tflite, read_tflite
from tests.support.tflite import TfliteWriter


def small_file() -> bytes:
    writer = TfliteWriter()
    images = writer.tensor((1, 4, 4, 1), "uint8", scale=0.5, zero_point=10)
    weight = writer.constant(
        np.array([-2, 4], "int8").reshape(2, 1, 1, 1), scale=[0.5, 0.25], zero_point=[0, 0], axis=0
    )
    bias = writer.constant(np.array([8, 8], "int32"), scale=[0.25, 0.125], zero_point=[0, 0])
    output = writer.run("CONV_2D", [images, weight, bias], (1, 4, 4, 2), {1: ("i", 1), 2: ("i", 1)})
    return writer.file([images], [output])


def test_weights_with_a_scale_for_each_channel_are_floats() -> None:
    model = parse_tflite(small_file(), "small.tflite")
    (convolution,) = model.operations
    _, weight, bias = (model.tensors[number] for number in convolution.inputs)
    assert weight.values is not None
    assert weight.values.flatten().tolist() == [-1.0, 1.0]
    assert bias.values is not None
    assert bias.values.tolist() == [2.0, 1.0]


def test_depthwise_weights_have_their_channels_last() -> None:
    writer = TfliteWriter()
    stored = np.array([[1, 1], [2, 2]], "int8").reshape(1, 1, 2, 2)
    number = writer.constant(stored, scale=[1.0, 10.0], zero_point=[0, 1], axis=3)
    values = parse_tflite(writer.file([number], [number]), "small.tflite").tensors[number].values
    assert values is not None
    assert values[0, 0].tolist() == [[1.0, 0.0], [2.0, 10.0]]


def test_what_is_computed_keeps_its_scale() -> None:
    model = parse_tflite(small_file(), "small.tflite")
    (number,) = model.inputs
    assert (model.tensors[number].scale, model.tensors[number].zero_point) == (0.5, 10)
    assert model.tensors[number].values is None


def test_the_part_of_a_graph_that_gives_an_output_leaves_out_the_rest() -> None:
    writer = TfliteWriter()
    images = writer.tensor((1, 2, 2, 1))
    wanted = writer.run("LOGISTIC", [images], (1, 2, 2, 1))
    other = writer.add(images, images)
    model = parse_tflite(writer.file([images], [wanted, other]), "two.tflite").giving((wanted,))
    assert [operation.kind for operation in model.operations] == ["LOGISTIC"]
    assert model.outputs == (wanted,)


def test_a_missing_file_is_an_error_of_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.tflite cannot be read: No such file"):
        read_tflite(tmp_path / "absent.tflite")


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(WeightsError, match="photo is not a TensorFlow Lite file: bytes 4 to 7 are b'JFIF'"):
        parse_tflite(b"\xff\xd8\xff\xe0JFIF", "photo")


def test_an_unknown_operation_is_named_by_its_code() -> None:
    writer = TfliteWriter()
    images = writer.tensor((1, 2, 2, 1))
    output = writer.run("TANH", [images], (1, 2, 2, 1))
    with pytest.raises(WeightsError, match=r"odd\.tflite has operation 28 .* known are ADD, CONCATENATION, CONV_2D"):
        parse_tflite(writer.file([images], [output]), "odd.tflite")


def test_a_truncated_or_altered_file_never_gives_another_error() -> None:
    whole = small_file()
    for length in range(8, len(whole), 3):
        try:
            parse_tflite(whole[:length], "cut.tflite")
        except WeightsError as error:
            assert "cut.tflite" in str(error)  # noqa: PT017 - some lengths lose only padding
    random = np.random.default_rng(0)
    for _ in range(300):
        spoilt = bytearray(whole)
        spoilt[random.integers(8, len(whole))] = random.integers(256)
        try:
            parse_tflite(bytes(spoilt), "spoilt.tflite")
        except WeightsError as error:
            assert "spoilt.tflite" in str(error)  # noqa: PT017


def test_a_file_cut_in_half_is_called_damaged() -> None:
    whole = small_file()
    with pytest.raises(WeightsError, match=r"half\.tflite is a damaged TensorFlow Lite file"):
        parse_tflite(whole[: len(whole) // 2], "half.tflite")
