"""A fleet of processes on this machine, each of which can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from tests.support.ports import unused_port


class Fleet:
    """Redis, the API and workers with the stub engine."""

    def __init__(
        self, folder: Path, bundle: Path, storage: Mapping[str, str], *, workers: int, **settings: str
    ) -> None:
        """
        folder: of the logs and of Redis.
        storage: variables of the environment that name the storage.
        settings: further ones by their names, such as `retention`.
        """
        self.folder = folder
        self.workers = workers
        self.redis_port, self.api_port = unused_port(), unused_port()
        self.killed: Counter[str] = Counter()
        self._environment = os.environ | {
            "VSG_QUEUE_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "VSG_BUNDLES": str(bundle),
            "VSG_ENGINE": "stub",
            "VSG_CONCURRENCY": "1",
            "VSG_LEASE_SECONDS": "4",
            "VSG_SWEEP_SECONDS": "2",
            "VSG_UPLOAD_IDLE_SECONDS": "10",
            "VSG_QUEUE_LIMIT": "1000",
            **storage,
            **{f"VSG_{name.upper()}": value for name, value in settings.items()},
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "redis").mkdir()

    @property
    def names(self) -> list[str]:
        """Names of all processes."""
        return ["redis", "api", *(f"worker-{number}" for number in range(self.workers))]

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.api_port}"

    def start(self, name: str) -> None:
        """Starts one process."""
        kind = name.partition("-")[0]
        append_only = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        commands = {
            "redis": [
                *("redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder / "redis"), *append_only),
            ],
            "api": [sys.executable, "-m", "service.command_line", "serve", "--port", str(self.api_port)],
            "worker": [sys.executable, "-m", "service.command_line", "worker"],
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                commands[kind], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """Kills one process with SIGKILL and starts it again."""
        self.killed[name.partition("-")[0]] += 1
        self._processes[name].kill()
        self._processes[name].wait()
        self.start(name)

    def stop(self) -> None:
        """Stops all processes, the workers first."""
        for name in reversed(self.names):
            if name in self._processes:
                self._processes[name].send_signal(signal.SIGTERM)
                self._processes[name].wait(60)

    def family(self, name: str) -> list[psutil.Process]:
        """A process and all that it has started."""
        with suppress(psutil.Error):
            process = psutil.Process(self._processes[name].pid)
            return [process, *process.children(recursive=True)]
        return []

    def left_processes(self) -> list[str]:
        """Returns the command lines of processes that still run; decoders have the environment of their worker."""
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("VSG_QUEUE_URL") == self._environment["VSG_QUEUE_URL"]:
                    left.append(" ".join(process.cmdline()))
        return left

    def is_ready(self) -> bool:
        """True while the API can accept videos."""
        try:
            return httpx.get(f"{self.url}/health/ready", trust_env=False, timeout=30).status_code == 200
        except httpx.TransportError:
            return False


def end_on_sigterm() -> None:
    """Has this program stop what it started when it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
