"""Bundles in other precisions: what is quantised, what is kept, what it costs, and when it is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from export.calibration import tensors_of_stages
from export.commands import export
from export.errors import ExportError
from export.fp16 import to_half
from export.int8 import quantise
from export.precision import change_precision
from export.tensorrt import build_engines
from models.engines import EngineName, Tensors, open_stages
from models.graph.bundle import Bundle, PrecisionCost
from tests.export.conftest import Exported


@pytest.fixture(scope="module")
def int8(small: Exported, puppets: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("int8") / "small-int8"
    return change_precision(small.bundle, folder, "int8", puppets, engine=None, most_recall_loss=1)


def run(bundle: Bundle, engine: EngineName, tensors: Tensors) -> Tensors:
    known = dict(tensors)
    for stage in open_stages(bundle, engine):
        known.update(stage.run(known))
    return known


def frames(bundle: Bundle) -> Tensors:
    size = bundle.manifest.frame_size
    random = np.random.default_rng(0)
    return {
        "frames": random.integers(0, 256, (2, 2, size.height, size.width, 3), np.uint8),
        "timestamps": np.zeros((2, 2), np.float32),
    }


def quantised(path: Path) -> set[str]:
    """Operators that take weights in int8."""
    graph = onnx.load(str(path)).graph
    int8 = {constant.name for constant in graph.initializer if constant.data_type == onnx.TensorProto.INT8}
    weights = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in int8}
    return {node.op_type for node in graph.node if weights & set(node.input)}


def test_int8_quantises_convolutions_and_products_with_weights(small: Exported, int8: Bundle) -> None:
    (stage,) = int8.manifest.stages
    assert quantised(int8.path_of(stage)) == {"Conv", "MatMul"}
    model = onnx.load(str(int8.path_of(stage)))
    assert {node.domain for node in model.graph.node} == {declared.domain for declared in model.opset_import} == {""}
    before, after = (bundle.path_of(stage).stat().st_size for bundle in (small.bundle, int8))
    assert after < before
    assert int8.manifest.stages == small.bundle.manifest.stages, "it takes and gives what it did"


def test_the_cost_of_int8_is_in_the_manifest(int8: Bundle, puppets: Path) -> None:
    assert int8.manifest.precision == "int8"
    cost = int8.manifest.precision_cost
    assert isinstance(cost, PrecisionCost)
    assert (cost.data, cost.engine) == (puppets.name, "onnxruntime-cpu")
    assert 0 <= cost.recall <= 1


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino"])
def test_int8_outputs_correlate_with_fp32_outputs(small: Exported, int8: Bundle, engine: EngineName) -> None:
    given = frames(int8)
    wanted, found = run(small.bundle, engine, given), run(int8, engine, given)
    for name in ("object_boxes", "object_scores", "contacting"):
        assert 0.9 < np.corrcoef(wanted[name].ravel().astype(float), found[name].ravel().astype(float))[0, 1] < 1, name


def test_every_stage_of_clips_is_calibrated_on_the_outputs_of_earlier_stages(
    scored_sttran: Exported, puppets: Path, tmp_path: Path
) -> None:
    bundle = scored_sttran.bundle
    taken = tensors_of_stages(bundle, puppets)
    assert set(taken) == {stage.name for stage in bundle.manifest.stages if stage.span != "video"}
    for stage in bundle.manifest.stages:
        if stage.span == "video":
            shutil.copy(bundle.path_of(stage), tmp_path)
            continue
        assert [clip.keys() for clip in taken[stage.name]] == [{tensor.name for tensor in stage.inputs}] * 2
        quantise(bundle.path_of(stage), tmp_path / stage.file, taken[stage.name])
        assert quantised(tmp_path / stage.file), stage.name
    for engine in ("onnxruntime-cpu", "openvino"):
        assert run(Bundle(tmp_path, bundle.manifest), engine, frames(bundle))["relation_scores"].shape == (2, 2, 4)


def test_a_precision_that_costs_too_much_is_refused_and_nothing_written(
    small: Exported, puppets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        ExportError, match=r"int8 costs too much: .* is [\d.]+ instead of [\d.]+, [\d.]+ less; at most -2"
    ):
        change_precision(small.bundle, out, "int8", puppets, engine=None, most_recall_loss=-2)
    assert not out.exists()


def test_a_precision_that_no_engine_here_computes_is_refused_with_the_reason(
    small: Exported, puppets: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"bf16 cannot be measured here: onnxruntime-cpu does not compute in bf16"):
        change_precision(small.bundle, tmp_path / "x", "bf16", puppets, engine="onnxruntime-cpu", most_recall_loss=1)
    assert not (tmp_path / "x").exists()


def test_a_folder_without_frames_is_named(small: Exported, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no frames to calibrate on; it must hold frames/"):
        change_precision(small.bundle, tmp_path / "x", "int8", tmp_path, engine=None, most_recall_loss=1)


def test_fp16_keeps_the_inputs_and_outputs_of_the_graph(scored_sttran: Exported, tmp_path: Path) -> None:
    bundle = scored_sttran.bundle
    for stage in bundle.manifest.stages:
        to_half(bundle.path_of(stage), tmp_path / stage.file)
        before, after = (onnx.load(str(folder / stage.file)).graph for folder in (bundle.folder, tmp_path))
        for mine, theirs in ((before.input, after.input), (before.output, after.output)):
            assert [(value.name, value.type) for value in mine] == [(value.name, value.type) for value in theirs]
        halves = [each for each in after.initializer if each.data_type == onnx.TensorProto.FLOAT16]
        assert halves, stage.name
    half = Bundle(tmp_path, bundle.manifest)
    wanted, found = (run(each, "onnxruntime-cpu", frames(bundle)) for each in (bundle, half))
    np.testing.assert_allclose(found["object_scores"], wanted["object_scores"], atol=0.02)


def test_fp16_leaves_sums_into_places_in_fp32_which_cpus_have_no_fp16_for(tmp_path: Path) -> None:
    floats = onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("ScatterElements", ["start", "places", "added"], ["sums"], axis=0, reduction="add")
    graph = onnx.helper.make_graph(
        [node],
        "sums",
        [
            onnx.helper.make_tensor_value_info("start", floats, (3,)),
            onnx.helper.make_tensor_value_info("places", onnx.TensorProto.INT64, (2,)),
            onnx.helper.make_tensor_value_info("added", floats, (2,)),
        ],
        [onnx.helper.make_tensor_value_info("sums", floats, (3,))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(tmp_path / "fp32.onnx"))
    to_half(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "fp16.onnx"), providers=["CPUExecutionProvider"])
    inputs = {"start": np.zeros(3, np.float32), "places": np.array([1, 1]), "added": np.array([2.0, 3.0], np.float32)}
    assert session.run(None, inputs)[0].tolist() == [0, 5, 0]


def test_another_precision_needs_data_to_measure_it_on(small: Exported, tmp_path: Path) -> None:
    result = CliRunner().invoke(export, [str(small.checkpoint), str(tmp_path / "x"), "--precision", "int8"])
    assert result.exit_code == 2
    assert "--precision int8 needs --calibration" in result.output


def test_tensorrt_engines_need_tensorrt_and_a_gpu(small: Exported) -> None:
    with pytest.raises(ExportError, match=r"no TensorRT engine can be built here: .*NVIDIA GPU, TensorRT's libraries"):
        build_engines(small.bundle)


def test_tensorrt_engines_take_their_types_from_the_graph(int8: Bundle) -> None:
    with pytest.raises(ExportError, match="int8 graphs are for CPUs"):
        build_engines(int8)
