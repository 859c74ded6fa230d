"""Bundles of any detector and a layout network, as the service serves them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto

from export import onnx as onnx_export
from export.check import sample_frames
from export.detectors.opening import Flags
from export.detectors.sources import open_source
from export.join_command import join
from models.engines import open_stages
from models.graph.bundle import Bundle, sha256_of
from models.graph.scene_graph import Frame, SceneGraph
from models.graph.vocabulary import ACTION_GENOME
from models.networks.checkpoint import save_checkpoint
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig
from models.networks.detectors.torchvision_detectors import Architecture, make_model
from models.networks.pose import PoseConfig, PoseNetwork
from tests.conftest import Server, serve
from tests.export.conftest import save
from tests.support.detectors import (
    NAMES,
    SIZE,
    Box,
    Detr,
    Torchvision,
    Yolox,
    paint,
    write_detector,
    write_fixed_detector,
)
from tests.support.networks import tiny_detector, tiny_layout, tiny_two_stage
from tests.support.videos import write_frames
from vsg import open_model

LABELS = {"person": "person", "cup": "cup/glass/bottle", "couch": "sofa/couch"}
NUMBERS = ("--pairs", "6", "--persons", "2", "--things", "4", "--object-score", "0.1", "--predicate-score", "0.05")
ONNX: dict[str, Callable[[Path], Path]] = {
    "grid": lambda path: write_detector(path, Yolox(decoded=False), ("images",), ("output",)),
    "queries": lambda path: write_detector(
        path, Detr(), ("pixel_values", "pixel_mask"), ("logits", "pred_boxes"), any_batch=True
    ),
    "rows": lambda path: write_detector(path, Torchvision(), ("image",), ("boxes", "labels", "scores"), names=None),
}
"""YOLOX's, DETR's and torchvision's conventions."""
TORCHVISION: Architecture = "fasterrcnn_mobilenet_v3_large_320_fpn"


@dataclass(frozen=True)
class Joined:
    """A bundle, and what the command printed."""

    bundle: Bundle
    said: str


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(join, [str(argument) for argument in arguments])


def joined(detector: str | Path, relations: Path, out: Path, *arguments: str | Path) -> Joined:
    result = run(detector, relations, out, *NUMBERS, *arguments)
    assert result.exit_code == 0, result.output
    return Joined(Bundle.load(out), result.output)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout network's checkpoint."""
    path = tmp_path_factory.mktemp("layout") / "layout.pt"
    save_checkpoint(path, tiny_layout(), {"data": "made up"})
    return path


@pytest.fixture(scope="module")
def bundle_of(
    layout: Path, relations_once: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Joined]:
    """Joins a detector of `ONNX`, one of torchvision's or the `crowd` when it is first asked for."""
    folder = tmp_path_factory.mktemp("joined")
    (folder / "names.txt").write_text("\n".join(("N/A", *NAMES)))

    @cache
    def make(name: str) -> Joined:
        if name == "crowd":  # it has another vocabulary, and so another relation network
            numbers = ("--persons", "10", "--things", "20", "--pairs", "60")
            return joined(write_crowd(folder / "crowd.onnx"), layout, folder / name, "--keep-classes", *numbers)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_export, "_write", relations_once)
            if name == TORCHVISION:
                source = f"torchvision:{name}={write_lively(folder / 'weights.pt')}"
                return joined(source, layout, folder / "torchvision", "--input-size", "96x64", "--licence", "none")
            given = ("--classes", folder / "names.txt", "--licence", "MIT") if name == "rows" else ()
            return joined(ONNX[name](folder / f"{name}.onnx"), layout, folder / name, *given)

    return make


