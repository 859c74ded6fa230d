"""`-` as standard input, formats by the ending of the output, and bundles from any folder, by subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.graph.scene_graph import SceneGraph
from service.command_line import main
from service.commands.graph import format_of
from tests.support.paths import ROOT

Done = subprocess.CompletedProcess[bytes]


def vsg(folder: Path, *arguments: str | Path, given: bytes = b"") -> Done:
    """The command, run in a folder outside the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "service.command_line", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
        timeout=240,
        check=False,
    )


def assert_refused(done: Done, said: str) -> None:
    assert done.returncode != 0
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_video_is_piped_in_and_the_ending_of_the_output_gives_the_format(
    tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    done = vsg(tmp_path, "graph", "-", "-o", "graph.jsonl", "--bundle", tiny_bundle, given=clip.read_bytes())
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "graph.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2, 3]


def test_a_bundled_model_is_found_by_its_name_from_any_folder_and_format_wins_over_the_ending(
    clip: Path, tmp_path: Path
) -> None:
    done = vsg(tmp_path, "graph", clip, "--bundle", "arn-compact", "-o", "graph.jsonl", "--format", "json")
    assert done.returncode == 0, done.stderr
    graph = SceneGraph.model_validate_json((tmp_path / "graph.jsonl").read_bytes())
    assert graph.model.name == "arn-compact"


def test_render_takes_a_graph_from_standard_input(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    graph = vsg(tmp_path, "graph", clip, "--bundle", tiny_bundle).stdout
    done = vsg(tmp_path, "render", clip, "-", "-o", "frame.png", "--at", "1", given=graph)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "frame.png").read_bytes().startswith(b"\x89PNG")
    assert_refused(
        vsg(tmp_path, "render", clip, "-", "-o", "other.png", "--at", "1", given=b"{}"),
        "standard input is not a scene graph",
    )


def test_standard_input_without_a_video_is_refused(tmp_path: Path) -> None:
    assert_refused(vsg(tmp_path, "graph", "-"), "Error: standard input has no bytes; pipe a video into it")
    assert_refused(vsg(tmp_path, "graph", "-", given=b"text"), "Error: ")


@pytest.mark.parametrize(
    "arguments", [["render", "-", "-", "-o", "out.mp4"], ["caption", "-", "--graph", "-", "--dry-run"]]
)
def test_standard_input_holds_only_one_of_video_and_graph(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "standard input holds only one of them" in done.output


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("graph.json", "json"),
        ("graph.JSONL", "jsonl"),
        ("a.b.graphml", "graphml"),
        ("graph.coco.json", "coco"),
        ("coco.json", "json"),
        ("graph", "json"),
        ("graph.txt", "json"),
    ],
)
def test_the_ending_of_the_output_gives_the_format(name: str, form: str) -> None:
    assert format_of(Path("folder.jsonl") / name) == form


def test_standard_output_gets_json() -> None:
    assert format_of(None) == "json"
