"""What `vsg export` writes: a manifest that holds, and graphs that are static but for batch and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime import InferenceSession

from export.bundle import export_bundle
from export.commands import export
from export.errors import ExportError
from models.errors import WeightsError
from models.graph.bundle import Bundle, Tensor
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME
from models.networks.checkpoint import save_checkpoint
from tests.export.conftest import FIGURES, Exported
from tests.support.networks import make_lively, tiny, tiny_detector

PAIRS = ("batch", "time", 4)
PREDICATES = {"attention": (*PAIRS, 3), "spatial": (*PAIRS, 6), "contacting": (*PAIRS, 17)}
DETECTED = {
    "pair_mask": PAIRS, "subject_boxes": (*PAIRS, 4), "subject_scores": PAIRS,
    "object_boxes": (*PAIRS, 4), "object_scores": (*PAIRS, 36),
}  # fmt: skip


def test_the_manifest_says_what_made_the_model(small: Exported) -> None:
    manifest = Bundle.load(small.bundle.folder).manifest
    assert (manifest.name, manifest.version) == ("small", "2")
    assert (manifest.family, manifest.precision, manifest.relation_scoring) == ("one_stage", "fp32", False)
    assert (manifest.frame_size.height, manifest.frame_size.width, manifest.clip_length) == (64, 64, 3)
    assert (manifest.training.data, manifest.training.seed) == ("Puppet Genome", 7)
    assert manifest.training.command == "vsg train x.yaml"
    assert manifest.training.figures == {"easy": FIGURES}


def test_a_one_stage_bundle_is_a_manifest_and_an_onnx_file(small: Exported) -> None:
    names = sorted(path.name for path in small.bundle.folder.iterdir())
    assert names == ["manifest.json", "scene_graph.onnx"], "weights lie inside the graph"


def test_tensors_are_described_with_symbolic_batch_and_time_and_all_else_fixed(small: Exported) -> None:
    (stage,) = small.bundle.manifest.stages
    assert stage.inputs == [Tensor(name="frames", dtype="uint8", shape=("batch", "time", 64, 64, 3))]
    wanted = {name: (*shape[:2], 5, *shape[3:]) for name, shape in (DETECTED | PREDICATES).items()}
    assert {output.name: output.shape for output in stage.outputs} == wanted, "and nothing that nobody reads"
    assert {output.name for output in stage.outputs if output.dtype == "bool"} == {"pair_mask"}


def test_a_two_stage_network_with_a_scorer_is_a_chain_that_ends_with_whole_videos(scored_sttran: Exported) -> None:
    manifest = scored_sttran.bundle.manifest
    assert (manifest.family, manifest.relation_scoring, manifest.clip_length) == ("two_stage", True, 40)
    detector, relations, *scorer = manifest.stages
    features = {"subject_features": (*PAIRS, 24), "object_features": (*PAIRS, 24),
                "union_features": (*PAIRS, 16, 3, 3)}  # fmt: skip
    assert {each.name: each.shape for each in detector.outputs} == DETECTED | features
    assert {each.name: each.shape for each in relations.outputs} == PREDICATES | {"representation": (*PAIRS, 32)}
    assert [each.name for each in scorer[-1].outputs] == ["relation_scores"]
    assert [stage.span for stage in manifest.stages] == ["frame"] + ["clip"] * len(scorer) + ["video"]
    known = {"frames", "timestamps"}
    for stage in manifest.stages:
        assert {each.name for each in stage.inputs} <= known, stage.name
        known |= {each.name for each in stage.outputs}


def test_an_arn_with_a_scorer_keeps_the_one_stage_family(scored_arn: Exported) -> None:
    manifest = scored_arn.bundle.manifest
    assert (manifest.family, manifest.relation_scoring) == ("one_stage", True)
    assert "representation" in {each.name for each in manifest.stages[0].outputs}, "the scorer reads it"


@pytest.mark.parametrize("name", ["scored_sttran", "scored_arn"])
def test_a_scorer_that_reads_boxes_is_given_them(name: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    (context,) = [stage for stage in exported.bundle.manifest.stages if stage.name == "spatial_context"]
    assert {"subject_boxes", "object_boxes"} <= {each.name for each in context.inputs}


def test_only_networks_that_know_uncertainty_give_it(other: Exported) -> None:
    manifest = other.bundle.manifest
    assert (manifest.family, manifest.relation_scoring) == ("two_stage", False)
    relations = manifest.stages[1]
    uncertain = {"epistemic": (*PAIRS, 26), "aleatoric": (*PAIRS, 26)}
    wanted = PREDICATES | (uncertain if manifest.name in ("fremure-bayesian", "fremure-gmm") else {})
    assert {each.name: each.shape for each in relations.outputs} == wanted
    reads_times = "timestamps" in {each.name for each in relations.inputs}
    assert reads_times == (manifest.name == "mosa"), "motion is by the second; the others ask for frames only"


@pytest.mark.parametrize("name", ["small", "scored_sttran", "scored_arn"])
def test_graphs_are_static_but_for_batch_and_time(name: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    for stage in exported.bundle.manifest.stages:
        model = onnx.load(str(exported.bundle.path_of(stage)))
        onnx.checker.check_model(model)
        assert {node.domain for node in model.graph.node} == {""}, "no operators of its own"
        for value in [*model.graph.input, *model.graph.output]:
            symbolic = [bool(dimension.dim_param) for dimension in value.type.tensor_type.shape.dim]
            assert symbolic == [True, True] + [False] * (len(symbolic) - 2), (stage.name, value.name)
        operators = {node.op_type for node in model.graph.node}
        assert {"If", "Loop", "Scan", "NonZero"} & operators == set(), "nothing depends on the data"
        # Suppression alone gives as many rows as there are, which are scattered into a mask at once.
        assert ("NonMaxSuppression" in operators) == (stage.name == "detector")
        if stage.name in ("scene_graph", "relations"):
            assert "LayerNormalization" in operators, "not taken apart, which overflows in half precision"


@pytest.mark.parametrize("name", ["small", "scored_sttran"])
def test_the_service_can_read_the_outputs(name: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    tensors = {"frames": np.zeros((2, 3, 64, 64, 3), np.uint8), "timestamps": np.zeros((2, 3), np.float32)}
    for stage in exported.bundle.manifest.stages:
        session = InferenceSession(exported.bundle.path_of(stage), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        given = {each.name: tensors[each.name] for each in session.get_inputs()}
        tensors.update(zip(names, session.run(names, given), strict=True))
    said = PairPredictions.from_outputs(tensors, ACTION_GENOME, 1)
    assert len(said) == 3
    assert (said.relation_scores is not None) == (name == "scored_sttran")
    assert said.predicate_scores.dtype == np.float32


def test_a_name_that_no_manifest_can_hold_is_refused(
    small: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scene_graph.onnx").write_bytes(small.bundle.path_of(small.bundle.manifest.stages[0]).read_bytes())
    monkeypatch.setattr("export.bundle.export_network", lambda *_: small.bundle.manifest.stages)
    with pytest.raises(ExportError, match="the manifest cannot hold name 'My Model'"):
        export_bundle(small.checkpoint, tmp_path, name="My Model", version="1", description="")


def test_exporting_a_detector_alone_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "detector.pt", make_lively(tiny_detector()), {})
    with pytest.raises(ExportError, match=r"detector\.pt holds a detector alone; train a relation"):
        export_bundle(tmp_path / "detector.pt", tmp_path / "x", name="x", version="1", description="")


def test_a_network_of_single_frames_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", make_lively(tiny(clip_length=1)), {})
    with pytest.raises(ExportError, match="clip_length 1 cannot be exported; give its model 2 or more"):
        export_bundle(tmp_path / "x.pt", tmp_path / "x", name="x", version="1", description="")


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    with pytest.raises(WeightsError, match=r"x\.pt is not a checkpoint"):
        export_bundle(tmp_path / "x.pt", tmp_path / "x", name="x", version="1", description="")


def test_vsg_export_writes_names_and_checks(small: Exported) -> None:
    assert f"wrote {small.bundle.folder / 'scene_graph.onnx'}" in small.said
    assert "contacting       agrees within" in small.said
    assert Bundle.load(small.bundle.folder).manifest.name == "small", "the folder's, where none is given"


def test_vsg_export_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    result = CliRunner().invoke(export, [str(tmp_path / "x.pt"), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "is not a checkpoint of this project" in result.output
