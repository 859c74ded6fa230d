"""Models, health, metrics, documentation, and pages that are not there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.openapi.models import OpenAPI
from prometheus_client.parser import text_string_to_metric_families

from service.http import app
from service.jobs import JobWorker, job_worker
from service.scheduling import scheduler
from service.video.processes import ForkServer
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.support.waiting import until


def test_models_are_listed_the_default_first(server: Server) -> None:
    models = server.client.get("/models").json()["models"]
    assert [(model["name"], model["default"]) for model in models] == [("tiny", True), ("tiny-2", False)]
    assert models[0]["engine"] == "onnxruntime-cpu"
    assert models[0]["clip_length"] == 4
    assert models[0]["vocabulary"]["subjects"] == ["person"]
    assert [group["name"] for group in models[0]["vocabulary"]["groups"]] == ["attention", "spatial", "contacting"]


def test_models_say_their_family_and_whether_they_score_relations(
    start_server: Callable[..., Server], tiny_bundle: Path, video_bundle: Path
) -> None:
    models = start_server(bundles=(tiny_bundle, video_bundle)).client.get("/models").json()["models"]
    assert [(model["name"], model["family"], model["relation_scoring"]) for model in models] == [
        ("tiny", "one_stage", False),
        ("tiny-video", "two_stage", True),
    ]
    assert models[1]["thresholds"]["relation_score"] == 0


def test_a_service_that_works_is_live_and_ready(server: Server) -> None:
    assert server.client.get("/health/live").json() == {"status": "live"}
    assert server.client.get("/health/ready").json()["status"] == "ready"


@pytest.mark.parametrize("missing", ["", "landlock"])
def test_a_service_says_how_its_decoders_are_isolated(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """At its start in the log, and whenever it is asked whether it is ready."""
    program = "from service.video import child\n"
    if missing:
        program += (
            "from pyseccomp import ALLOW, ERRNO, SyscallFilter\n"
            "calls = SyscallFilter(ALLOW)\n"
            "calls.add_rule(ERRNO(38), 'landlock_create_ruleset')\n"
            "calls.load()\n"
        )
    fork_server = ForkServer((sys.executable, "-P", "-s", "-c", program + "child.serve_forks()"))
    if not missing and (gaps := fork_server.isolation_gaps()):
        pytest.skip(f"decoders are not fully isolated on this machine: {gaps}")
    for module in (app, job_worker):
        monkeypatch.setattr(module, "FORK_SERVER", fork_server)
    with structlog.testing.capture_logs() as lines:
        server = start_server()
        told = server.client.get("/health/ready").json()["decoders"]
        until(lambda: any("isolated" in line["event"] for line in lines))
    fork_server.close()
    (line,) = (line for line in lines if "isolated" in line["event"])
    if missing:
        assert (line["log_level"], line["missing"]) == ("warning", {"landlock": "Function not implemented"})
        assert told == "isolated without landlock (Function not implemented)"
    else:
        assert (line["log_level"], told) == ("info", "isolated")


def test_a_job_that_does_not_move_makes_the_service_unready(
    start_server: Callable[..., Server], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*arguments: Any) -> object:
        time.sleep(1.5)
        return run(*arguments)

    run = scheduler._gathered
    monkeypatch.setattr(scheduler, "_gathered", stuck)
    server = start_server(stall_seconds=0.5, decode_seconds=0.4)
    place = server.post(clip, headers={"prefer": "respond-async"}).headers["location"]
    until(lambda: server.client.get("/health/ready").status_code == 503)
    problem = problem_of(server.client.get("/health/ready"), 503, "unavailable")
    assert "finished no batch" in str(problem["detail"]) or "no progress" in str(problem["detail"])
    assert server.client.get("/health/live").status_code == 200
    until(lambda: server.client.get(place).json()["status"] == "succeeded")
    assert server.client.get("/health/ready").status_code == 200


def test_a_dead_worker_makes_the_service_unready_and_not_live(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server()
    monkeypatch.setattr(JobWorker, "is_alive", False)
    problem_of(server.client.get("/health/ready"), 503, "unavailable")
    problem_of(server.client.get("/health/live"), 503, "unavailable")


def test_metrics_count_what_happened(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server()
    server.post(clip)
    server.post(b"text")
    server.client.get("/nowhere")
    families = {family.name: family for family in text_string_to_metric_families(server.client.get("/metrics").text)}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["vsg_requests_total", "POST", "/videos", "200"] == 1
    assert samples["vsg_requests_total", "POST", "/videos", "415"] == 1
    assert samples["vsg_requests_total", "GET", "none", "404"] == 1
    assert samples["vsg_errors_total", "unsupported_media"] == 1
    assert samples["vsg_jobs_total", "succeeded"] == 1
    assert samples["vsg_frames_total", "tiny"] == 4
    assert samples["vsg_stage_seconds_count", "decode"] == 1
    assert samples["vsg_upload_bytes_total",] == clip.stat().st_size
    assert samples["vsg_job_seconds_count", "succeeded"] == 1
    assert samples["vsg_job_seconds_sum", "succeeded"] >= samples["vsg_stage_seconds_sum", "total"]
    assert samples["vsg_batch_size_sum", "tiny", "pairs"] == 1, "one clip of four frames"
    assert samples["vsg_batch_wait_seconds_count", "tiny", "pairs"] == 1
    assert samples["vsg_queue_depth",] == samples["vsg_jobs_running",] == 0
    assert samples["vsg_queue_up",] == 1


@pytest.mark.usefixtures("slow_engine")
def test_open_streams_of_events_are_counted_while_they_are_open(
    start_server: Callable[..., Server], long_clip: Path
) -> None:
    server = start_server()
    place = server.post(long_clip, headers={"prefer": "respond-async"}).headers["location"]
    with server.client.stream("GET", f"{place}/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        assert "vsg_event_streams 1.0" in server.client.get("/metrics").text
    until(lambda: "vsg_event_streams 0.0" in server.client.get("/metrics").text)


def test_the_openapi_schema_is_valid_and_names_every_route(server: Server) -> None:
    schema = server.client.get("/openapi.json").json()
    OpenAPI.model_validate(schema)
    assert set(schema["paths"]) == {
        "/videos",
        "/videos/{video_id}",
        "/videos/{video_id}/caption",
        "/videos/{video_id}/prompt",
        "/videos/{video_id}/events",
        "/videos/{video_id}/frames/{index}.jpg",
        "/search",
        "/rules",
        "/rules/{rule_id}",
        "/models",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    assert set(schema["paths"]["/videos"]["post"]["requestBody"]["content"]) >= {"multipart/form-data", "video/*"}


def test_every_reference_of_the_openapi_schema_leads_somewhere(server: Server) -> None:
    schema = server.client.get("/openapi.json").json()

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    for reference in references(schema):
        here = schema
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]


def test_the_documentation_page_is_served(server: Server) -> None:
    assert "swagger" in server.client.get("/docs").text.lower()


@pytest.mark.parametrize("path", ["/nothing", "/videos/a/b", "/videos/"])
def test_an_unknown_path_is_a_problem(server: Server, path: str) -> None:
    problem_of(server.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/videos"), ("PUT", "/videos"), ("POST", "/models"), ("HEAD", "/videos")]
)
def test_a_wrong_method_is_a_problem_that_names_the_right_ones(server: Server, method: str, path: str) -> None:
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert answer.headers["allow"]
