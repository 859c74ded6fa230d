"""Code that has taken over a decoder gets nowhere. The code comes in the video file, and a real decoder runs it.

The layers are tried together, and each by itself, on a fork server that the kernel refuses the others.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.video import DecodeLimits, Sampling, VideoReader, reader
from service.video.containers import Container
from service.video.errors import DecoderUnavailable
from service.video.processes import FORK_SERVER, ForkServer
from service.video.wire import Request

Attempt = Callable[..., dict[str, str]]

# Runs what the video holds in place of decoding it: one expression a line.
TAKEN_OVER = """
import ctypes, glob, json, mmap, os, shutil, signal, socket, subprocess, sys, threading
from service.video import child
libc = ctypes.CDLL(None, use_errno=True)
VIDEO = "/proc/self/fd/3"
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def read(path):
    with open(path, "rb") as file:
        return file.read()
def attempt(request, output):
    results = {}
    for line in read(VIDEO).decode().splitlines():
        try:
            results[line] = f"gave {eval(line)!r}"
        except Exception as error:
            results[line] = f"refused: {error!r}"
    os.write(output, json.dumps(results).encode())
child._write_frames = attempt
"""
WITHOUT = """
from pyseccomp import ALLOW, EQ, ERRNO, Arg, SyscallFilter
calls = SyscallFilter(ALLOW)
for name in {calls}:
    calls.add_rule(ERRNO(1), name)
if "seccomp" in {calls}:
    calls.add_rule(ERRNO(1), "prctl", Arg(0, EQ, 22))
calls.load()
"""
# The folders of Python may be closed to others, so everything is imported first. Who changes its user may not look
# into /proc/self any more, until it says that it may.
AS_NOBODY = """
import landlockpy, numpy.ma, pyseccomp
landlockpy.abi_version()
child._load_libraries()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
libc.prctl(4, 1, 0, 0, 0)
"""
REFUSED_FOR = {"namespaces": ["unshare"], "landlock": ["landlock_create_ruleset"], "seccomp": ["seccomp"]}


def python(program: str) -> tuple[str, ...]:
    return sys.executable, "-P", "-s", "-c", program


@pytest.fixture
def taken_over(tmp_path: Path) -> Iterator[Attempt]:
    """Returns what came of each expression that a decoder evaluates.

    without: layers that the kernel refuses.
    as_nobody: runs the fork server as an ordinary user.
    """
    servers: list[ForkServer] = []
    if missing := FORK_SERVER.isolation_gaps():
        pytest.skip(f"decoders are not fully isolated on this machine: {missing}")

    def attempt(*lines: str, without: tuple[str, ...] = (), as_nobody: bool = False) -> dict[str, str]:
        calls = [call for layer in without for call in REFUSED_FOR[layer]]
        program = TAKEN_OVER + AS_NOBODY * as_nobody + WITHOUT.format(calls=calls) * bool(calls) + "child.serve_forks()"
        servers.append(ForkServer(python(program)))
        assert set(servers[-1].isolation_gaps()) == set(without)
        video = tmp_path / "hostile.mp4"
        video.write_text("\n".join(lines), encoding="utf-8")
        video.chmod(0o644)
        return evaluated(servers[-1], video)

    yield attempt
    for server in servers:
        server.close()


def evaluated(server: ForkServer, video: Path) -> dict[str, str]:
    with open(video, "rb") as file:
        decoder = server.start(file.fileno())
    request = Request(Container.MP4, Sampling(fps=1.0, max_frames=1, height=8, width=8), DecodeLimits())
    os.write(decoder.requests, request.to_json().encode() + b"\n")
    with open(decoder.messages, "rb", closefd=False) as messages:
        answer = messages.read()
    code = decoder.wait(30)
    decoder.close()
    assert code == 0, answer
    results: dict[str, str] = json.loads(answer)
    return results


def given(results: dict[str, str]) -> dict[str, str]:
    """Those attempts that were not refused."""
    return {line: result for line, result in results.items() if not result.startswith("refused: ")}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the service that its user may read, and everybody else too."""
    path = tmp_path / "secret"
    path.write_text("secret", encoding="utf-8")
    return path


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a service on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def looks_around(secret: Path) -> list[str]:
    pid = os.getpid()
    return [
        f"read('/proc/{pid}/environ')",
        "read(f'/proc/{os.getppid()}/environ')",
        f"read('/proc/{pid}/maps')",
        f"os.readlink('/proc/{pid}/cwd')",
        f"os.listdir('/proc/{pid}/fd')",
        f"os.readlink('/proc/{pid}/fd/0')",
        f"read({str(secret)!r})",
        f"read('/proc/{pid}/root{secret}')",
        f"read('/proc/{pid}/cwd/README.md')",
        "read('/etc/passwd')",
        "read('/proc/self/root/etc/passwd')",
        "read('/proc/1/environ')",
        f"os.listdir({str(secret.parent)!r})",
        "read(child.__file__)",
    ]


