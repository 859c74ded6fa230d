"""A bundle appears when it is whole; what is refused leaves nothing behind and replaces nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.bundle import export_bundle
from export.commands import export
from export.errors import ExportError
from export.placing import written_whole
from models.graph.bundle import Bundle
from models.networks.checkpoint import save_checkpoint
from tests.export.conftest import Exported
from tests.support.disk import no_room
from tests.support.networks import make_lively, tiny_two_stage


@pytest.fixture
def good(small: Exported, tmp_path: Path) -> Path:
    """A bundle in a folder of its own, beside nothing else."""
    (tmp_path / "models").mkdir()
    return Path(shutil.copytree(small.bundle.folder, tmp_path / "models" / "good"))


def write_beside(folder: Path, source: Path) -> None:
    with written_whole(folder) as own:
        for path in source.iterdir():
            (own / path.name).write_bytes(path.read_bytes())


def test_a_bundle_replaces_the_one_before_and_leaves_nothing_else(good: Path, small: Exported) -> None:
    (good / "manifest.json").write_text(
        (good / "manifest.json").read_text().replace('"version": "2"', '"version": "1"')
    )
    assert Bundle.load(good).manifest.version == "1"
    write_beside(good, small.bundle.folder)
    assert Bundle.load(good).manifest.version == "2"
    assert [path.name for path in good.parent.iterdir()] == ["good"]


def test_others_may_read_a_new_bundle_as_they_may_any_folder(tmp_path: Path, small: Exported) -> None:
    write_beside(tmp_path / "new", small.bundle.folder)
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ExportError("refused"), KeyboardInterrupt()])
def test_a_refused_export_leaves_nothing_behind(good: Path, error: BaseException) -> None:
    before = {path.name: path.read_bytes() for path in good.iterdir()}

    def write_half(folder: Path) -> None:
        with written_whole(folder) as own:
            (own / "half.onnx").write_bytes(b"x")
            raise error

    for folder in (good, good.parent / "deep" / "new"):
        with pytest.raises(type(error)):
            write_half(folder)
    assert {path.name: path.read_bytes() for path in good.iterdir()} == before
    assert [path.name for path in good.parent.iterdir()] == ["good"]


@pytest.mark.parametrize("damaged", [True, False])
def test_a_folder_with_other_files_is_refused_before_anything_is_written(good: Path, damaged: bool) -> None:
    if damaged:
        (good / "manifest.json").write_text("{}")
    else:
        (good / "notes.txt").write_text("mine")
    before = sorted(path.name for path in good.iterdir())
    other = "manifest.json" if damaged else "notes.txt"
    with pytest.raises(ExportError, match=rf"good holds '{other}', which is not of a bundle that is whole; name a new"):
        write_beside(good, good)
    assert sorted(path.name for path in good.iterdir()) == before


def test_a_folder_with_other_files_is_refused_by_the_command_in_one_line(small: Exported, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(export, [str(small.checkpoint), str(tmp_path), "--name", "x"])
    assert result.exit_code == 1
    assert result.output == (
        f"Error: {tmp_path} holds 'notes.txt', which is not of a bundle that is whole; name a new folder\n"
    )


def test_a_link_to_a_bundle_stays_a_link(good: Path, small: Exported) -> None:
    link = good.parent / "current"
    link.symlink_to("good")
    write_beside(link, small.bundle.folder)
    assert link.is_symlink()
    assert Bundle.load(link).manifest.name == "small"


def test_a_full_disk_ends_an_export_in_one_line(good: Path) -> None:
    with no_room(), pytest.raises(ExportError, match=r"good cannot be written: File too large$"):
        write_beside(good, good)
    assert [path.name for path in good.parent.iterdir()] == ["good"]
    Bundle.load(good)


def test_an_export_whose_check_fails_keeps_the_bundle_before(
    good: Path, small: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.check.TOLERANCE", -1.0)
    before = (good / "scene_graph.onnx").read_bytes()
    result = CliRunner().invoke(export, [str(small.checkpoint), str(good), "--name", "other"])
    assert result.exit_code == 1
    assert "of its range at batch" in result.output
    assert (good / "scene_graph.onnx").read_bytes() == before
    assert Bundle.load(good).manifest.name == "small"
    assert [path.name for path in good.parent.iterdir()] == ["good"]


@pytest.mark.parametrize("task", ["predcls", "sgcls"])
def test_a_network_for_given_boxes_is_not_exported(tmp_path: Path, task: str) -> None:
    save_checkpoint(tmp_path / "x.pt", make_lively(tiny_two_stage(task=task)), {})
    with pytest.raises(ExportError, match=rf"x\.pt was trained for {task}, on given boxes, but a bundle finds its own"):
        export_bundle(tmp_path / "x.pt", tmp_path / "x", name="x", version="1", description="")
    assert not (tmp_path / "x").exists()
