"""BlazePose's landmark network from a published TensorFlow Lite file."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from models.errors import WeightsError
from models.networks.pose import KEYPOINTS, PUBLISHED_POINTS, SIDE, VALUES, LandmarkNetwork, PoseConfig, PoseNetwork
from models.networks.published.kernels import copy_kernels
from models.networks.tflite import TfliteGraph, TfliteModel

_TOLERANCE = 0.01
"""Most that a value of a point may differ from the file's graph, in pixels of the crop."""


def import_pose(model: TfliteModel, config: PoseConfig, name: str) -> PoseNetwork:
    """Builds the network with a file's weights and checks that it computes what the file's graph does.

    Raises WeightsError where the file holds another network.

    name: what errors call the file.
    """
    model = model.giving(_outputs(model, name))
    network = PoseNetwork(config)
    landmarks = network.landmarks
    points = landmarks.points
    wide = nn.Conv2d(points.in_channels, PUBLISHED_POINTS * VALUES, points.kernel_size)  # type: ignore[arg-type]
    landmarks.points = wide
    copy_kernels(model, _layers(landmarks), name)
    landmarks.points = points
    with torch.no_grad():
        for own, read in zip(points.parameters(), wide.parameters(), strict=True):
            own.copy_(read[: len(own)])
    _compare(landmarks.eval(), model, name)
    return network.eval()


def _outputs(model: TfliteModel, name: str) -> tuple[int, ...]:
    """The file's outputs that are read here: the points of the crop and the confidence."""
    shapes = {model.tensors[number].shape: number for number in model.outputs}
    wanted = ((1, PUBLISHED_POINTS * VALUES), (1, 1))
    if not shapes.keys() >= {*wanted}:
        raise WeightsError(f"{name} gives {sorted(shapes)}, not {wanted} among others: it holds another network")
    return tuple(shapes[shape] for shape in wanted)


@torch.inference_mode()
def _compare(network: LandmarkNetwork, model: TfliteModel, name: str) -> None:
    crops = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    points, presence = network(crops.permute(0, 3, 1, 2))
    expected, confidence = TfliteGraph(model).eval()(crops)
    expected = expected.unflatten(1, (PUBLISHED_POINTS, VALUES))[:, : len(KEYPOINTS)]
    difference = max(float((points - expected).abs().max()), float((presence - confidence).abs().max()))
    if difference > _TOLERANCE:
        raise WeightsError(f"{name} is another network than BlazePose: outputs differ by {difference:.3g}")


def _layers(network: LandmarkNetwork) -> Iterator[nn.Conv2d]:
    """The convolutions in the order of the published file."""
    return (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