def connects(port: int) -> list[str]:
    return [
        f"socket.create_connection(('127.0.0.1', {port}), 3)",
        "socket.create_server(('127.0.0.1', 0))",
    ]


ANY_SOCKET = [
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
    "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "socket.socketpair()",
]
STARTS_PROCESSES = [
    "os.fork() or os._exit(0)",
    "subprocess.run([sys.executable, '-c', ''])",
    "os.posix_spawn('/bin/true', ['true'], {})",
    "os.execv('/bin/true', ['true'])",
    "os.memfd_create('program')",
    "call(435, ctypes.byref((ctypes.c_uint64 * 11)()), 88) or os._exit(0)",  # clone3
]
WRITES = [
    "open(VIDEO, 'r+b')",
    "open('/tmp/new', 'wb')",
    "open('/dev/shm/new', 'wb')",
    "os.mkdir('/tmp/folder')",
    "os.truncate(VIDEO, 0)",
    "os.symlink('/etc', '/tmp/link')",
]
CALLS_THE_KERNEL = [
    "call(425, 8, ctypes.byref((ctypes.c_uint8 * 120)()))",  # io_uring_setup
    "call(323, 0)",  # userfaultfd
    "call(321, 0, 0, 0)",  # bpf
    "call(250, 0, -3, 0)",  # keyctl
    "call(272, 0x10000000)",  # unshare
    "call(438, 0, 0, 0)",  # pidfd_getfd
    "os.pidfd_open(os.getppid())",
]
STILL_WORKS = {
    "len(read(VIDEO)) > 0": "gave True",
    "(thread := threading.Thread(target=int)).start() or thread.join()": "gave None",
    "len(os.environ.get('AWS_SECRET_ACCESS_KEY', ''))": "gave 0",
}


def harms(pid: int) -> list[str]:
    return [f"os.kill({pid}, 0)", "os.kill(os.getppid(), 9)", f"call(101, 16, {pid}, 0, 0)"]


