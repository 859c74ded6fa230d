"""`vsg caption`, by subprocess: a real video, a real graph, a real endpoint."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.graph.scene_graph import SceneGraph, Video
from service.prompt.key_frames import LONGEST_SIDE, read_key_frames
from service.video import DecodeLimits
from tests.service.test_command_line import ROOT, assert_one_line, vsg
from tests.support.chat import CAPTION, STREAM, body_of, chunk, completion, hanging_after, refusal, stream
from tests.support.ports import unused_port
from tests.support.videos import make_video
from tests.support.web import Web, serve_web

pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.fixture(scope="module")
def graph_file(tiny_bundle: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "graph.json"
    assert vsg("graph", clip, "-o", path, "--bundle", tiny_bundle).returncode == 0
    return path


def caption(
    video: Path, web: Web | None, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    port = unused_port() if web is None else web.port
    address = ("--base-url", f"http://127.0.0.1:{port}/v1", "--model", "small")
    return vsg("caption", video, *address, *arguments, environment={"OPENAI_API_KEY": "sk-secret", **environment})


def test_a_video_gets_its_caption_from_prompt_and_key_frames(tiny_bundle: Path, clip: Path) -> None:
    with serve_web(STREAM) as web:
        done = caption(clip, web, "--bundle", tiny_bundle, "--max-tokens", "100")
    assert (done.returncode, done.stdout) == (0, "".join(CAPTION) + "\n"), done.stderr
    assert b"Bearer sk-secret" in web.requests[0]
    system, user = body_of(web.requests[0])["messages"]
    assert "frames" in system["content"]
    prompt, moment, image = user["content"][:3]
    assert prompt["text"].startswith("Write one short caption for this 2-second video.")
    assert moment["text"].startswith("The frame at ")
    kind, _, content = image["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(content))).size == (64, 48)


def test_a_graph_that_is_there_is_used(clip: Path, graph_file: Path) -> None:
    with serve_web(completion()) as web:
        done = caption(clip, web, "--graph", graph_file, "--key-frames", "0", "--no-stream", "--bundle", "nowhere")
    assert (done.returncode, done.stdout) == (0, "".join(CAPTION) + "\n"), done.stderr
    sent = body_of(web.requests[0])
    assert sent["stream"] is False
    assert sent["messages"][1]["content"] == SceneGraph.model_validate_json(graph_file.read_bytes()).prompt


def test_words_are_printed_as_they_come(clip: Path, graph_file: Path) -> None:
    with serve_web(hanging_after(stream(chunk("A person")))) as web:
        command = [sys.executable, "-m", "service.command_line", "caption", str(clip), "--graph", str(graph_file)]
        command += ["--base-url", f"http://127.0.0.1:{web.port}/v1", "--model", "small"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.read(len("A person")) == b"A person"
            running.terminate()


def test_a_dry_run_prints_the_request_and_sends_nothing(clip: Path, graph_file: Path) -> None:
    done = caption(clip, None, "--graph", graph_file, "--dry-run")
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition("\n\n")
    address, authorization = head.split("\n")
    assert address.startswith("POST http://127.0.0.1:")
    assert address.endswith("/v1/chat/completions")
    assert authorization == "Authorization: Bearer …"
    content = json.loads(body)["messages"][1]["content"]
    assert content[2]["image_url"]["url"].startswith("data:image/jpeg;base64,… (")
    assert len(done.stdout) < 5000


def test_what_goes_wrong_is_said_in_one_line(clip: Path, long_clip: Path, graph_file: Path, tmp_path: Path) -> None:
    with serve_web(refusal("401 Unauthorized", "Incorrect API key: sk-secret")) as web:
        done = caption(clip, web, "--graph", graph_file)
    assert_one_line(done, "answered 401", "Incorrect API key: …")
    with serve_web(hanging_after(b"")) as web:
        done = caption(clip, web, "--graph", graph_file, "--timeout", "0.5")
    assert_one_line(done, "not complete within 0.5 s")
    assert_one_line(caption(clip, None, "--graph", graph_file), "takes no connection")
    assert_one_line(caption(long_clip, None, "--graph", graph_file), "the graph of another video")
    (tmp_path / "text.json").write_text("{}")
    assert_one_line(caption(clip, None, "--graph", tmp_path / "text.json"), "is not a scene graph")
    assert_one_line(vsg("caption", clip, "--graph", graph_file), "--base-url", "VSG_CAPTION_BASE_URL")


def test_key_frames_are_those_on_display_in_the_videos_own_proportions(tmp_path: Path) -> None:
    path = make_video(tmp_path / "bright.mp4", size=(1280, 640), brightness=lambda seconds: 0.1 + 0.4 * seconds)
    video = Video(sha256="", width=1280, height=640, duration=2.0, frame_rate=10.0, codec="h264")
    frames = read_key_frames(path, video, [0.0, 1.55], DecodeLimits())
    assert [frame.timestamp for frame in frames] == [0.0, 1.55]
    for frame, seconds in zip(frames, (0.0, 1.5), strict=True):
        image = Image.open(BytesIO(frame.jpeg))
        assert image.size == (LONGEST_SIDE, LONGEST_SIDE // 2)
        assert np.asarray(image).mean() == pytest.approx(255 * (0.1 + 0.4 * seconds), abs=5)


def test_a_video_is_piped_in(clip: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "service.command_line", "caption", "-", "--bundle", str(tiny_bundle), "--dry-run"]
    command += ["--base-url", "http://127.0.0.1:1/v1", "--model", "small", "--key-frames", "1"]
    done = subprocess.run(command, cwd=ROOT, input=clip.read_bytes(), capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "data:image/jpeg" in done.stdout.decode()
