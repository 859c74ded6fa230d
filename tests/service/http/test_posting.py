"""Videos that are fine: what POST /videos answers, and when."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from models.graph.scene_graph import SceneGraph
from service.jobs.catalog import Catalog, ServedModel
from tests.conftest import Server
from tests.support.videos import make_video
from tests.support.waiting import until


def test_a_form_with_a_video_gives_its_graph(server: Server, clip: Path) -> None:
    answer = server.post(clip)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    graph = SceneGraph.model_validate_json(answer.content)
    assert answer.headers["location"] == f"/videos/{graph.id}"
    assert graph.status == "succeeded"
    assert graph.video.sha256 == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert len(graph.frames) == 4
    assert graph.model.name == "tiny"


@pytest.mark.parametrize(
    "content_type", ["video/mp4", "video/webm", "application/octet-stream", "Video/MP4; codecs=avc1"]
)
def test_raw_bytes_give_the_graph_whatever_video_type_they_claim(server: Server, clip: Path, content_type: str) -> None:
    answer = server.client.post("/videos", content=clip.read_bytes(), headers={"content-type": content_type})
    assert answer.status_code == 200
    assert len(answer.json()["frames"]) == 4


def test_a_body_without_a_declared_length_is_taken(server: Server, clip: Path) -> None:
    content = clip.read_bytes()
    pieces = (content[start : start + 100] for start in range(0, len(content), 100))
    answer = server.client.post("/videos", content=pieces, headers={"content-type": "video/mp4"})
    assert answer.status_code == 200
    assert answer.json()["video"]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("webm", "libvpx-vp9"), ("mkv", "libx264"), ("mov", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")],
)
def test_the_usual_containers_are_taken_under_any_name(server: Server, tmp_path: Path, suffix: str, codec: str) -> None:
    video = make_video(tmp_path / f"video.{suffix}", codec=codec)
    answer = server.client.post("/videos", files={"video": ("../../etc/passwd\0.txt", video.read_bytes())})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["frames"]) == 4


def test_options_are_form_fields(server: Server, clip: Path) -> None:
    answer = server.post(clip, data={"fps": "5", "start": "1", "model": "tiny-2", "constraint": "no", "top_k": "1"})
    graph = answer.json()
    assert [frame["timestamp"] for frame in graph["frames"]] == pytest.approx([1.0, 1.2, 1.4, 1.6, 1.8], abs=0.051)
    assert graph["model"]["name"] == "tiny-2"
    assert graph["options"]["constraint"] == "no"
    assert all(len(frame["triplets"]) == 1 for frame in graph["frames"])


def test_options_are_query_parameters_of_the_same_names(server: Server, clip: Path) -> None:
    answer = server.post(clip, params={"fps": "1", "end": "1.5"})
    assert [frame["timestamp"] for frame in answer.json()["frames"]] == [0.0, 1.0]


def test_the_model_is_one_of_those_served(
    start_server: Callable[..., Server], tiny_bundle: Path, video_bundle: Path, clip: Path
) -> None:
    both = start_server(bundles=(tiny_bundle, video_bundle))
    for name, scores in ((None, False), ("tiny", False), ("tiny-video", True)):
        graph = both.post(clip, params={} if name is None else {"model": name}).json()
        assert graph["model"]["name"] == (name or "tiny")
        known = {triplet["relation_score"] is not None for frame in graph["frames"] for triplet in frame["triplets"]}
        assert known == {scores}


def test_triplets_carry_uncertainty_where_it_is_asked_for(
    start_server: Callable[..., Server], video_bundle: Path, clip: Path
) -> None:
    server = start_server(bundles=(video_bundle,))
    asked = server.post(clip, data={"uncertainty": "true"})
    triplets = [triplet for frame in asked.json()["frames"] for triplet in frame["triplets"]]
    assert triplets
    assert all(triplet["uncertainty"].keys() == {"epistemic", "aleatoric"} for triplet in triplets)
    assert asked.json()["options"]["uncertainty"] is True
    lines = server.client.get(asked.headers["location"], headers={"accept": "application/jsonl"}).text
    assert '"uncertainty":{"epistemic":' in lines
    silent = server.post(clip)
    assert silent.json()["options"]["uncertainty"] is False
    assert not any("uncertainty" in triplet for frame in silent.json()["frames"] for triplet in frame["triplets"])


def test_a_model_without_uncertainty_gives_a_warning(server: Server, clip: Path) -> None:
    graph = server.post(clip, params={"uncertainty": "1"}).json()
    assert [warning["code"] for warning in graph["warnings"]] == ["no_uncertainty"]
    assert not any("uncertainty" in triplet for frame in graph["frames"] for triplet in frame["triplets"])


@pytest.mark.parametrize("where", ["params", "data"])
def test_a_post_asks_the_catalogue_once(
    start_server: Callable[..., Server], clip: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def models(self: Catalog) -> Sequence[ServedModel]:
        asked.append(self)
        return await look(self)

    look = Catalog.models
    monkeypatch.setattr(Catalog, "models", models)
    server = start_server(reuse_results=True)
    for posted in (1, 2):  # the second is answered with the stored graph of the first
        assert server.post(clip, **{where: {"model": "tiny", "fps": "1"}}).status_code == 200
        assert len(asked) == posted


def test_fields_may_come_after_the_video(server: Server, clip: Path) -> None:
    body = b"--x\r\n".join(
        [
            b"",
            b'Content-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n' + clip.read_bytes() + b"\r\n",
            b'Content-Disposition: form-data; name="fps"\r\n\r\n1\r\n',
        ]
    )
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = server.client.post("/videos", content=body + b"--x--\r\n", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["options"]["fps"] == 1


def test_a_value_over_the_operators_cap_is_lowered_with_a_warning(server: Server, clip: Path) -> None:
    graph = server.post(clip, data={"max_frames": "5000"}).json()
    assert graph["options"]["max_frames"] == 100
    assert graph["warnings"][0]["code"] == "max_frames_lowered"


def test_a_video_without_objects_gives_an_empty_graph(server: Server, tmp_path: Path) -> None:
    graph = server.post(make_video(tmp_path / "dark.mp4", brightness=lambda seconds: 0.0)).json()
    assert len(graph["frames"]) == 4
    assert graph["relations"] == []
    assert not any(frame["objects"] for frame in graph["frames"])


def test_an_upload_is_deleted_when_its_graph_is_made(server: Server, clip: Path) -> None:
    server.post(clip)
    until(lambda: not server.uploads())


@pytest.mark.parametrize(("prefer", "applied"), [("respond-async", "respond-async"), ("wait=0", "wait=0")])
@pytest.mark.usefixtures("slow_engine")
def test_a_client_that_does_not_wait_gets_202_and_a_location(
    server: Server, clip: Path, prefer: str, applied: str
) -> None:
    answer = server.post(clip, headers={"prefer": prefer})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == applied
    assert answer.json()["status"] in ("queued", "running")
    place = answer.headers["location"]
    until(lambda: server.client.get(place).json()["status"] == "succeeded")
    graph = SceneGraph.model_validate_json(server.client.get(place).content)
    assert place == f"/videos/{graph.id}" == f"/videos/{answer.json()['id']}"


@pytest.mark.usefixtures("slow_engine")
def test_waiting_ends_when_the_time_is_up(server: Server, long_clip: Path) -> None:
    began = time.monotonic()
    answer = server.post(long_clip, data={"fps": "1"}, headers={"prefer": "wait=1, handling=strict"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - began > 0.9
    place = answer.headers["location"]
    until(lambda: server.client.get(place).json().get("progress", {}).get("frames"))
    status = server.client.get(place).json()
    assert status["status"] == "running"
    assert 0 < status["progress"]["frames"] < status["progress"]["expected"] == 100
    assert server.client.delete(place).status_code == 204


def test_the_operator_sets_the_wait_and_its_cap(start_server: Callable[..., Server], clip: Path) -> None:
    impatient = start_server(default_wait=0, max_wait=20)
    assert impatient.post(clip).status_code == 202
    answer = impatient.post(clip, headers={"prefer": "wait=900"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=20")


def test_results_of_concurrent_posts_are_not_mixed_up(server: Server, tmp_path: Path) -> None:
    levels = [0.1 + 0.1 * index for index in range(8)]
    videos = [
        make_video(tmp_path / f"{index}.mp4", seconds=1, brightness=lambda seconds, level=level: level)
        for index, level in enumerate(levels)
    ]
    with ThreadPoolExecutor(len(videos)) as threads:
        answers = list(threads.map(server.post, videos))
    assert [answer.status_code for answer in answers] == [200] * len(videos)
    for video, level, answer in zip(videos, levels, answers, strict=True):
        graph = answer.json()
        assert graph["video"]["sha256"] == hashlib.sha256(video.read_bytes()).hexdigest()
        person = next(thing for thing in graph["frames"][0]["objects"] if thing["label"] == "person")
        assert person["box"][2] == pytest.approx(64 * (0.2 + 0.7 * level), abs=1.5)
    assert len({answer.json()["id"] for answer in answers}) == len(videos)


@pytest.mark.usefixtures("slow_engine")
def test_more_jobs_than_the_operator_allows_are_refused(start_server: Callable[..., Server], long_clip: Path) -> None:
    small = start_server(queue_limit=2, concurrency=1)
    accepted = [small.post(long_clip, headers={"prefer": "respond-async"}) for _ in range(2)]
    refused = small.post(long_clip)
    assert [answer.status_code for answer in accepted] == [202, 202]
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) > 0
    for answer in accepted:
        small.client.delete(answer.headers["location"])
    until(lambda: not small.uploads())


@pytest.mark.usefixtures("slow_engine")
def test_other_requests_are_answered_while_a_video_is_worked_on(server: Server, long_clip: Path) -> None:
    place = server.post(long_clip, data={"fps": "1"}, headers={"prefer": "respond-async"}).headers["location"]
    until(lambda: server.client.get(place).json()["status"] == "running")
    for _ in range(20):  # were one answered per run of the engine, the job would be over by then
        assert server.client.get("/health/live").status_code == 200
    assert server.client.get(place).json()["status"] == "running"
    server.client.delete(place)


def test_a_second_client_sees_the_graph_of_the_first(server: Server, clip: Path) -> None:
    place = server.post(clip).headers["location"]
    assert httpx.get(server.url + place, trust_env=False).json()["status"] == "succeeded"
