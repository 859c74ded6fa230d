"""Frames that are kept as pictures: VSG_KEEP_FRAMES, GET /videos/{id}/frames/{index}.jpg, and where they are sent."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.graph.scene_graph import SceneGraph
from service.keys import key_line
from service.prompt import key_moments
from service.prompt.key_frames import LONGEST_SIDE, encode_jpeg, key_frame_size
from service.video import Sampling, VideoReader
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.support.chat import STREAM, body_of
from tests.support.paths import ROOT
from tests.support.videos import make_video
from tests.support.web import serve_web

PUPPETS = ROOT / "docs" / "puppets.mp4"


def kept(server: Server, video: Path, **arguments: Any) -> dict[str, Any]:
    """The graph of a video, of which frames are kept."""
    graph: dict[str, Any] = server.post(video, **arguments).json()
    assert graph["kept_frames"], graph["warnings"]
    return graph


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "mpeg2video"), ("a.avi", "mpeg4")])
def test_kept_frames_are_the_sampled_ones_but_for_jpeg(
    start_server: Callable[..., Server], tmp_path: Path, name: str, codec: str
) -> None:
    video = make_video(tmp_path / name, size=(1000, 480), codec=codec, brightness=lambda seconds: 0.1 + 0.4 * seconds)
    server = start_server(keep_frames=4)
    graph = kept(server, video, data={"fps": "3", "start": "0.5"})
    width, height = key_frame_size(SceneGraph.model_validate(graph).video)
    assert width == LONGEST_SIDE
    with VideoReader(video, Sampling(fps=3.0, max_frames=99, height=height, width=width, start=0.5)) as reader:
        sampled = [encode_jpeg(frame) for chunk in reader for frame in chunk.frames]
    assert len(set(sampled)) == len(sampled) == len(graph["frames"])
    for index in graph["kept_frames"]:
        answer = server.client.get(f"/videos/{graph['id']}/frames/{index}.jpg")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content == sampled[index]


def test_the_frames_that_are_kept_show_the_most_telling_events(start_server: Callable[..., Server]) -> None:
    server = start_server(keep_frames=3, bundles=(ROOT / "bundles" / "arn-compact",))
    graph = kept(server, PUPPETS)
    times = [graph["frames"][index]["timestamp"] for index in graph["kept_frames"]]
    assert times == key_moments(SceneGraph.model_validate(graph), 3)
    assert len(times) > 1


def test_no_frame_is_kept_unless_the_operator_asks(server: Server, clip: Path) -> None:
    graph = server.post(clip).json()
    assert "kept_frames" not in graph
    assert "keep" not in graph["timings"]
    problem = problem_of(server.client.get(f"/videos/{graph['id']}/frames/0.jpg"), 404, "frame_not_kept")
    assert "kept_frames" in problem["detail"]


def test_another_owner_gets_no_frame(start_server: Callable[..., Server], clip: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("".join(key_line(name, f"key of {name}") + "\n" for name in ("alice", "bob")))
    alice, bob = ({"authorization": f"Bearer key of {name}"} for name in ("alice", "bob"))
    server = start_server(keep_frames=1, keys=str(keys))
    graph = kept(server, clip, headers=alice)
    place = f"/videos/{graph['id']}/frames/{graph['kept_frames'][0]}.jpg"
    assert server.client.get(place, headers=alice).status_code == 200
    problem_of(server.client.get(place, headers=bob), 404, "not_found")
    problem_of(server.client.get(place), 401, "key_missing")


def test_a_frame_may_be_asked_for_again_and_by_its_head(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server(keep_frames=1)
    graph = kept(server, clip)
    place = f"/videos/{graph['id']}/frames/{graph['kept_frames'][0]}.jpg"
    answer = server.client.get(place)
    assert answer.headers["cache-control"] == "private, no-cache"
    again = server.client.get(place, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    head = server.client.head(place)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    route = 'route="/videos/{video_id}/frames/{index}.jpg"'
    assert f'vsg_requests_total{{method="GET",{route},status="304"}} 1.0' in server.client.get("/metrics").text


@pytest.mark.parametrize("index", ["99", "-1", "x", "0" * 400, "٣"])
def test_a_frame_that_is_not_kept_is_not_found(start_server: Callable[..., Server], clip: Path, index: str) -> None:
    server = start_server(keep_frames=1)
    problem_of(server.client.get(f"/videos/{kept(server, clip)['id']}/frames/{index}.jpg"), 404, "frame_not_kept")


def test_kept_frames_go_with_their_graph(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server(keep_frames=2, reuse_results=True)
    first, copy = kept(server, clip), kept(server, clip)
    assert first["id"] != copy["id"]
    places = [f"/videos/{graph['id']}/frames/{graph['kept_frames'][0]}.jpg" for graph in (first, copy)]
    pictures = [server.client.get(place).content for place in places]
    assert pictures[0] == pictures[1]
    assert server.client.delete(f"/videos/{first['id']}").status_code == 204
    problem_of(server.client.get(places[0]), 404, "not_found")
    assert server.client.get(places[1]).content == pictures[1]
    assert {path.suffix for path in server.results()} == {".left", ".share", ".zip"}, "they answer for the other video"
    assert server.client.delete(f"/videos/{copy['id']}").status_code == 204
    assert server.results() == []


@pytest.mark.usefixtures("no_proxy")
def test_kept_frames_are_sent_to_the_language_model(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(STREAM) as web:
        endpoint = {"caption_base_url": f"http://127.0.0.1:{web.port}/v1", "caption_model": "m"}
        server = start_server(keep_frames=2, **endpoint)
        graph = kept(server, clip)
        place = f"/videos/{graph['id']}"
        assert server.client.get(f"{place}/caption").status_code == 200
        assert server.client.get(f"{place}/caption", params={"images": "false"}).status_code == 200
        messages = server.client.get(f"{place}/prompt", params={"format": "messages"}).json()
        pictures = [server.client.get(f"{place}/frames/{index}.jpg").content for index in graph["kept_frames"]]
    seen, unseen = (body_of(request)["messages"] for request in web.requests)
    assert seen == messages
    text, *frames = seen[1]["content"]
    assert text == {"type": "text", "text": graph["prompt"]}
    times = [graph["frames"][index]["timestamp"] for index in graph["kept_frames"]]
    assert [part["text"] for part in frames[::2]] == [f"The frame at {time:.1f} s:" for time in times]
    sent = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in frames[1::2]]
    assert sent == pictures
    assert unseen[1]["content"] == graph["prompt"]