@pytest.mark.parametrize("as_nobody", [False, True])
def test_code_in_a_decoder_reaches_nothing_but_its_video(
    taken_over: Attempt, secret: Path, listening: int, as_nobody: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    attempts = [
        *looks_around(secret), *connects(listening), *ANY_SOCKET, *STARTS_PROCESSES, *WRITES, *CALLS_THE_KERNEL,
        *harms(os.getpid()), f"os.stat({str(secret)!r})", "os.stat('/etc')",
    ]  # fmt: skip
    results = taken_over(*attempts, *STILL_WORKS, "os.listdir('/')", as_nobody=as_nobody)
    assert given(results) == STILL_WORKS
    assert not Path("/tmp/new").exists()


def test_an_ordinary_user_in_a_container_without_namespaces_reaches_nothing_but_the_video(
    taken_over: Attempt, secret: Path, listening: int
) -> None:
    attempts = [
        *looks_around(secret), *connects(listening), *ANY_SOCKET, *STARTS_PROCESSES, *WRITES, *CALLS_THE_KERNEL,
        *harms(os.getpid()),
    ]  # fmt: skip
    results = taken_over(*attempts, *STILL_WORKS, without=("namespaces",), as_nobody=True)
    assert given(results) == STILL_WORKS


@pytest.mark.parametrize("as_nobody", [False, True])
def test_namespaces_alone_hide_files_environment_and_network(
    taken_over: Attempt, secret: Path, listening: int, as_nobody: bool
) -> None:
    attempts = [*looks_around(secret), *connects(listening), f"os.stat({str(secret)!r})"]
    attempts.remove("read(f'/proc/{os.getppid()}/environ')")  # the fork server, which has none either
    attempts.remove("socket.create_server(('127.0.0.1', 0))")  # on a network with nobody else
    if not as_nobody:
        attempts.remove(f"os.listdir('/proc/{os.getpid()}/fd')")  # root sees how many there are, and not of what
    results = taken_over(*attempts, *STILL_WORKS, without=("landlock", "seccomp"), as_nobody=as_nobody)
    assert given(results) == STILL_WORKS


def test_landlock_alone_hides_files_and_environment_and_forbids_tcp_and_signals(
    taken_over: Attempt, secret: Path, listening: int
) -> None:
    attempts = [*looks_around(secret), *connects(listening), *WRITES, *harms(os.getpid())]
    results = taken_over(*attempts, *STILL_WORKS, without=("namespaces", "seccomp"))
    assert given(results) == STILL_WORKS


def test_seccomp_alone_forbids_network_processes_and_signals(taken_over: Attempt, listening: int) -> None:
    attempts = [*connects(listening), *ANY_SOCKET, *STARTS_PROCESSES, *CALLS_THE_KERNEL, *harms(os.getpid())]
    results = taken_over(*attempts, *WRITES, *STILL_WORKS, without=("namespaces", "landlock"))
    assert given(results) == STILL_WORKS


def test_without_any_layer_a_decoder_has_no_capabilities_and_gains_none(taken_over: Attempt) -> None:
    status = "[line for line in read('/proc/self/status').decode().splitlines() if line.startswith({!r})]"
    lines = [status.format("NoNewPrivs"), status.format("CapPrm")]
    results = taken_over(*lines, without=("namespaces", "landlock", "seccomp"))
    assert results[lines[0]] == r"gave ['NoNewPrivs:\t1']"
    (kept,) = eval(results[lines[1]].removeprefix("gave "))
    assert int(kept.split()[1], 16) & ~0b110 == 0


def test_the_same_attempts_succeed_where_the_kernel_grants_no_layer(
    taken_over: Attempt, secret: Path, listening: int
) -> None:
    """Shows that it is the layers which refuse them."""
    attempts = [
        f"read({str(secret)!r})", *connects(listening), *ANY_SOCKET,
        *STARTS_PROCESSES[:2], f"os.kill({os.getpid()}, 0)", f"os.stat({str(secret)!r})", "os.listdir('/')",
    ]  # fmt: skip
    results = taken_over(*attempts, without=("namespaces", "landlock", "seccomp"))
    assert list(given(results)) == attempts


@pytest.mark.parametrize("without", [(), ("namespaces", "landlock", "seccomp")])
@pytest.mark.parametrize("name", ["isolated.mp4", "isolated.ts"])
def test_both_readers_decode_with_threads_with_and_without_isolation(
    clips: Any, monkeypatch: pytest.MonkeyPatch, name: str, without: tuple[str, ...]
) -> None:
    """decord reads the MP4, PyAV the transport stream."""
    calls = [call for layer in without for call in REFUSED_FOR[layer]]
    program = "from service.video import child\n" + WITHOUT.format(calls=calls) * bool(calls) + "child.serve_forks()"
    server = ForkServer(python(program))
    monkeypatch.setattr(reader, "FORK_SERVER", server)
    read = clips.read(clips.make(name), DecodeLimits(threads=3))
    server.close()
    assert read.numbers == clips.on_display(np.arange(90) / 30, 5.0, 3.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
def test_root_decodes_a_file_that_only_another_user_may_read(clips: Any, tmp_path: Path) -> None:
    video = shutil.copy(clips.make("constant.mp4"), tmp_path / "private.mp4")
    os.chown(video, 1234, 1234)
    os.chmod(video, 0o600)
    assert len(clips.read(video).frames) == 15


def test_a_file_that_is_gone_and_one_in_memory_are_decoded(clips: Any, tmp_path: Path) -> None:
    content = clips.make("constant.mp4").read_bytes()
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(content)
    memory = os.memfd_create("video")
    os.write(memory, content)
    sampling = Sampling(fps=5.0, max_frames=100, height=96, width=128)
    try:
        with open(gone, "rb") as file:
            gone.unlink()
            for number in (file.fileno(), memory):
                with VideoReader(Path(f"/proc/self/fd/{number}"), sampling) as frames:
                    assert sum(len(chunk.frames) for chunk in frames) == 15
    finally:
        os.close(memory)


def test_a_layer_that_fails_after_its_trial_ends_the_decoder_and_is_logged(
    clips: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = (
        "from service.video import child\n"
        "def fail(isolation):\n"
        "    raise OSError('no more rulesets')\n"
        "child.Isolation.confine = fail\n"
        "child.serve_forks()"
    )
    server = ForkServer(python(program))
    monkeypatch.setattr(reader, "FORK_SERVER", server)
    with pytest.raises(DecoderUnavailable, match="the log says why"):
        clips.read(clips.make("constant.mp4"))
    server.close()
    assert "no more rulesets" in caplog.text


def test_a_missing_library_is_named_and_decoding_goes_on(tmp_path: Path) -> None:
    """As on a system without libseccomp."""
    (tmp_path / "pyseccomp.py").write_text("raise RuntimeError('Unable to find libseccomp')", encoding="utf-8")
    program = "from service.video.isolation import Isolation; print(Isolation().gaps)"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(reader.__file__).parents[2]}"}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert told.strip() == "{'seccomp': 'Unable to find libseccomp'}"
