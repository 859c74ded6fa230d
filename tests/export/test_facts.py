"""An edited manifest is noticed by its files, or by the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from export.commands import check
from tests.export.conftest import Exported
from tests.support.paths import ROOT

Manifest = dict[str, Any]


def edited(exported: Exported, folder: Path, edit: Callable[[Manifest], Any]) -> Path:
    """A copy of the bundle whose manifest is edited by hand."""
    shutil.copytree(exported.bundle.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def set_at(*path: str | int, value: Any) -> Callable[[Manifest], None]:
    def edit(manifest: Manifest) -> None:
        node: Any = manifest
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value

    return edit


def swap_predicates(manifest: Manifest) -> None:
    predicates = manifest["vocabulary"]["groups"][1]["predicates"]
    predicates[0], predicates[1] = predicates[1], predicates[0]


def complaint(result: Any) -> str:
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.output.endswith(f"{line}\n"), "and nothing behind it"
    return str(line)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_at("frame_size", "width", value=128), "frame_size is 128x64, but stage 'detector' takes frames of 64x64"),
        (
            set_at("stages", 0, "outputs", 0, "dtype", value="float32"),
            "'detector': the manifest describes output 'pair_mask' as float32 [4], but detector.onnx has bool [4]",
        ),
        (
            set_at("stages", 1, "inputs", 0, "name", value="colour"),
            "stage 'relations': the manifest describes input 'colour' as",
        ),
        (lambda manifest: manifest["stages"][0]["outputs"].pop(), "as None, but detector.onnx has float32"),
        (lambda manifest: manifest["stages"].insert(0, manifest["stages"].pop(1)), "which no stage before it makes"),
        (set_at("frame_size", value="large"), "manifest.json: frame_size"),
        (set_at("colour", value="red"), "manifest.json: colour is not a known name"),
    ],
)
def test_a_manifest_that_does_not_describe_its_files_is_refused_in_one_line(
    scored_sttran: Exported, tmp_path: Path, edit: Callable[[Manifest], Any], message: str
) -> None:
    folder = edited(scored_sttran, tmp_path / "edited", edit)
    assert message in complaint(CliRunner().invoke(check, [str(folder)]))


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (set_at("clip_length", value=2), "clip_length"),
        (swap_predicates, "vocabulary"),
        (set_at("family", value="two_stage"), "family"),
        (set_at("training", "network", "queries", value=6), "training.network"),
    ],
)
def test_a_manifest_that_says_other_things_than_the_checkpoint_is_refused_in_one_line(
    small: Exported, tmp_path: Path, edit: Callable[[Manifest], Any], field: str
) -> None:
    folder = edited(small, tmp_path / "edited", edit)
    assert CliRunner().invoke(check, [str(folder)]).exit_code == 0, "the files alone cannot tell"
    said = complaint(CliRunner().invoke(check, [str(folder), "--checkpoint", str(small.checkpoint)]))
    assert said == f"Error: the manifest has another {field} than the checkpoint; export again"


def test_what_an_operator_may_set_is_not_held_against_a_manifest(small: Exported, tmp_path: Path) -> None:
    folder = edited(small, tmp_path / "edited", set_at("thresholds", "object_score", value=0.4))
    result = CliRunner().invoke(check, [str(folder), "--checkpoint", str(small.checkpoint)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("folder", sorted((ROOT / "bundles").iterdir()), ids=lambda folder: folder.name)
def test_the_manifests_of_the_bundled_models_describe_their_files(folder: Path) -> None:
    result = CliRunner().invoke(check, [str(folder)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_manifest_is_refused_in_one_line(small: Exported, tmp_path: Path, content: str) -> None:
    folder = edited(small, tmp_path / "edited", lambda manifest: None)
    (folder / "manifest.json").write_text(content)
    assert "manifest.json" in complaint(CliRunner().invoke(check, [str(folder)]))
