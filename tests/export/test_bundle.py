"""What `vsg export` writes: a manifest that holds, and a graph that is static but for batch and time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime import InferenceSession

from export.bundle import export_bundle
from export.commands import export
from export.errors import ExportError
from models.bundle import Bundle, Tensor
from models.errors import WeightsError
from models.predictions import PairPredictions
from tests.export.conftest import Exported


def test_the_manifest_says_what_made_the_model(compact: Exported) -> None:
    manifest = Bundle.load(compact.bundle.folder).manifest
    assert (manifest.name, manifest.version) == ("arn-compact", "2")
    assert (manifest.family, manifest.precision) == ("one_stage", "fp32")
    assert (manifest.frame_size.height, manifest.frame_size.width, manifest.clip_length) == (128, 160, 8)
    assert (manifest.training.data, manifest.training.seed) == ("Puppet Genome", 7)
    assert manifest.training.command == "vsg train x.yaml"
    assert manifest.training.figures == {"demanding": {"no": {"R@20": 0.7}}}


def test_a_bundle_is_two_files(compact: Exported) -> None:
    names = sorted(path.name for path in compact.bundle.folder.iterdir())
    assert names == ["manifest.json", "scene_graph.onnx"], "weights lie inside the graph"


def test_tensors_are_described_with_symbolic_batch_and_time_and_all_else_fixed(compact: Exported) -> None:
    (stage,) = compact.bundle.manifest.stages
    assert stage.inputs == [Tensor(name="frames", dtype="uint8", shape=("batch", "time", 128, 160, 3))]
    pairs = ("batch", "time", 20)
    wanted = {
        "pair_mask": pairs, "subject_boxes": (*pairs, 4), "subject_scores": pairs, "object_boxes": (*pairs, 4),
        "object_scores": (*pairs, 36), "attention": (*pairs, 3), "spatial": (*pairs, 6), "contacting": (*pairs, 17),
    }  # fmt: skip
    assert {output.name: output.shape for output in stage.outputs} == wanted
    assert {output.name for output in stage.outputs if output.dtype == "bool"} == {"pair_mask"}


def test_the_graph_is_static_but_for_batch_and_time(compact: Exported) -> None:
    model = onnx.load(str(compact.bundle.folder / "scene_graph.onnx"))
    onnx.checker.check_model(model)
    for value in [*model.graph.input, *model.graph.output]:
        symbolic = [bool(dimension.dim_param) for dimension in value.type.tensor_type.shape.dim]
        assert symbolic == [True, True] + [False] * (len(symbolic) - 2), value.name
    operators = {node.op_type for node in model.graph.node}
    assert {"If", "Loop", "Scan", "NonZero"} & operators == set(), "nothing depends on the data"
    assert "LayerNormalization" in operators, "not taken apart, which overflows in half precision"


def test_the_service_can_read_the_outputs(small: Exported) -> None:
    session = InferenceSession(small.bundle.folder / "scene_graph.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    frames = np.zeros((2, 3, 64, 64, 3), np.uint8)
    outputs = dict(zip(names, session.run(names, {"frames": frames}), strict=True))
    assert len(PairPredictions.from_outputs(outputs, 1)) == 3


def test_a_name_that_no_manifest_can_hold_is_refused(small: Exported, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the manifest cannot hold name 'My Model'"):
        export_bundle(small.checkpoint, tmp_path / "x", name="My Model", version="1", description="")


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    with pytest.raises(WeightsError, match=r"x\.pt is not a checkpoint"):
        export_bundle(tmp_path / "x.pt", tmp_path / "x", name="x", version="1", description="")


def test_vsg_export_writes_names_and_checks(small: Exported, tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text(json.dumps({"with": {"R@10": 0.5}}))
    out = tmp_path / "from-the-folder"
    arguments = [str(small.checkpoint), str(out), "--figures", f"easy={tmp_path / 'figures.json'}"]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 0, result.output
    assert f"wrote {out / 'scene_graph.onnx'}" in result.output
    assert "contacting       agrees within" in result.output
    manifest = Bundle.load(out).manifest
    assert manifest.name == "from-the-folder"
    assert manifest.training.figures == {"easy": {"with": {"R@10": 0.5}}}


def test_vsg_export_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    result = CliRunner().invoke(export, [str(tmp_path / "x.pt"), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "is not a checkpoint of this project" in result.output
