"""Parts of the service as separate processes, started as an operator starts them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.ports import unused_port
from tests.support.waiting import until


class ServiceProcess:
    """`vsg serve` on a free port of loopback; its log is the file `log`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Starts the process. `settings` go by their names; `data` defaults to a folder within `folder`."""
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = Path(settings.setdefault("data", folder / "data"))
        self.log = folder / "serve.log"
        self._process = start("serve", self.log, port=self.port, **settings)
        self.process = psutil.Process(self._process.pid)

    @property
    def is_alive(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """True while /health/ready answers 200."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=30, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def uploads(self) -> list[Path]:
        """The uploads in storage."""
        return list((self.data / "uploads").iterdir())

    def decoders(self) -> list[psutil.Process]:
        """Its decoder processes, without the permanent process that starts them."""
        return [decoder for spawner in self.process.children() for decoder in spawner.children()]

    def stop(self) -> None:
        """Stops it and waits until it has ended; does nothing when it has ended already."""
        if self.is_alive:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)


def start(command: str, log: Path, *, open_files: int | None = None, **settings: Any) -> subprocess.Popen[bytes]:
    """Starts `vsg COMMAND`, with settings in the environment.

    open_files: the system's limit for the process; by default that of the tests.
    """

    def limit_files() -> None:
        if open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

    environment = {f"VSG_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "service.command_line", command],
            env=os.environ | environment,
            stdout=file,
            stderr=file,
            preexec_fn=limit_files,
        )


@contextmanager
def serve_process(folder: Path, **settings: Any) -> Iterator[ServiceProcess]:
    """Starts `vsg serve`, waits until it is ready, and stops it when the context ends."""
    service = ServiceProcess(folder, **settings)
    try:
        until(lambda: not service.is_alive or service.is_ready(), 120)
        assert service.is_alive, service.log.read_text()
        yield service
    finally:
        service.stop()
