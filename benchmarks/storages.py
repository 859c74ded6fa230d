"""Storage that fails on purpose: a folder that goes away or is full, and S3 behind a way that breaks or is slow."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import httpx

from tests.support.ports import unused_port
from tests.support.waiting import until

FAULT_SECONDS = 4.0
SLOW_SECONDS = 0.3  # for each piece of an answer of a slow S3
_SMALL_BYTES = 64 << 20
_BYTES_OF_VIDEO = 100_000


@dataclass(frozen=True)
class FailingStorage:
    """A storage for a fleet.

    environment: variables that name it.
    faults: ways in which it fails for some seconds, by name. Each returns when it is over.
    names: lists the files of an area, `uploads` or `results`.
    """

    environment: dict[str, str]
    faults: dict[str, Callable[[], None]]
    names: Callable[[str], list[str]]


@contextmanager
def failing_folder(folder: Path, *, videos: int) -> Iterator[FailingStorage]:
    """A folder, which is away as a disk that is not mounted, and is filled where this user may mount a small disk."""
    disk = folder / "disk"
    disk.mkdir()
    size = _SMALL_BYTES + videos * _BYTES_OF_VIDEO
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    is_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    data = disk / "data"

    def away() -> None:
        elsewhere = data.rename(disk / "elsewhere")
        time.sleep(FAULT_SECONDS)
        elsewhere.rename(data)

    def filled() -> None:
        ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
        try:
            for block in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        os.write(ballast, bytes(block))
            time.sleep(FAULT_SECONDS)
        finally:
            os.close(ballast)
            (disk / "ballast").unlink()

    def names(area: str) -> list[str]:
        return [path.name for path in (data / area).rglob("*") if path.is_file()]

    try:
        faults: dict[str, Callable[[], None]] = {"storage away": away}
        if is_small:
            faults["storage filled"] = filled
        yield FailingStorage({"VSG_DATA": str(data)}, faults, names)
    finally:
        if is_small:
            subprocess.run(["umount", str(disk)], check=False)


class Way:
    """A way to a server on this machine, which `state` opens, breaks or slows down."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="way")
        self.state: Literal["open", "away", "slow"] = "open"
        self.port = 0

    def __enter__(self) -> Way:
        self._thread.start()
        starting = asyncio.start_server(self._carry, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(30)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def break_off(self) -> None:
        """Closes what is open."""
        for writer in list(self._writers):
            self._loop.call_soon_threadsafe(writer.close)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state == "away":
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        finally:
            self._writers -= {writer, back}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, RuntimeError):
            while data := await reader.read(1 << 16):
                if self.state == "slow":
                    await asyncio.sleep(SLOW_SECONDS)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def failing_bucket(folder: Path) -> Iterator[FailingStorage]:
    """A bucket of a server of S3 on this machine, which is away, or slow."""
    port, prefix = unused_port(), f"videos/{secrets.token_hex(4)}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        (folder / "s3.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
        Way(port) as way,
    ):
        try:
            until(lambda: _answers(port), 240)
            keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
            os.environ.update(keys)
            files = fsspec.filesystem("s3", endpoint_url=f"http://127.0.0.1:{port}", use_listings_cache=False)
            files.mkdir("videos")

            def fails(state: Literal["away", "slow"]) -> None:
                way.state = state
                if state == "away":
                    way.break_off()
                time.sleep(FAULT_SECONDS)
                way.state = "open"

            def names(area: str) -> list[str]:
                return [Path(path).name for path in files.find(f"{prefix}/{area}")]

            endpoint = f"http://127.0.0.1:{way.port}"
            yield FailingStorage(
                {
                    "VSG_DATA": f"s3://{prefix}",
                    "FSSPEC_S3_ENDPOINT_URL": endpoint,
                    "AWS_ENDPOINT_URL": endpoint,
                    "NO_PROXY": "127.0.0.1",
                    **keys,
                },
                {"storage away": lambda: fails("away"), "storage slow": lambda: fails("slow")},
                names,
            )
        finally:
            server.terminate()


def _answers(port: int) -> Any:
    try:
        return httpx.get(f"http://127.0.0.1:{port}", trust_env=False, timeout=30).status_code < 500
    except httpx.TransportError:
        return False
