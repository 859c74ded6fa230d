"""Readiness of processes while Redis or an engine hangs, their logs and their traces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from service.keys import new_key
from tests.end_to_end.test_fleet import Start, client, post, start  # noqa: F401 - fixtures
from tests.service.test_keys import write_keys
from tests.support.ports import unused_port
from tests.support.waiting import until


@pytest.fixture
def redis_server(redis_url: str) -> psutil.Process:
    """The redis-server process behind `redis_url`."""
    with redis.Redis.from_url(redis_url) as connection:
        return psutil.Process(connection.info("server")["process_id"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a process count as stalled after one second."""
    monkeypatch.setenv("VSG_STALL_SECONDS", "1")
    monkeypatch.setenv("VSG_DECODE_SECONDS", "0.9")


@pytest.fixture
def worker(start: Start, client: httpx.Client) -> Iterator[Callable[..., httpx.Client]]:  # noqa: F811
    """Starts a worker beside the API; returns a client for its health and metrics."""
    opened: list[httpx.Client] = []

    def begin(**settings: str) -> httpx.Client:
        port = unused_port()
        start("worker", "--metrics-port", str(port), **settings)
        asks = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
        opened.append(asks)
        until(lambda: readiness(asks) == (200, "") and readiness(client) == (200, ""), 120)
        return asks

    yield begin
    for asks in opened:
        asks.close()


def readiness(process: httpx.Client) -> tuple[int, str]:
    """Status and reason of /health/ready; 0 where nobody listens."""
    try:
        answer = process.get("/health/ready")
    except httpx.ConnectError:
        return 0, ""
    return answer.status_code, answer.json().get("detail", "")


def metric(process: httpx.Client, name: str) -> float:
    families = text_string_to_metric_families(process.get("/metrics").text)
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


def test_no_process_is_ready_while_redis_hangs_or_is_gone(
    client: httpx.Client,  # noqa: F811
    worker: Callable[..., httpx.Client],
    redis_server: psutil.Process,
) -> None:
    both = (client, worker())
    redis_server.suspend()
    for process in both:
        began = time.monotonic()
        assert readiness(process) == (503, "the job queue does not answer")
        assert process.get("/health/live").status_code == 200
        assert metric(process, "vsg_queue_up") == 0
        assert time.monotonic() - began < 20, "two limits of 2 seconds"
    began = time.monotonic()
    answer = client.get(f"/videos/{'0' * 32}")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert time.monotonic() - began < 20, "a limit of 5 seconds"
    redis_server.resume()
    for process in both:
        until(lambda process=process: readiness(process) == (200, ""))
        assert (metric(process, "vsg_queue_up"), metric(process, "vsg_queue_depth")) == (1, 0)
    redis_server.kill()
    for process in both:
        until(lambda process=process: readiness(process) == (503, "the job queue does not answer"))


@pytest.mark.usefixtures("impatient")
def test_an_engine_that_hangs_makes_its_worker_unready_while_the_api_goes_on(
    client: httpx.Client,  # noqa: F811
    worker: Callable[..., httpx.Client],
    clip: Path,
) -> None:
    stuck = worker(VSG_STUB_SECONDS="3600")
    assert post(client, clip).status_code == 202
    until(lambda: "the engine of 'tiny' has finished no batch" in readiness(stuck)[1])
    assert readiness(stuck)[0] == 503
    assert readiness(client) == (200, "")
    assert post(client, clip).status_code == 202
    assert stuck.get("/health/live").status_code == client.get("/health/live").status_code == 200


