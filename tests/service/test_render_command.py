"""`vsg render` and the formats of `vsg graph`, by subprocess."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from models.graph.scene_graph import SceneGraph
from service.rendering.tags import color_of
from tests.service.test_command_line import assert_one_line, vsg
from tests.support.graphs import frame, scene_graph
from tests.support.videos import make_video


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [image.to_ndarray(format="rgb24") for image in container.decode(video=0)]


def test_a_video_is_drawn_from_the_graph_that_vsg_graph_wrote(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    assert vsg("graph", clip, "-o", tmp_path / "graph.json", "--bundle", tiny_bundle).returncode == 0
    done = vsg("render", clip, tmp_path / "graph.json", "-o", tmp_path / "out.mp4", "--scale", "4")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"graph.json", "out.mp4"}
    drawn = frames_of(tmp_path / "out.mp4")
    assert len(drawn) == 20
    assert drawn[0].shape == (192, 256, 3)
    person = SceneGraph.model_validate_json((tmp_path / "graph.json").read_bytes()).frames[0].objects[0]
    left, low = round(4 * person.box[0]), round(2 * (person.box[1] + person.box[3]))
    assert np.abs(drawn[0][low, left].astype(int) - color_of(person.id)).max() < 60


def test_without_a_graph_it_is_made_first(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    done = vsg("render", clip, "-o", tmp_path / "frame.png", "--at", "1.2", "--bundle", tiny_bundle, "--fps", "4")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "frame.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 64 + 100
    assert [path.name for path in tmp_path.iterdir()] == ["frame.png"]


def test_a_graph_of_another_file_is_drawn_with_a_warning(clip: Path, tmp_path: Path) -> None:
    known = scene_graph([frame(0, 0.0, [(1, "person", (8.0, 8.0, 40.0, 40.0))])], size=(64, 48))
    (tmp_path / "graph.json").write_text(known.model_dump_json(indent=1))
    done = vsg("render", clip, tmp_path / "graph.json", "-o", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Warning: ")
    assert len(frames_of(tmp_path / "out.mp4")) == 20


def test_what_cannot_be_drawn_is_said_in_one_line_and_leaves_no_file(clip: Path, tmp_path: Path) -> None:
    graph, out = tmp_path / "graph.json", tmp_path / "out.mp4"
    graph.write_text('{"id": "0", "status": "queued"}')
    assert_one_line(vsg("render", clip, graph, "-o", out), "graph.json is not a scene graph", "video is missing")
    graph.write_text(scene_graph([], size=(64, 48)).model_dump_json())
    assert_one_line(vsg("render", graph, graph, "-o", out), "Error: ")
    large = make_video(tmp_path / "large.mp4", size=(96, 64), seconds=0.5)
    done = vsg("render", large, graph, "-o", out)
    assert done.returncode == 1
    assert "of a video of 64x48 pixels, but this one has 96x64" in done.stderr
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "out.avi"], "must end in .mp4"),
        (["-o", "out.png"], "--at SECONDS"),
        (["-o", "out.mp4", "--at", "1"], "--at SECONDS"),
        (["-o", "out.mp4", "--fps", "1"], "of no use with GRAPH"),
        (["-o", "CLIP"], "is the video itself"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(clip: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "graph.json").write_text("{}")
    given = [str(clip) if argument == "CLIP" else argument for argument in arguments]
    done = vsg("render", clip, tmp_path / "graph.json", *given)
    assert done.returncode == 2
    assert said in done.stderr


def test_graph_writes_other_formats(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    def written(form: str) -> str:
        done = vsg("graph", clip, "--bundle", tiny_bundle, "--format", form)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [json.loads(line)["index"] for line in written("jsonl").splitlines()] == [0, 1, 2, 3]
    assert len(json.loads(written("coco"))["images"]) == 4
    assert_one_line(vsg("graph", clip, "--bundle", tiny_bundle, "--format", "csv"), "'csv'", "json, jsonl, graphml")