def write_crowd(path: Path) -> Path:
    """A detector that finds 30 persons and 200 things on every picture."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (1, 230, 2))
    boxes = np.concatenate((corners, corners + random.uniform(2, 14, (1, 230, 2))), -1).astype(np.float32)
    scores = random.uniform(0.3, 0.9, (1, 230)).astype(np.float32)
    labels = np.array([[0] * 30 + [1 + place % 2 for place in range(200)]])
    inputs = {"images": (TensorProto.FLOAT, (1, 3, SIZE, SIZE))}
    outputs = {"boxes": boxes, "scores": scores, "labels": labels}
    return write_fixed_detector(path, inputs, outputs, names=str(list(NAMES)))


@pytest.fixture(scope="module")
def service(bundle_of: Callable[[str], Joined], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folders = tuple(bundle_of(name).bundle.folder for name in ONNX)
    with serve(tmp_path_factory.mktemp("data"), bundles=folders) as running:
        yield running


def scene(second: float) -> dict[str, Box]:
    """A person walks past a couch with a cup before them; after two seconds nobody is there."""
    if second >= 2:
        return {"couch": (30, 40, 60, 62)}
    left = round(4 + 8 * second)
    return {"couch": (30, 40, 60, 62), "person": (left, 8, left + 16, 60), "cup": (left + 18, 20, left + 24, 30)}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, twice as wide as the detectors' input."""
    frames = [paint(scene(index / 4), across=2) for index in range(12)]
    return write_frames(tmp_path_factory.mktemp("video") / "scene.mp4", frames)


@pytest.mark.parametrize("name", [*ONNX, "crowd"])
def test_frames_in_a_batch_give_what_each_gives_alone(bundle_of: Callable[[str], Joined], name: str) -> None:
    detector, _ = open_stages(bundle_of(name).bundle, "onnxruntime-cpu")
    frames = np.stack([[paint(scene(second)) for second in seconds] for seconds in ((0.0, 1.0, 2.5), (1.5, 2.0, 0.5))])
    together = detector.run({"frames": frames})
    if name in ONNX:
        assert together["pair_mask"].any(-1).tolist() == [[True, True, False], [True, False, True]]
    for clip in range(2):
        for time in range(3):
            alone = detector.run({"frames": frames[clip, time][None, None]})
            for output, values in alone.items():
                assert np.allclose(together[output][clip, time], values[0, 0], atol=1e-5), output


def graph_of(service: Server, video: Path, name: str) -> SceneGraph:
    answer = service.post(video, params={"model": name}, data={"fps": "4"})
    assert answer.status_code == 200, answer.text
    return SceneGraph.model_validate_json(answer.content)


def boxes_of(frame: Frame) -> dict[str, tuple[float, ...]]:
    return {thing.label: thing.box for thing in frame.objects}


@pytest.mark.parametrize("name", ONNX)
def test_a_posted_video_becomes_a_graph_of_what_the_detector_sees(service: Server, video: Path, name: str) -> None:
    graph = graph_of(service, video, name)
    assert (graph.model.name, graph.status, len(graph.frames)) == (name, "succeeded", 12)
    for frame in graph.frames:
        wanted = scene(frame.timestamp)
        if "person" not in wanted:
            assert not frame.triplets, "nobody is there"
            continue
        found = boxes_of(frame)
        assert found.keys() == {LABELS[each] for each in wanted}
        for each, box in wanted.items():
            stretched = [edge * (2 if axis % 2 == 0 else 1) for axis, edge in enumerate(box)]
            assert found[LABELS[each]] == pytest.approx(stretched, abs=3), "pixels of the displayed video"
        assert frame.triplets
    assert "person" in graph.prompt


def test_a_person_without_a_thing_is_in_the_graph(bundle_of: Callable[[str], Joined], tmp_path: Path) -> None:
    frames = [paint({"person": (20, 8, 36, 60)} if index < 8 else {}, across=2) for index in range(12)]
    with open_model(bundle_of("grid").bundle.folder) as model:
        graph = model(write_frames(tmp_path / "walker.mp4", frames), fps=4)
    shown = [boxes_of(frame) for frame in graph.frames]
    assert [list(boxes) for boxes in shown] == [["person"]] * 8 + [[]] * 4
    assert all(boxes["person"] == pytest.approx((40, 8, 72, 60), abs=3) for boxes in shown[:8])
    assert graph.relations == []
    assert graph.prompt.endswith("\nThere are: a person (until 2 s).")


