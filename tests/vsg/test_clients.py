"""Both clients against a real service: graphs, jobs, events, keys, problems."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

import vsg
from service.keys import new_key
from tests.conftest import Server
from tests.service.test_keys import write_keys
from tests.support.waiting import until
from tests.support.web import reply, serve_web
from tests.vsg.conftest import Connect


def test_a_video_becomes_its_graph(connect: Connect, server: Server, clip: Path) -> None:
    client = connect(server.url)
    graph = client.graph(clip)
    assert isinstance(graph, vsg.SceneGraph)
    assert len(graph.frames) == 4
    assert client.prompt(graph.id) == graph.prompt
    assert len(client.prompt(graph.id, max_tokens=60)) <= len(graph.prompt)
    for other in (str(clip), clip.read_bytes(), BytesIO(clip.read_bytes())):
        assert client.graph(other).frames == graph.frames


def test_a_model_of_this_process_gives_the_same_graph(
    connect: Connect, server: Server, tiny_bundle: Path, clip: Path
) -> None:
    options: vsg.GraphOptions = {"fps": 5, "start": 0.5, "constraint": "no", "uncertainty": False}
    known = {"id", "timings", "options"}  # a service has caps of its own
    with vsg.open_model(tiny_bundle, threads=1) as model:
        here = model(clip, **options).model_dump(exclude=known)
    assert connect(server.url).graph(clip, **options).model_dump(exclude=known) == here


def test_the_options_reach_the_service(connect: Connect, server: Server, clip: Path) -> None:
    graph = connect(server.url).graph(clip, model="tiny-2", fps=5, end=1.0, top_k=1, uncertainty=True, min_score=None)
    assert (graph.model.name, graph.options.fps, graph.options.end, graph.options.top_k) == ("tiny-2", 5.0, 1.0, 1)
    assert graph.options.uncertainty


def test_a_file_is_posted_from_where_it_stands_whether_or_not_it_can_be_read_again(
    connect: Connect, server: Server, clip: Path
) -> None:
    client = connect(server.url)
    file = BytesIO(b"head" + clip.read_bytes())
    file.seek(4)
    assert client.graph(file).video.sha256 == client.graph(clip).video.sha256
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb") as end:
        writer = threading.Thread(target=lambda: (end.write(clip.read_bytes()), end.close()))
        writer.start()
        assert len(client.graph(pipe).frames) == 4
        writer.join()


def test_a_url_is_fetched_by_the_service(connect: Connect, start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(reply(clip.read_bytes())) as web:
        server = start_server(url_hosts=f"127.0.0.1:{web.port}", url_networks="127.0.0.1/32")
        graph = connect(server.url).graph(f"http://127.0.0.1:{web.port}/clip.mp4", fps=1)
    assert len(graph.frames) == 2


@pytest.mark.usefixtures("slow_engine")
def test_a_job_is_submitted_followed_and_waited_for(connect: Connect, server: Server, long_clip: Path) -> None:
    client = connect(server.url)
    job = client.submit(long_clip, fps=0.2)
    assert job.status in ("queued", "running")
    events = list(client.events(job.id))
    assert {event.id for event in events} == {job.id}
    assert (events[-1].status, events[-1].is_over) == ("succeeded", True)
    done = [event.progress.frames for event in events if event.progress is not None]
    assert done == sorted(done)
    assert max(done) > 0
    assert client.wait(job.id).id == job.id
    assert [event.status for event in client.events(job.id)] == ["succeeded"]


@pytest.mark.usefixtures("slow_engine")
def test_progress_is_told_while_the_graph_is_waited_for(connect: Connect, server: Server, long_clip: Path) -> None:
    told: list[vsg.Progress] = []
    connect(server.url).graph(long_clip, fps=0.2, progress=told.append)
    assert told[-1].expected == 24
    frames = [progress.frames for progress in told]
    assert frames == sorted(frames)


@pytest.mark.usefixtures("slow_engine")
def test_a_graph_that_takes_too_long_is_cancelled(connect: Connect, server: Server, long_clip: Path) -> None:
    client = connect(server.url)
    with pytest.raises(TimeoutError, match=r"is not there after 0\.3 s") as caught:
        client.graph(long_clip, timeout=0.3)
    video_id = str(caught.value).split()[3]
    with pytest.raises(vsg.NotFoundError):
        client.wait(video_id)


@pytest.mark.usefixtures("slow_engine")
def test_what_progress_raises_cancels_the_job(connect: Connect, server: Server, long_clip: Path) -> None:
    def stop(progress: vsg.Progress) -> None:
        raise KeyboardInterrupt

    uploads = set(server.uploads())
    with pytest.raises(KeyboardInterrupt):
        connect(server.url).graph(long_clip, progress=stop)
    until(lambda: set(server.uploads()) <= uploads)


@pytest.mark.usefixtures("slow_engine")
def test_waiting_that_takes_too_long_leaves_the_job_alone(connect: Connect, server: Server, long_clip: Path) -> None:
    client = connect(server.url)
    job = client.submit(long_clip, fps=0.2)
    with pytest.raises(TimeoutError):
        client.wait(job.id, timeout=0)
    assert len(client.wait(job.id, timeout=60).frames) == 24
    client.delete(job.id)
    with pytest.raises(vsg.NotFoundError, match=job.id):
        client.prompt(job.id)


@pytest.mark.usefixtures("slow_engine")
def test_a_prompt_that_is_not_there_yet_is_a_problem(connect: Connect, server: Server, long_clip: Path) -> None:
    client = connect(server.url)
    job = client.submit(long_clip)
    with pytest.raises(vsg.ProblemError) as caught:
        client.prompt(job.id)
    assert (caught.value.status, caught.value.code) == (409, "not_ready")
    client.delete(job.id)


def test_problems_say_what_is_wrong(connect: Connect, server: Server, clip: Path) -> None:
    client = connect(server.url)
    with pytest.raises(vsg.OptionError) as wrong_option:
        client.graph(clip, fps=0)
    problem = wrong_option.value
    assert (problem.status, problem.code, problem.option) == (422, "invalid_option", "fps")
    assert problem.document["instance"] == "/videos"
    assert str(problem) == problem.detail
    with pytest.raises(vsg.OptionError):
        client.graph(clip, fsp=2)  # type: ignore[call-arg]
    with pytest.raises(vsg.UnusableVideoError) as no_video:
        client.graph(b"no video")
    assert (no_video.value.status, no_video.value.code) == (415, "unsupported_media")
    with pytest.raises(vsg.UnusableVideoError):
        client.graph(b"")
    with pytest.raises(vsg.AccessError, match="fetches no URLs"):
        client.submit("https://example.org/clip.mp4")
    with pytest.raises(FileNotFoundError):
        client.graph("nowhere.mp4")


def test_a_job_that_fails_is_raised_with_its_problem(connect: Connect, server: Server, clip: Path) -> None:
    client = connect(server.url)
    job = client.submit(clip.read_bytes()[:100])
    assert list(client.events(job.id))[-1].status == "failed"
    with pytest.raises(vsg.UnusableVideoError) as caught:
        client.wait(job.id)
    assert caught.value.job_id == job.id
    with pytest.raises(vsg.UnusableVideoError):
        client.graph(clip.read_bytes()[:100])


def test_models_are_listed_the_default_first(connect: Connect, server: Server) -> None:
    first, second = connect(server.url).models()
    assert (first.name, first.default, second.name, second.default) == ("tiny", True, "tiny-2", False)
    assert first.frame_size == {"height": 32, "width": 32}
    assert not first.relation_scoring


def test_a_key_lets_its_bearer_in(
    connect: Connect, start_server: Callable[..., Server], tmp_path: Path, clip: Path
) -> None:
    alice, bob = new_key(), new_key()
    url = start_server(keys=write_keys(tmp_path / "keys", alice=alice, bob=bob)).url
    graph = connect(url, alice).graph(clip)
    assert connect(url, key=alice).prompt(graph.id) == graph.prompt
    with pytest.raises(vsg.NotFoundError):
        connect(url, bob).prompt(graph.id)
    for client, code in ((connect(url), "key_missing"), (connect(url, "vsg_wrong"), "key_wrong")):
        with pytest.raises(vsg.AccessError) as caught:
            client.graph(clip)
        assert (caught.value.status, caught.value.code) == (401, code)
        with pytest.raises(vsg.AccessError):
            list(client.events(graph.id))


def test_a_request_that_there_is_no_room_for_is_sent_again(
    connect: Connect, start_server: Callable[..., Server], clip: Path
) -> None:
    server = start_server(rate_limit="1/second")
    client = connect(server.url)
    assert client.graph(clip).id != client.graph(clip).id
    impatient = connect(server.url, retry_seconds=0)
    with pytest.raises(vsg.BusyError) as caught:
        [impatient.submit(clip) for _ in range(3)]
    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 1.0)


def test_a_graph_that_is_kept_is_given_at_once(
    connect: Connect, start_server: Callable[..., Server], clip: Path
) -> None:
    client = connect(start_server(reuse_results=True).url)
    graph = client.graph(clip)
    job = client.submit(clip)
    assert job.status == "succeeded"
    assert client.wait(job.id).frames == graph.frames


def test_an_event_of_a_video_that_is_not_there_is_a_problem(connect: Connect, server: Server) -> None:
    with pytest.raises(vsg.NotFoundError):
        list(connect(server.url).events("0" * 32))


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://example.org", "http://"])
def test_a_url_that_is_none_is_refused(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match="give one such as"):
        connect(url)
