"""The examples, run as their users run them: as processes, against real services, on real files."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest

from models.graph.scene_graph import SceneGraph
from tests.conftest import Server
from tests.support.chat import CAPTION, STREAM, body_of
from tests.support.paths import ROOT
from tests.support.ports import unused_port
from tests.support.videos import make_video
from tests.support.web import serve_web

EXAMPLES = ROOT / "examples"
SECRET, OTHER = (f"whsec_{b64encode(bytes([number] * 32)).decode()}" for number in range(2))

pytestmark = pytest.mark.usefixtures("no_proxy")


def start(*command: str | Path | int, **environment: str) -> subprocess.Popen[str]:
    """An example as a process; a name that ends in .py is run by this interpreter."""
    name, *arguments = map(str, command)
    interpreter = [sys.executable] if name.endswith(".py") else []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [*interpreter, str(EXAMPLES / name), *arguments],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*command: str | Path | int, **environment: str) -> str:
    """What an example that succeeds prints."""
    with start(*command, **environment) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def test_who_does_what_is_printed_best_first(server: Server, clip: Path) -> None:
    lines, prompt = run("who_does_what.py", clip, server.url).split("\n\n")
    assert "  0.0 to   2.0 s  0.68  person holding cup/glass/bottle" in lines.splitlines()
    scores = [float(line.split()[4]) for line in lines.splitlines()]
    assert scores == sorted(scores, reverse=True)
    assert "holds" in prompt


@pytest.mark.parametrize("longest_wait", [600, 0.01])
def test_plain_httpx_gets_the_prompt_whether_or_not_the_graph_is_there_within_the_wait(
    start_server: Callable[..., Server], clip: Path, longest_wait: float
) -> None:
    assert "holds" in run("plain_httpx.py", clip, start_server(max_wait=longest_wait, default_wait=longest_wait).url)


def test_plain_curl_saves_graph_and_prompt(server: Server, tmp_path: Path) -> None:
    video = make_video(tmp_path / "video.mp4")
    assert "event: end" in run("plain_curl.sh", video, server.url)
    graph = SceneGraph.model_validate_json((tmp_path / "video.json").read_bytes())
    assert (tmp_path / "video.txt").read_text() == graph.prompt


@pytest.mark.parametrize("example", ["who_does_what.py", "plain_httpx.py"])
def test_what_is_wrong_with_a_video_is_said(server: Server, tmp_path: Path, example: str) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with start(example, tmp_path / "text.mp4", server.url) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert err.endswith("(unsupported_media)\n")
    assert "Traceback" not in err


def test_plain_curl_shows_the_problem_of_a_video(server: Server, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with start("plain_curl.sh", tmp_path / "text.mp4", server.url) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode != 0
    assert '"code": "unsupported_media"' in err


@pytest.mark.usefixtures("slow_engine")
def test_progress_is_told_until_the_prompt_is_there(server: Server, long_clip: Path) -> None:
    progress, _, prompt = run("follow_progress.py", long_clip, server.url).partition("succeeded\n")
    frames = [int(line.split()[1]) for line in progress.splitlines() if " of " in line]
    assert len(frames) > 2
    assert frames == sorted(frames)
    assert prompt.startswith("The following was read")


def test_many_videos_are_posted_as_fast_as_the_service_takes_them_and_their_graphs_kept(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    port = unused_port()
    service = start_server(
        webhook_hosts=f"127.0.0.1:{port}", url_networks="127.0.0.1/32", webhook_secret=SECRET, rate_limit="2/second"
    )
    videos = [make_video(tmp_path / f"{number}.mp4", size=(64, 32 + 16 * number)) for number in range(4)]
    cut, text = tmp_path / "cut.mp4", tmp_path / "text.mp4"
    cut.write_bytes(videos[0].read_bytes()[:100])
    text.write_text("no video")
    printed = run("many_videos.py", service.url, port, text, cut, *videos, VSG_WEBHOOK_SECRET=SECRET)
    for number, video in enumerate(videos):
        assert f"{video}: succeeded" in printed.splitlines()
        graph = SceneGraph.model_validate_json(video.with_suffix(".json").read_bytes())
        assert graph.video.height == 32 + 16 * number
    assert f"{cut}: failed" in printed
    assert f"{text}: refused" in printed
    assert not list(tmp_path.glob("[ct]*.json"))


def test_many_videos_refuses_webhooks_with_a_wrong_signature(start_server: Callable[..., Server], clip: Path) -> None:
    port = unused_port()
    service = start_server(webhook_hosts=f"127.0.0.1:{port}", url_networks="127.0.0.1/32", webhook_secret=OTHER)
    with start("many_videos.py", service.url, port, clip, VSG_WEBHOOK_SECRET=SECRET) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "POST" in line)
        process.terminate()
        assert process.stdout is not None
        assert (process.stdout.read(), '"POST / HTTP/1.1" 401' in said) == ("", True), said


def test_without_http_leaves_out_relations_with_low_relation_scores(
    video_bundle: Path, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    said = run("without_http.py", clip, video_bundle, tmp_path / "kept.graphml")
    kept = nx.read_graphml(tmp_path / "kept.graphml", node_type=int, force_multigraph=True)
    assert {label for _, label in kept.nodes(data="label")} == {"person", "cup/glass/bottle"}, "not the chair"
    assert all(score >= 0.6 for *_, score in kept.edges(data="relation_score"))
    assert f"{kept.number_of_edges()} relations kept, 3 left out" in said
    assert "  1.9 s  person 1 holding cup/glass/bottle 2" in said.splitlines()

    said = run("without_http.py", clip, tiny_bundle, tmp_path / "all.graphml")
    assert " 0 left out" in said, "a model that gives no relation scores"
    assert "chair" in said


def test_caption_folder_writes_captions_and_graphs(tiny_bundle: Path, tmp_path: Path) -> None:
    videos = [make_video(tmp_path / f"{name}.mp4", seconds=1) for name in ("first video", "second")]
    with serve_web(STREAM) as web:
        endpoint = {"VSG_CAPTION_BASE_URL": f"http://127.0.0.1:{web.port}/v1", "VSG_CAPTION_MODEL": "small"}
        run("caption_folder.sh", tmp_path, VSG_BUNDLES=str(tiny_bundle), **endpoint)
    assert len(web.requests) == 2
    for video in videos:
        assert video.with_suffix(".txt").read_text() == "".join(CAPTION) + "\n"
        SceneGraph.model_validate_json(video.with_suffix(".json").read_bytes())
    prompt, _, image = body_of(web.requests[0])["messages"][1]["content"]
    assert "cup" in prompt["text"]
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