def test_boxes_of_padded_frames_are_pixels_of_the_video(
    bundle_of: Callable[[str], Joined], video: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(bundle_of("grid").bundle.folder, tmp_path / "padded")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["frame_size"]["fit"] = "pad"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with open_model(folder) as model:
        graph = model(video, fps=4)
    for frame in graph.frames:
        found, wanted = boxes_of(frame), scene(frame.timestamp)
        if "person" in wanted:
            assert found.keys() == {LABELS[each] for each in wanted}
            for each, (left, top, right, bottom) in wanted.items():
                assert found[LABELS[each]] == pytest.approx((2 * left, top, 2 * right, bottom), abs=4)


@pytest.mark.bench  # exporting its graph takes minutes
@pytest.mark.timeout(900)
def test_torchvisions_faster_r_cnn_is_joined(bundle_of: Callable[[str], Joined], tmp_path: Path) -> None:
    bundle = bundle_of(TORCHVISION).bundle
    size, (weights,) = bundle.manifest.frame_size, bundle.manifest.weights
    assert (size.width, size.height, weights.name, weights.licence) == (96, 64, TORCHVISION, "none")
    frames = sample_frames(np.random.default_rng(3), 1, 8, 64, 96)[0].repeat(2, 1).repeat(2, 2)
    graph = open_model(bundle.folder)(write_frames(tmp_path / "noise.mp4", frames), fps=4)
    assert any(frame.triplets for frame in graph.frames)
    assert all(0 <= edge <= 192 for frame in graph.frames for thing in frame.objects for edge in thing.box)


@pytest.mark.timeout(900)
def test_an_imported_detector_and_pose_are_joined(layout: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector, pose = EfficientDet(EfficientDetConfig(frame_height=64, frame_width=64)), PoseNetwork(PoseConfig())
    save_checkpoint(tmp_path / "detector.pt", detector.eval(), {"data": "COCO"})
    save_checkpoint(tmp_path / "pose.pt", pose.eval(), {})
    given = ("--pose", tmp_path / "pose.pt", "--least-score", "0.001", "--object-score", "0")
    bundle = joined(tmp_path / "detector.pt", layout, tmp_path / "out", *given).bundle
    assert [stage.name for stage in bundle.manifest.stages] == ["detector", "pose", "relations"]
    frames = sample_frames(np.random.default_rng(3), 1, 20, SIZE, SIZE)[0]
    graph = open_model(bundle.folder)(write_frames(tmp_path / "noise.mp4", frames), fps=4)
    assert len(graph.frames) == 20, "more than one clip"
    assert any(frame.triplets for frame in graph.frames)


def write_lively(path: Path) -> Path:
    """Random weights of torchvision's smallest Faster R-CNN, which is sure of persons and cups."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(TORCHVISION)
    model.roi_heads.box_predictor.cls_score.weight.data *= 30
    model.roi_heads.box_predictor.cls_score.bias.data[[1, 47]] = 30.0
    torch.save(model.state_dict(), path)
    return path


def test_a_checkpoint_of_this_project_may_be_the_detector(tmp_path: Path) -> None:
    checkpoint, _ = save(tiny_detector(), tmp_path)
    opened = open_source(str(checkpoint), None, Flags())
    assert (opened.detector.names, opened.detector.frame_size) == (ACTION_GENOME.objects, (64, 64))
    assert (opened.data, opened.weights) == ("Puppet Genome", [])


def test_published_weights_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    published = {"title": "EfficientDet", "sha256": "0" * 64, "origin": "somewhere", "licence": "Apache-2.0"}
    network = EfficientDet(EfficientDetConfig(frame_height=64, frame_width=64))
    save_checkpoint(tmp_path / "detector.pt", network, {"published": published})
    opened = open_source(str(tmp_path / "detector.pt"), None, Flags())
    assert opened.detector.names[0] == "person"
    assert [weights.licence for weights in opened.weights] == ["Apache-2.0"]


def test_a_crowd_with_two_hundred_things_gives_a_valid_graph(bundle_of: Callable[[str], Joined], video: Path) -> None:
    graph = open_model(bundle_of("crowd").bundle.folder)(video, fps=4)
    assert {thing.label for frame in graph.frames for thing in frame.objects} == set(NAMES)
    assert all(len({triplet.subject for triplet in frame.triplets}) > 1 for frame in graph.frames)


def test_the_manifest_says_where_the_detector_comes_from(bundle_of: Callable[[str], Joined]) -> None:
    manifest = bundle_of("rows").bundle.manifest
    assert (manifest.family, manifest.training.network, manifest.relation_scoring) == ("two_stage", None, False)
    (weights,) = manifest.weights
    assert (weights.name, weights.origin, weights.licence) == ("rows.onnx", "unknown", "MIT")
    assert weights.sha256 == sha256_of(bundle_of("rows").bundle.folder.parent / "rows.onnx")
    assert "made up" in manifest.training.data


def test_the_command_tells_what_it_found_out(bundle_of: Callable[[str], Joined]) -> None:
    said = bundle_of("grid").said
    assert "BGR, white is 255, one frame at a time" in said
    assert "grid, undecoded" in said
    assert "cup is cup/glass/bottle" in said
    assert "frames in batches" in bundle_of("queries").said


def test_kept_classes_become_the_vocabulary(bundle_of: Callable[[str], Joined]) -> None:
    vocabulary = bundle_of("crowd").bundle.manifest.vocabulary
    assert (vocabulary.objects, vocabulary.subjects) == (NAMES, ("person",))
    assert vocabulary.groups == bundle_of("queries").bundle.manifest.vocabulary.groups


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return str(result.output)


def test_outputs_that_keep_no_contract_are_shown(layout: Path, tmp_path: Path) -> None:
    inputs = {"images": (TensorProto.FLOAT, (1, 3, SIZE, SIZE))}
    detector = write_fixed_detector(tmp_path / "odd.onnx", inputs, {"heat": np.zeros((1, 80, 16, 16), np.float32)})
    said = refused(detector, layout, tmp_path / "out", "--classes", "coco-80")
    assert "heat: float32 [1, 80, 16, 16]" in said
    assert all(f"{contract}: " in said for contract in ("rows", "queries", "grid"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mean", "red"), "R,G,B"),
        (("--input-size", "640"), "WIDTHxHEIGHT"),
        (("--input-size", "8x8"), "16 to 8192"),
        (("--columns", "box,box,score,label"), "name box four times"),
        (("--name", "Not A Name"), "the manifest cannot hold name"),
        (("--pairs", "2", "--things", "4"), "pairs is 2"),
        (("--keep-classes", "--subject", "robot"), "'robot', which is not one of"),
        (("--pose", "LAYOUT"), "not a part"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    layout: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    detector = write_crowd(tmp_path / "crowd.onnx")
    given = [str(layout) if argument == "LAYOUT" else argument for argument in arguments]
    assert said in refused(detector, layout, tmp_path / "out", *given)


def test_what_is_never_said_is_of_the_vocabulary(layout: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("never_said: {holding: [ball]}\n")
    said = refused(write_crowd(tmp_path / "crowd.onnx"), layout, tmp_path / "out", "--settings", str(settings))
    assert "never_said: holding has 'ball'" in said


@pytest.mark.parametrize("source", ["nothing.onnx", "torchvision:nothing", "."])
def test_a_detector_that_is_not_there_is_refused(layout: Path, tmp_path: Path, source: str) -> None:
    assert "torchvision:NAME" in refused(source, layout, tmp_path / "out")


@pytest.mark.parametrize("option", ["--bgr", "--one-by-one"])
def test_options_of_onnx_detectors_are_refused_elsewhere(layout: Path, tmp_path: Path, option: str) -> None:
    assert "leave out" in refused(f"torchvision:{TORCHVISION}", layout, tmp_path / "out", option)
    assert "leave out" in refused(layout, layout, tmp_path / "out", option)


def test_weights_of_another_network_are_refused(layout: Path, tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    source = f"torchvision:{TORCHVISION}={tmp_path / 'other.pt'}"
    assert f"the weights do not fit {TORCHVISION}" in refused(source, layout, tmp_path / "out")


def test_a_network_that_needs_pixels_is_no_relation_network(tmp_path: Path) -> None:
    checkpoint, _ = save(tiny_two_stage(), tmp_path)
    detector = write_crowd(tmp_path / "crowd.onnx")
    assert "holds a two_stage network" in refused(detector, checkpoint, tmp_path / "out")
    assert "must be an object detector" in refused(checkpoint, checkpoint, tmp_path / "out")


def test_classes_that_nobody_knows_are_refused(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("robot\ncrate\nlid")
    detector = write_crowd(tmp_path / "crowd.onnx")
    said = refused(detector, layout, tmp_path / "out", "--classes", tmp_path / "names.txt")
    assert "robot, crate, lid" in said
    assert "--keep-classes" in said
