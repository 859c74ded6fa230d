"""Fixtures for tests of the service: a small real bundle, and real servers on free ports of 127.0.0.1."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from xdist.scheduler import LoadScopeScheduling

from service.http import create_app
from service.http.web_server import WebServer
from service.jobs import ProcessLife
from service.scheduling import scheduler
from service.settings import load_settings
from tests.support.bundles import make_tiny_bundle, make_video_bundle
from tests.support.paths import SHARED
from tests.support.ports import unused_port
from tests.support.videos import make_video
from tests.support.waiting import until


@dataclass(frozen=True)
class Server:
    """A service on 127.0.0.1; `data` is its folder of uploads and results."""

    client: httpx.Client
    url: str
    port: int
    data: Path
    app: FastAPI

    def post(self, video: Path | bytes, **arguments: Any) -> httpx.Response:
        """Posts a video as a multipart form; `data` and the rest go to httpx."""
        content = video if isinstance(video, bytes) else video.read_bytes()
        name = "upload.mp4" if isinstance(video, bytes) else video.name
        return self.client.post("/videos", files={"video": (name, content)}, **arguments)

    def uploads(self) -> list[Path]:
        """The uploads in storage."""
        return list((self.data / "uploads").iterdir())

    def results(self) -> list[Path]:
        """The results in storage."""
        return [path for path in (self.data / "results").rglob("*") if path.is_file()]


class _InGroups(LoadScopeScheduling):
    """Runs all tests of a file in one process, and all tests that share exported networks in one."""

    def _split_scope(self, nodeid: str) -> str:
        return "export" if nodeid.startswith("tests/export/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Replaces pytest-xdist's own `--dist loadgroup`, which does nothing under pytest 9.2."""
    return _InGroups(config, log)


@contextmanager
def serve(data: Path, **settings: Any) -> Iterator[Server]:
    """Runs the service with real uvicorn in a thread."""
    loaded = load_settings({"data": str(data), "threads": 1, "reuse_results": False, "shutdown_seconds": 5, **settings})
    life = ProcessLife()
    app = create_app(loaded, life)
    server = WebServer(app, loaded.model_copy(update={"host": "127.0.0.1", "port": 0}), life)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=180, trust_env=False) as client:
            yield Server(client, url, port, data, app)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server does not stop"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle named `tiny`."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def video_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle named `tiny-video`, with a stage that sees whole videos and gives relation scores."""
    return make_video_bundle(tmp_path_factory.mktemp("bundle") / "tiny-video")


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for the tests of a module that do not change its settings; serves `tiny` and `tiny-2`.

    It ends with the module: its threads use the interpreter's `random`, which Hypothesis does not allow beside it.
    """
    second = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "second", name="tiny-2")
    settings = {"bundles": (tiny_bundle, second), "max_body_bytes": 2_000_000, "max_frames": 100}
    with serve(tmp_path_factory.mktemp("data"), **settings) as running:
        yield running


@pytest.fixture
def start_server(tiny_bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts services with the settings that a test gives."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Server:
            data = Path(settings.pop("data", tmp_path / "data"))
            return stack.enter_context(serve(data, **{"bundles": (tiny_bundle,), **settings}))

        yield start


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes clients that obey proxy variables connect to 127.0.0.1 directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A real, empty redis-server on a free port of 127.0.0.1."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed; tests/install-system-packages does that")
    port = unused_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: _answers(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of grey, 64 x 48, H.264 in MP4, 10 frames per second."""
    return make_video(tmp_path_factory.mktemp("videos") / "clip.mp4")


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of grey at one frame per second."""
    return make_video(tmp_path_factory.mktemp("videos") / "long.mp4", seconds=120, rate=1)


@pytest.fixture
def slow_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every batch take a fifth of a second longer, without keeping a core busy."""
    run = scheduler._gathered

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.2)
        return run(*arguments)

    monkeypatch.setattr(scheduler, "_gathered", slowly)


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """The folder of real clips; tests that need it are skipped where it is missing."""
    folder = SHARED / "videos"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; real clips are kept beside the checkout")
    return folder
