"""Imported networks are measured within a given time, and what has no row is named."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.imported_speed import EVERYDAY, Step, Table, main, make_oed, steps_of
from benchmarks.speed.measures import Way
from benchmarks.speed.source import Source, open_source
from models.engines import EngineOptions
from models.networks.oed import Oed

EAGER, GRAPHS = Way("torch-cpu"), Way("onnxruntime-cpu")


@pytest.fixture(scope="module")
def oed(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_oed(tmp_path_factory.mktemp("oed"), (64, 96), 2, temporal=True, small=True)


def test_oed_comes_through_the_reader_of_published_files(oed: Source) -> None:
    assert isinstance(oed.network, Oed)
    assert oed.network.config.kept_pairs == (80, 50, 30)
    assert oed.network.config.backbone == "resnet18"
    assert (oed.network.frame_size, oed.network.clip_length) == ((64, 96), 2)


def test_graphs_that_a_folder_holds_are_not_made_again(tmp_path: Path) -> None:
    kept = shutil.copytree(EVERYDAY, tmp_path / "fp16")
    bundle = open_source(str(EVERYDAY), tmp_path).bundle("onnxruntime-cpu", "fp16", EngineOptions(threads=1))
    assert bundle.folder == kept
    assert [path.name for path in tmp_path.iterdir()] == ["fp16"], "nothing was written"


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    result = CliRunner().invoke(main, ["--networks", "oed-temporal,eod"])
    assert result.exit_code == 2
    assert "eod: take some of oed-spatial, oed-temporal, everyday" in result.output


def test_each_row_is_printed_when_it_is_there(oed: Source, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table((1,), 1, 0.0, time.monotonic() + 60)
    table.fill([Step(oed, EAGER)])
    heading, _, *rows = capsys.readouterr().out.splitlines()
    assert heading.startswith("| network | engine | precision | batch | frames/s | times eager")
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| oed-temporal", "torch-cpu", precision, "1"] for precision in ("fp32", "bf16")
    ]
    assert table.notes == []


def test_what_is_not_here_and_what_has_no_time_is_named(oed: Source, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table((1,), 1, 0.0, time.monotonic() + 60)
    table.fill([Step(oed, Way("torch-cpu", "cuda-graphs"))])
    assert table.notes[0].startswith("oed-temporal, torch-cpu+cuda-graphs (fp32): torch-cpu has no CUDA graphs")
    late = Table((1,), 1, 0.0, time.monotonic() + 0.05)
    late.fill([Step(oed, EAGER), Step(oed, GRAPHS)])
    assert late.notes == [
        "oed-temporal, torch-cpu: stopped when the time was up",
        "oed-temporal, onnxruntime-cpu: skipped, no time was left",
    ]
    assert capsys.readouterr().out == "", "neither has a row"


def test_an_engine_that_took_longer_than_there_is_time_is_skipped(oed: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table((1,), 1, 0.0, time.monotonic() + 60)
    table._took[EAGER] = 100.0
    table.fill([Step(oed, EAGER)])
    assert table.notes == ["oed-temporal, torch-cpu: skipped, the last network took 100 s and 60 s were left"]


def test_a_bundle_of_graphs_has_no_rows_of_pytorch_and_is_measured_on_the_cpu_too(oed: Source, tmp_path: Path) -> None:
    everyday = open_source(str(EVERYDAY), tmp_path)
    on_gpu = (GRAPHS, Way("onnxruntime-cuda"), Way("torch-cuda", "compile"), Way("torch-cuda"))
    assert [str(step) for step in steps_of([oed, everyday], on_gpu)] == [
        "oed-temporal, torch-cuda",
        "everyday, onnxruntime-cpu",
        "oed-temporal, onnxruntime-cuda",
        "everyday, onnxruntime-cuda",
        "oed-temporal, torch-cuda+compile",
    ]
