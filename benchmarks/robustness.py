"""Sends malformed requests to the service and checks that it answers each, fails at none and keeps nothing of them.

    .venv/bin/python -m benchmarks.robustness [--requests 1000] [--seed 1] [--json]

Several clients at once send them to a real `vsg serve` with the stub engine: broken forms, videos, JSON, options, paths
and headers, doubled headers, offers of other protocols, wrong containers, pages of other origins, bodies that are too
large, and bytes that are not HTTP. Then many uploads begin at once and stop half-way, connections fall silent in every
state, answers are not read, and a kept video is posted again and again. A tenth of the requests goes to a second
service that wants keys, with no key, a wrong one or garbage; there one key fills the queue, and others still get in.
Videos to break come from ../shared/videos where that folder exists. Request N of a seed is always the same.

The program compares the memory of the service with that after a warm-up, which sends a third as many requests of
another seed, and presses as hard as the rest does, twice: by then the interpreter, its allocator and its thread pools
hold what they keep. Graphs and failures are kept for a minute, and memory is measured when none is kept any more: a
service that keeps more videos takes more. The program exits with 1 where something is wrong. It needs a checkout: it
uses helpers of the tests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.pressure import fill_queue, hang, post_again, read_slowly
from models.graph.scene_graph import SceneGraph
from service.keys import key_line, new_key
from tests.support.bundles import make_tiny_bundle
from tests.support.hostile import any_request
from tests.support.malformed import Malformed, slow_requests
from tests.support.processes import ServiceProcess, serve_process
from tests.support.videos import make_video
from tests.support.waiting import until

CLIENTS = 6
PATIENCE = 120.0
IDLE_SECONDS = 3
RETENTION_SECONDS = 60
FORGET_SECONDS = 35.0  # a memory queue frees what has expired every 30 seconds
MOST_CLIP_BYTES = 700_000
MOST_GROWTH = 1.05  # of memory
MOST_HANGING = 400
WARMING_PRESSES = 2  # the C library's pools grow with the first and a little with the second
PARTS = 10  # of the requests, after each of which memory is measured
QUEUE_LIMIT = 16
TOLERANCE_FILES = 4
_SHARED = Path(__file__).parents[2] / "shared" / "videos"
_SECRETS = (b"Traceback", b"/tmp", b".py", b"uvicorn", b"starlette", b"decord", b"ffmpeg")


@dataclass(frozen=True)
class Answer:
    """An answer; `status` is None where the connection ended without one."""

    status: int | None
    content_type: str = ""
    body: bytes = b""


@dataclass
class Usage:
    """Resources of a service: resident bytes of all its processes, open files, and its number of processes."""

    memory: int
    files: int
    processes: int

    @classmethod
    def of(cls, service: ServiceProcess) -> Usage:
        """Measures a service that has nothing to do."""
        family = [service.process, *service.process.children(recursive=True)]
        return cls(sum(process.memory_info().rss for process in family), service.process.num_fds(), len(family))


@dataclass
class Findings:
    """Counts of the answers by status, kind of request and problem code, and the faults found in them."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def note(self, name: str, request: Malformed, answer: Answer) -> None:
        """Counts an answer and records its fault, if it has one."""
        self.kinds[request.kind] += 1
        self.statuses[str(answer.status or "none")] += 1
        fault = _fault(request, answer)
        if fault:
            self.faults.append(f"{name} ({request.kind}): {fault}: {answer.status} {answer.body[:300]!r}")
        elif answer.content_type == "application/problem+json" and answer.body:
            self.codes[json.loads(answer.body)["code"]] += 1


