"""The graph of a TensorFlow Lite file computes what TensorFlow Lite defines, on values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models.errors import WeightsError
from models.networks.tflite import TfliteGraph, parse_tflite
from models.networks.tflite.graph import pad_same
from tests.support.tflite import RELU6, VALID, TfliteWriter


def computed(images: Tensor, build: Callable[[TfliteWriter, int], int]) -> Tensor:
    """Runs a graph of one input, images with channels last."""
    writer = TfliteWriter()
    given = writer.tensor(tuple(images.shape))
    output = build(writer, given)
    graph = TfliteGraph(parse_tflite(writer.file([given], [output]), "written.tflite"))
    (result,) = graph(images)
    return result


def counted(rows: int, columns: int) -> Tensor:
    return torch.arange(rows * columns, dtype=torch.float32).view(1, rows, columns, 1)


def ones(kernel: int, stride: int) -> torch.nn.Conv2d:
    layer = torch.nn.Conv2d(1, 1, kernel, stride)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.constant_(layer.bias, 0.5)
    return layer


def test_same_padding_of_even_sides_puts_the_odd_pixel_at_the_end() -> None:
    # Windows begin at rows and columns 0 and 2; the last reach one past the edge.
    result = computed(counted(4, 4), lambda writer, images: writer.conv(images, ones(3, 2)))
    assert result.flatten().tolist() == [45.5, 39.5, 66.5, 50.5]


def test_same_padding_of_odd_sides_is_even_on_both_sides() -> None:
    result = computed(counted(3, 3), lambda writer, images: writer.conv(images, ones(3, 2)))
    assert result.flatten().tolist() == [8.5, 12.5, 20.5, 24.5]


def test_valid_padding_adds_nothing() -> None:
    result = computed(counted(3, 3), lambda writer, images: writer.conv(images, ones(3, 1), padding=VALID))
    assert result.tolist() == [[[[36.5]]]]


def test_the_filler_of_a_maximum_is_never_the_largest() -> None:
    result = computed(counted(4, 4) - 20, lambda writer, images: writer.pool(images, 3, 2))
    assert result.flatten().tolist() == [-10.0, -9.0, -6.0, -5.0]
    assert pad_same(torch.zeros(1, 1, 4, 4), (3, 3), (2, 2), -torch.inf)[0, 0, 4].tolist() == [-torch.inf] * 5


def test_relu6_follows_a_sum() -> None:
    result = computed(counted(2, 2) * 3 - 3, lambda writer, images: writer.add(images, images, RELU6))
    assert result.flatten().tolist() == [0.0, 0.0, 6.0, 6.0]


def test_a_resize_to_the_nearest_rounds_down() -> None:
    def build(writer: TfliteWriter, images: int) -> int:
        return writer.nearest(images, like=writer.tensor((1, 1, 5, 1)))

    assert computed(counted(1, 3), build).flatten().tolist() == [0.0, 0.0, 1.0, 1.0, 2.0]


def test_a_reshape_reads_images_channels_last() -> None:
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])  # (1, 1, 2, 2)
    result = computed(images, lambda writer, given: writer.reshape(given, (1, 4)))
    assert result.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_images_join_along_the_axis_that_the_file_means() -> None:
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert computed(images, lambda writer, given: writer.join([given, given], 2)).shape == (1, 1, 4, 2)
    assert computed(images, lambda writer, given: writer.join([given, given], 3)).shape == (1, 1, 2, 4)


def test_padding_names_the_sides_channels_last() -> None:
    result = computed(torch.ones(1, 1, 1, 2), lambda writer, images: writer.pad(images, 1))
    assert result.shape == (1, 3, 3, 2)
    assert result[0, 1, 1].tolist() == [1.0, 1.0]
    assert result.sum() == 2


def test_a_bilinear_resize_has_its_centres_in_the_middle_of_pixels() -> None:
    def build(writer: TfliteWriter, images: int) -> int:
        size = writer.constant(np.array([1, 4], "int32"))
        return writer.run("RESIZE_BILINEAR", [images, size], (1, 1, 4, 1), {3: ("b", 1)})

    assert computed(counted(1, 2), build).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_float16_weights_pass_through_their_own_operation() -> None:
    def build(writer: TfliteWriter, images: int) -> int:
        stored = writer.constant(np.full((1, 1, 2, 1), 1.5, "float16"))
        return writer.add(images, writer.run("DEQUANTIZE", [stored], (1, 1, 2, 1)))

    result = computed(counted(1, 2), build)
    assert result.dtype == torch.float32
    assert result.flatten().tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        ("ADD", {0: ("b", 4)}, "activation 4"),
        ("RESIZE_BILINEAR", {2: ("b", 1), 3: ("b", 1)}, "align_corners 1"),
        ("RESIZE_BILINEAR", {}, "half_pixel_centers 0"),
        ("CONV_2D", {1: ("i", 1), 2: ("i", 1), 4: ("i", 2), 5: ("i", 1)}, "dilation_w 2"),
        ("DEPTHWISE_CONV_2D", {1: ("i", 1), 2: ("i", 1), 3: ("i", 2)}, "multiplier 2"),
    ],
)
def test_an_option_that_is_not_supported_is_named(kind: str, options: dict[int, tuple[str, int]], name: str) -> None:
    writer = TfliteWriter()
    images = writer.tensor((1, 2, 2, 1))
    output = writer.run(kind, [images, writer.constant(np.array([2, 2], "int32"))], (1, 2, 2, 1), options)
    with pytest.raises(WeightsError, match=f"the file's {kind} has {name}, which is not supported"):
        TfliteGraph(parse_tflite(writer.file([images], [output]), "odd.tflite"))