def test_every_line_of_the_log_is_an_object_and_says_which_video_it_is_about(
    start: Start,  # noqa: F811
    tiny_bundle: Path,
    clip: Path,
    tmp_path: Path,
) -> None:
    key, port = new_key(), unused_port()
    settings = {"VSG_QUEUE_URL": "memory://", "VSG_LOG_LEVEL": "debug"}
    keys = write_keys(tmp_path / "keys", alice=key)
    service = start("serve", "--port", str(port), "--bundle", str(tiny_bundle), "--keys", str(keys), **settings)
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        trust_env=False,
    ) as alice:
        until(lambda: readiness(alice)[0] == 200)
        video_id = post(alice, clip, "wait=60").json()["id"]
        assert alice.get(f"/videos/{video_id}?format=json").status_code == 200
        assert alice.get(f"/videos/{video_id}?secret=1").status_code == 422
        assert alice.get("/videos/nothing%0Asecret", headers={"X-Other": "secret"}).status_code == 404
    lines = ended(service)
    requests = {
        (line["method"], line["route"], line["status"], line.get("id")): line for line in lines if "route" in line
    }
    assert requests["POST", "/videos", 200, video_id]["seconds"] > 0
    assert requests["GET", "/videos/{video_id}", 200, video_id]["level"] == "info"
    assert requests["GET", "/videos/{video_id}", 404, None]
    assert requests["GET", "/health/ready", 200, None]["level"] == "debug"
    assert [line["id"] for line in lines if line["message"] == "job ended"] == [video_id]
    said = json.dumps(lines)
    assert not [word for word in (key, "secret", "make_graph") if word in said]


def ended(service: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Stops a process and returns the lines of its log."""
    service.send_signal(signal.SIGTERM)
    _, said = service.communicate(timeout=60)
    return [json.loads(line) for line in said.splitlines()]


@dataclass
class Collector:
    """Takes traces over HTTP, as an OpenTelemetry collector does; `spans` by the service that sent them."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def names(self, trace_id: bytes) -> set[tuple[str, str]]:
        return {(service, span.name) for service, span in self.spans if span.trace_id == trace_id}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {item.key: item.value.string_value for item in sent.resource.attributes}
                for scope in sent.scope_spans:
                    found.spans.extend((names["service.name"], span) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def traced(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes processes send their traces to the collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")


@pytest.mark.usefixtures("traced")
def test_one_trace_goes_from_the_request_to_the_engine(
    collector: Collector,
    client: httpx.Client,  # noqa: F811
    worker: Callable[..., httpx.Client],
    clip: Path,
) -> None:
    worker()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    caller = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "prefer": "wait=60"}
    video_id = client.post("/videos", files={"video": clip.read_bytes()}, headers=caller).json()["id"]
    api, work = "vsg-api", "vsg-worker"
    wanted = {
        (api, "POST /videos"),
        (api, "docket.add"),
        (work, "job"),
        (work, "decode"),
        (work, "wait stub"),
        (work, "engine stub"),
        (work, "graph"),
        (work, "store result"),
    }
    until(lambda: collector.names(bytes.fromhex(trace_id)) == wanted)
    spans = {span.name: span for _, span in collector.spans if span.trace_id == bytes.fromhex(trace_id)}
    job = spans["job"]
    assert job.parent_span_id == spans["docket.add"].span_id
    assert spans["docket.add"].parent_span_id == spans["POST /videos"].span_id
    assert spans["POST /videos"].parent_span_id.hex() == "b7ad6b7169203331"
    for name in ("decode", "wait stub", "engine stub", "graph", "store result"):
        assert spans[name].parent_span_id == job.span_id
        assert spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano
    known = {item.key: item.value for item in job.attributes}
    assert (known["vsg.id"].string_value, known["vsg.status"].string_value) == (video_id, "succeeded")
    assert {item.key: item.value.int_value for item in spans["engine stub"].attributes}["vsg.batch.size"] == 1


@pytest.mark.parametrize(("endpoint", "loaded"), [("", False), ("http://127.0.0.1:9", True)])
def test_opentelemetrys_exporter_is_loaded_only_when_an_endpoint_is_set(endpoint: str, loaded: bool) -> None:
    program = """if True:
        import sys
        import service.commands.serve
        from service.tracing import configure_tracing
        configure_tracing("vsg")
        print(any(name.startswith("opentelemetry.exporter.") for name in sys.modules))
    """
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(loaded)


def test_tracing_that_cannot_start_is_a_warning() -> None:
    program = """if True:
        import sys
        sys.modules["opentelemetry.exporter"] = None  # as where the extra is not installed
        from service.tracing import configure_tracing
        configure_tracing("vsg")
        print("goes on")
    """
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert "nothing is traced: OTEL_EXPORTER_OTLP_ENDPOINT is set, but the extra `tracing`" in done.stdout + done.stderr
    assert done.stdout.endswith("goes on\n")