def send(port: int, request: Malformed) -> Answer:
    """Sends a request and reads the answer. Raises TimeoutError where none comes and the connection stays open."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        _write(connection, request)
        return _read(connection, request)


def _write(connection: socket.socket, request: Malformed) -> None:
    with suppress(OSError):  # the service may refuse it and close the connection before all is sent
        for piece in request.pieces:
            connection.sendall(piece)
        if request.ends_early:
            connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket, request: Malformed) -> Answer:
    try:
        response = http.client.HTTPResponse(connection, method=request.method)
        response.begin()
        return Answer(response.status, response.headers.get("content-type", ""), response.read())
    except (ConnectionError, http.client.HTTPException):
        return Answer(None)


def _fault(request: Malformed, answer: Answer) -> str | None:
    """Returns the fault of an answer, None where it has none."""
    if answer.status is None:
        return None
    if answer.status >= 500:
        return "a failure of the service"
    if any(secret in answer.body for secret in _SECRETS) and answer.content_type != "text/html; charset=utf-8":
        return "reveals internals"
    if answer.status >= 400:
        if answer.content_type != "application/problem+json":
            return "not a problem"
        if answer.body and json.loads(answer.body)["status"] != answer.status:
            return "a problem of another status"
    elif request.method == "POST" and answer.status == 200:
        SceneGraph.model_validate_json(answer.body)
    return None


def good_clips(folder: Path) -> list[bytes]:
    """Returns videos to break: made ones, and real ones where there are any."""
    found = sorted(path for path in _SHARED.glob("*/*.*") if path.suffix != ".md") if _SHARED.is_dir() else []
    clips = [path.read_bytes() for path in found if 0 < path.stat().st_size <= MOST_CLIP_BYTES]
    made = [make_video(folder / name, codec=codec) for name, codec in (("a.mp4", "libx264"), ("b.avi", "mpeg4"))]
    return clips + [path.read_bytes() for path in made]


def attack(service: ServiceProcess, requests: Sequence[tuple[str, Malformed]], findings: Findings) -> None:
    """Sends requests, `CLIENTS` at once."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = clients.map(lambda named: send(service.port, named[1]), requests)
        for (name, request), answer in zip(requests, answers, strict=True):
            findings.note(name, request, answer)


def stall(service: ServiceProcess, requests: Sequence[Malformed], findings: Findings) -> float:
    """Sends requests that stop half-way, all at once; returns the seconds until the service gave up the last."""
    began = time.monotonic()
    with ExitStack() as stack:
        connections = []
        for request in requests:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE))
            _write(connection, request)
            connections.append(connection)
        assert service.is_ready(), "slow clients block others"
        for number, (connection, request) in enumerate(zip(connections, requests, strict=True)):
            findings.note(f"slow {number}", request, _read(connection, request))
    return time.monotonic() - began


def settle(service: ServiceProcess) -> Usage:
    """Waits until a service is idle and returns its usage; raises AssertionError where something stays behind."""
    assert service.is_alive, f"the service has ended:\n{service.log.read_text()[-3000:]}"
    until(lambda: not service.decoders(), 120)
    until(lambda: not service.uploads(), 120)
    until(service.is_ready, 120)
    connections = {"ESTABLISHED", "CLOSE_WAIT"}
    until(lambda: not [c for c in service.process.net_connections("tcp") if c.status in connections], 120)
    return Usage.of(service)


def forget(service: ServiceProcess) -> Usage:
    """Waits until a service keeps no video any more, and returns its usage."""
    settle(service)
    until(lambda: not _kept_files(service), RETENTION_SECONDS + 120)
    time.sleep(FORGET_SECONDS)
    return settle(service)


def _kept_files(service: ServiceProcess) -> list[Path]:
    return [path for path in (service.data / "results").rglob("*") if path.is_file()]


