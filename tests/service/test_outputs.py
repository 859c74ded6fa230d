"""Files that commands write, by subprocess: what cannot be written is said in one line, before any work."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.service.test_command_line import assert_one_line, vsg

COMMANDS = (("graph", "x.json"), ("graph", "x.coco.json"), ("render", "x.mp4"), ("render", "x.png"))


@pytest.fixture(params=COMMANDS, ids=[f"{command} {name}" for command, name in COMMANDS])
def command(request: pytest.FixtureRequest, long_clip: Path, tiny_bundle: Path) -> tuple[list[str | Path], str]:
    """The words of a command without its output, and the name of one."""
    name, output = request.param
    words: list[str | Path] = [name, long_clip, "--bundle", tiny_bundle, "--fps", "60"]
    return [*words, *(["--at", "1"] if output.endswith(".png") else []), "-o"], output


def test_a_folder_that_is_not_there_is_said_before_any_work(
    command: tuple[list[str | Path], str], tmp_path: Path
) -> None:
    words, name = command
    began = time.monotonic()
    assert_one_line(vsg(*words, tmp_path / "none" / name), f"there is no folder {tmp_path / 'none'}", "choose another")
    (tmp_path / "file").touch()
    assert_one_line(vsg(*words, tmp_path / "file" / name), "Error: ", "there is no folder")
    assert_one_line(vsg(*words, tmp_path / ("x" * 300 + name)), "cannot be written, file name too long")
    assert time.monotonic() - began < 60
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_said_in_one_line(clip: Path, tiny_bundle: Path) -> None:
    done = vsg("graph", clip, "--bundle", tiny_bundle, "-o", "/dev/full")
    assert_one_line(done, "/dev/full cannot be written, no space left on device")


def test_a_device_is_written_and_not_replaced(clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe.json")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert vsg("graph", clip, "--bundle", tiny_bundle, "-o", pipe).returncode == 0
        assert os.read(reader, 100).startswith(b'{"id":')
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert vsg("graph", clip, "--bundle", tiny_bundle, "-o", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_what_a_link_leads_to_is_written(clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (link := tmp_path / "link.json").symlink_to(tmp_path / "there" / "graph.json")
    for _ in range(2):
        assert vsg("graph", clip, "--bundle", tiny_bundle, "-o", link).returncode == 0
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["graph.json"]
