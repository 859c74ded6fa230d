"""The command line, by subprocess: what users type, see, and get as exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import httpx
import pytest

from models.graph.scene_graph import SceneGraph
from service.command_line import GROUP, main, summary_of
from tests.support.paths import ROOT
from tests.support.waiting import until


def vsg(*arguments: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.command_line", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Checks that a command failed with exit code 1 and one line that says what matters."""
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_the_overview_lists_every_command_with_a_summary() -> None:
    overview = vsg("--help")
    assert overview.returncode == 0, overview.stderr
    for name, summary in (("serve", "Serve the API"), ("graph", "Make the scene graph"), ("bench", "Measure where")):
        assert re.search(rf"^  {name} +{summary}", overview.stdout, re.MULTILINE), overview.stdout
    for name in ("data", "train", "evaluate", "export", "check"):
        assert re.search(rf"^  {name}\b", overview.stdout, re.MULTILINE), overview.stdout


def test_flags_are_made_of_options_and_settings() -> None:
    assert "--top-k" in (shown := " ".join(vsg("graph", "--help").stdout.split()))
    assert "Most triplets per frame. [a whole number from 1 to 1000; default: 20]" in shown
    shown = " ".join(vsg("serve", "--help").stdout.split())
    assert "Port to listen on; 0 takes a free one. [a whole number from 0 to 65535; default: 8000; VSG_PORT]" in shown
    assert "--redis" in shown
    assert "--metrics-port" not in shown


def test_an_unknown_command_is_refused() -> None:
    assert vsg("dance").returncode == 2


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("train", "torch", "training"),
        ("speed", "numpy", "training"),
        ("bench", "onnxruntime", "cpu"),
        ("batch", "pyarrow", "archive"),
        ("archive", "pyarrow", "archive"),
    ],
)
def test_a_missing_extra_is_said_with_the_pip_command(
    monkeypatch: pytest.MonkeyPatch, command: str, module: str, extra: str
) -> None:
    def load(self: EntryPoint) -> object:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(
        click.ClickException, match=rf"`vsg {command}` needs {module}.*pip install 'video-scene-graph\[{extra}\]'"
    ):
        main([command], standalone_mode=False)


def test_commands_of_packages_that_an_image_leaves_out_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("speed", "nowhere.command:speed", GROUP), EntryPoint("key", "service.commands.key:key", GROUP)]
    monkeypatch.setattr("service.command_line.entry_points", lambda group: points)
    assert main.list_commands(click.Context(main)) == ["key"]
    assert main.get_command(click.Context(main), "speed") is None


def test_a_bug_in_our_own_imports_is_not_mistaken_for_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: EntryPoint) -> object:
        raise ModuleNotFoundError("No module named 'training.typo'", name="training.typo")

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(ModuleNotFoundError):
        main(["train"], standalone_mode=False)


def test_the_summary_of_a_command_that_is_not_there_is_empty() -> None:
    assert summary_of(EntryPoint("x", "service.commands.nowhere:x", "vsg.commands")) == ""


def test_graph_prints_json(tiny_bundle: Path, clip: Path) -> None:
    done = vsg("graph", clip, "--bundle", tiny_bundle, "--fps", "5", "--constraint", "no")
    assert done.returncode == 0, done.stderr
    graph = SceneGraph.model_validate_json(done.stdout)
    assert len(graph.frames) == 10
    assert graph.options.constraint == "no"


def test_graph_has_uncertainty_where_it_is_asked_for(video_bundle: Path, clip: Path) -> None:
    done = vsg("graph", clip, "--bundle", video_bundle, "--uncertainty")
    assert done.returncode == 0, done.stderr
    graph = SceneGraph.model_validate_json(done.stdout)
    assert all(triplet.uncertainty is not None for frame in graph.frames for triplet in frame.triplets)


def test_graph_writes_a_file_and_nothing_else(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    done = vsg("graph", clip, "-o", tmp_path / "graph.json", "--bundle", tiny_bundle)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(json.loads((tmp_path / "graph.json").read_text())["frames"]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["graph.json"]


def test_graph_says_known_errors_in_one_line(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("text")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:100])
    assert_one_line(vsg("graph", clip, "--bundle", tiny_bundle, "--fps", "0"), "--fps is '0': give a number")
    assert_one_line(vsg("graph", clip, "--bundle", tiny_bundle, "--model", "huge"), "huge", "tiny")
    assert_one_line(vsg("graph", text, "--bundle", tiny_bundle), "Error: ")
    assert_one_line(vsg("graph", cut, "--bundle", tiny_bundle), "Error: ")
    assert_one_line(vsg("graph", clip, "--bundle", tmp_path), "is not a bundle")
    assert_one_line(vsg("graph", clip, environment={"VSG_PROT": "1"}), "VSG_PROT", "VSG_PORT")


def test_graph_needs_a_file_that_exists(tmp_path: Path) -> None:
    assert vsg("graph", tmp_path / "nothing.mp4").returncode == 2


def test_serve_listens_until_it_is_told_to_stop(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "service.command_line", "serve", "--port", "0", "--bundle", str(tiny_bundle)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=ROOT, stderr=output, env=environment) as server,
    ):
        try:
            until(lambda: "Uvicorn running on" in log.read_text())
            url = re.search(r"http://[\d.:]+", log.read_text())
            assert url is not None
            answer = httpx.post(
                f"{url.group()}/videos", files={"video": clip.read_bytes()}, trust_env=False, timeout=120
            )
            assert answer.status_code == 200
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    assert server.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in log.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_serve_says_known_errors_in_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_line(vsg("serve", "--bundle", tmp_path / "empty"), "is not a bundle")
    assert_one_line(
        vsg("serve", "--bundle", tiny_bundle, "--port", "99999"),
        "--port is '99999': give a whole number from 0 to 65535",
    )


DYING = """
import sys
from models.engines.onnxruntime import OnnxRuntimeCpu
from service.command_line import main

def dies(self, tensors):
    if tensors.get("frames") is not None and tensors["frames"].max() > 100:
        raise SystemExit("the driver is gone")
    return run(self, tensors)

run, OnnxRuntimeCpu.run = OnnxRuntimeCpu.run, dies
main()
"""


def test_a_service_whose_engine_dies_tells_the_client_and_exits_with_an_error(
    tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", DYING, "serve", "--port", "0", "--bundle", str(tiny_bundle)]
    with log.open("w") as output, subprocess.Popen(command, cwd=ROOT, stderr=output) as server:
        until(lambda: "Uvicorn running on" in log.read_text())
        url = re.search(r"http://[\d.:]+", log.read_text())
        assert url is not None
        answer = httpx.post(f"{url.group()}/videos", files={"video": clip.read_bytes()}, trust_env=False, timeout=120)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert server.wait(60) == 1
    assert "an engine thread of tiny has died" in log.read_text()