def run(folder: Path, requests: int, seed: int) -> dict[str, object]:
    """Runs the whole program and returns its figures; raises AssertionError with what is wrong."""
    clips = good_clips(folder)
    settings = {
        "bundles": make_tiny_bundle(folder / "tiny"),
        "engine": "stub",
        "max_body_bytes": 1_000_000,
        "upload_idle_seconds": IDLE_SECONDS,
        "retention": RETENTION_SECONDS,
        "sweep_seconds": 5,
        "max_frames": 50,
        "concurrency": 4,
        "url_hosts": "*.example",
        "log_level": "warning",
    }
    names = ("alice", "bob", "carol", "dave")
    secrets = [new_key() for _ in names]
    keys = folder / "keys"
    keys.write_text("\n".join(map(key_line, names, secrets)))
    slow_engine = {"stub_seconds": 1.0, "concurrency": 1, "queue_limit": QUEUE_LIMIT}
    findings = Findings()
    with (
        serve_process(folder, **settings) as service,
        serve_process(_made(folder / "keyed"), **{**settings, **slow_engine}, keys=keys) as keyed,
    ):
        warm_up = [(f"warm-up {n}", any_request(n, seed + 1, clips)) for n in range(max(16, requests // 3))]
        attack(service, warm_up, findings)
        for _ in range(WARMING_PRESSES):
            press(service, clips, requests)
        before = forget(service)
        findings = Findings(faults=findings.faults)
        with_keys, slow = requests // 10, slow_requests(seed, clips)
        numbers = range(requests - with_keys - len(slow))
        curve = []
        for part in range(PARTS):
            of_part = numbers[len(numbers) * part // PARTS : len(numbers) * (part + 1) // PARTS]
            attack(service, [(f"request {n}", any_request(n, seed, clips)) for n in of_part], findings)
            curve.append(round(settle(service).memory / before.memory, 3))
        given_up_after = stall(service, slow, findings)
        pressed = press(service, clips, requests)
        attack(keyed, [(f"with keys {n}", _with_wrong_key(n, seed, clips)) for n in range(with_keys)], findings)
        queued = fill_queue(keyed, clips[-2:], secrets[0], secrets[1:])
        after = forget(service)
        settle(keyed)
        logs = service.log.read_text() + keyed.log.read_text()

    assert not findings.faults, f"{len(findings.faults)} wrong answers:\n" + "\n".join(findings.faults[:20])
    assert "Traceback" not in logs, f"exceptions in the log:\n{logs[logs.index('Traceback') :][:3000]}"
    answered = sum(findings.statuses.values()) - findings.statuses["none"]
    assert answered > 0.7 * requests, f"only {answered} of {requests} requests were answered"
    grown = after.memory / before.memory
    assert grown <= MOST_GROWTH, f"memory grew from {before.memory} to {after.memory} bytes, to {grown:.3f} times"
    assert after.files <= before.files + TOLERANCE_FILES, f"open files grew from {before.files} to {after.files}"
    assert after.processes == before.processes, "processes are left"
    assert given_up_after < 10 * IDLE_SECONDS, f"slow clients were kept for {given_up_after:.0f} s"
    return {
        "requests": sum(findings.statuses.values()),
        "seed": seed,
        "kinds": dict(findings.kinds),
        "statuses": dict(sorted(findings.statuses.items())),
        "codes": dict(findings.codes.most_common()),
        "memory after / before": round(after.memory / before.memory, 3),
        f"memory after each of {PARTS} parts / before": curve,
        "memory grown by MiB": round((after.memory - before.memory) / 2**20, 1),
        "open files before, after": [before.files, after.files],
        "seconds until slow clients were given up": round(given_up_after, 1),
        **pressed,
        "a key that fills the queue": queued,
        "left uploads, decoders, exceptions": 0,
    }


def press(service: ServiceProcess, clips: Sequence[bytes], requests: int) -> dict[str, object]:
    """Presses a service in proportion to the requests; returns figures. Raises AssertionError where it gives way."""
    count = max(16, min(MOST_HANGING, requests // 10))
    hung, unread = hang(service, count), read_slowly(service, count // 4)
    for seconds in (hung, unread):
        assert seconds < 10 * IDLE_SECONDS + count / 10, f"silent connections were kept for {seconds:.0f} s"
    settle(service)
    for path in _kept_files(service):
        path.unlink(missing_ok=True)  # the service sweeps too
    again = post_again(service, clips[-2], count)
    assert again["stored bytes"] == 0, "a graph that answers again takes room"
    return {
        f"seconds until {count} silent connections were closed": round(hung, 1),
        f"seconds until {count // 4} that read nothing were closed": round(unread, 1),
        f"grown by {count} posts of a kept video": again,
    }


def _with_wrong_key(number: int, seed: int, clips: Sequence[bytes]) -> Malformed:
    headers = (b"", b"Authorization: Bearer wrong\r\n", b"Authorization: \xff\r\n", b"Authorization: Basic YTpi\r\n")
    return any_request(number, seed + 2, clips).with_header(headers[number % len(headers)])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="send malformed requests and check what they do to the service")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsg-robustness-") as folder:
        figures = run(Path(folder), arguments.requests, arguments.seed)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:52} {value}")


if __name__ == "__main__":
    main()
