"""`vsg speed`: what is measured, what is listed as missing with its reason, and what the ratios are of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.speed.command import speed
from benchmarks.speed.measures import ROUNDS, count_flops, take_turns
from benchmarks.speed.report import Missing, Report, Row
from benchmarks.speed.source import open_source
from export.errors import ExportError
from models.graph.bundle import Bundle
from models.networks.checkpoint import save_checkpoint
from tests.support.networks import make_lively, tiny, tiny_scored, tiny_two_stage
from tests.support.paths import ROOT

BUNDLE = ROOT / "bundles" / "arn-compact"
"""In fp32; its graphs need no export."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ARN with learned queries, as small as it gets."""
    path = tmp_path_factory.mktemp("small") / "checkpoint.pt"
    plain = {"predicate_association": False, "hierarchical_attention": False, "temporal_attention": False}
    save_checkpoint(path, make_lively(tiny(entity_layers=1, predicate_layers=1, **plain)), {})
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(speed, [*map(str, arguments), "--threads", "1", "--seconds", "0"])


def measured(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def what(report: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(row["engine"], row["precision"], row["batch"]) for row in report["rows"]}


def test_every_engine_precision_and_batch_has_a_row_and_a_checkpoint_is_exported_for_those_that_need_graphs(
    checkpoint: Path, tmp_path: Path
) -> None:
    engines, kept = "onnxruntime-cpu,openvino,torch-cpu", tmp_path / "kept"
    report = measured(checkpoint, "--engines", engines, "--precisions", "int8,fp32", "--batches", "2,1", "--keep", kept)
    able = [("torch-cpu", "fp32")] + [(name, each) for name in engines.split(",")[:2] for each in ("fp32", "int8")]
    assert what(report) == {(*pair, batch) for pair in able for batch in (1, 2)}
    eager = {row["batch"]: row["fps"] for row in report["rows"] if row["engine"] == "torch-cpu"}
    for row in report["rows"]:
        assert row["ratio"] == pytest.approx(row["fps"] / eager[row["batch"]])
        assert row["memory"] is row["share"] is None, "they are of GPUs"
    assert report["missing"] == []
    for precision in ("fp32", "int8"):
        assert Bundle.load(kept / precision).manifest.precision == precision


def test_an_engine_that_does_not_run_here_is_listed_with_its_reason() -> None:
    engines = ["--engines", "onnxruntime-cpu,tensorrt", "--precisions", "fp32,bf16", "--batches", "1"]
    report = measured(BUNDLE, *engines)
    assert {row[:2] for row in what(report) if row[0] != "torch-cuda"} == {
        ("torch-cpu", "fp32"),
        ("onnxruntime-cpu", "fp32"),
    }
    reasons = [(each["precision"], each["reason"]) for each in report["missing"] if each["engine"] == "tensorrt"]
    assert len(reasons) == 1, "where fp32 does not run, the engine is not here"
    assert reasons[0][0] == "fp32"
    assert reasons[0][1].startswith("no TensorRT engine can be built here: ")


def test_an_engine_that_computes_in_nothing_asked_for_is_listed() -> None:
    report = measured(BUNDLE, "--engines", "onnxruntime-cpu", "--precisions", "bf16")
    assert what(report) == {("torch-cpu", "fp32", 1)}
    assert [each["reason"] for each in report["missing"]] == ["onnxruntime-cpu does not compute in bf16"]


def test_pytorch_alone_needs_no_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where neither onnx nor ONNX Runtime is installed; the stage that sees whole videos is not measured."""
    for module in ("export.bundle", "export.onnx"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    checkpoint = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint, make_lively(tiny_scored(tiny_two_stage())), {})
    report = measured(checkpoint, "--engines", "torch-cpu,openvino", "--precisions", "fp32,bf16", "--batches", "1")
    assert what(report) == {("torch-cpu", "fp32", 1), ("torch-cpu", "bf16", 1)}
    (missing,) = report["missing"]
    assert missing["engine"] == "openvino"
    assert "cannot be written without onnx, which is not installed; install it with: pip install" in missing["reason"]


def test_engines_take_turns() -> None:
    said: list[str] = []
    rates = take_turns([lambda name=name: said.append(name) for name in "abc"], seconds=0)  # type: ignore[misc]
    assert "".join(said) == "abc" * ROUNDS
    assert len(rates) == 3


def test_operations_are_those_of_one_frame(checkpoint: Path, tmp_path: Path) -> None:
    source = open_source(str(checkpoint), tmp_path)
    flops = count_flops(source)
    patches = 2 * (64 // 4) ** 2 * (4 * 4 * 3) * 8
    """Of the first convolution: two for each multiply-add, 16x16 patches of 4x4x3 to 8 channels."""
    assert flops is not None
    assert 10 * patches < flops < 1000 * patches


def test_tables_give_ratios_for_a_cpu_and_all_for_a_gpu() -> None:
    cpu = Row("openvino", "int8", False, 1, fps=12.0, ratio=6.0)
    gpu = Row("torch-cuda", "bf16", True, 16, fps=2000.0, ratio=4.0, ceiling=8e14, share=0.25, memory=3 << 30)
    missing = Missing("tensorrt", "fp32", None, "it is not here")
    report = Report("net", 640, 480, 4, 2, 5.0, "a GPU", 1e11, (cpu, gpu), (missing,), stolen=0.0)
    first, second = report.as_markdown().split("net, clips of 4 frames of 640x480, 100.0 GFLOP a frame; ")[1:]
    assert first.startswith("CPU, 2 threads:")
    assert first.rstrip().endswith("| openvino | int8 | 1 | 6.00 |")
    assert second.startswith("a GPU:")
    row, absent = second.split("\n\n- ")
    assert row.endswith("| torch-cuda | bf16 | 16 | 2000 | 4.00 | 25.0% | 3.0 |")
    assert absent == "not here: tensorrt (fp32): it is not here"
    assert "\n\ndisturbed: 31% of the processors' time" in replace(report, stolen=0.31).as_markdown()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engines", "torch"), "--engines has 'torch': choose from onnxruntime-cpu, "),
        (("--precisions", "fp32,int4"), "--precisions has 'int4': choose from fp32, "),
        (("--batches", "1,0"), "--batches is '1,0': give whole numbers from 1 up"),
    ],
)
def test_unknown_engines_precisions_and_batches_are_refused(arguments: tuple[str, str], said: str) -> None:
    result = run("arn-r50", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_keep_refuses_a_folder_that_is_not_empty(checkpoint: Path) -> None:
    result = run(checkpoint, "--keep", BUNDLE)
    assert result.exit_code == 2
    assert "is not empty" in result.output


def test_a_source_must_be_in_fp32(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is in int8; name the fp32 bundle"):
        open_source(str(ROOT / "bundles" / "arn-compact-int8"), tmp_path)
    with pytest.raises(ExportError, match="neither a bundle's folder nor a checkpoint's file nor 'arn-r50'"):
        open_source(str(tmp_path / "nothing"), tmp_path)


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_the_papers_network_runs_four_times_as_fast_as_in_eager_pytorch() -> None:
    arguments = ["arn-r50", "--engines", "onnxruntime-cpu,openvino", "--seconds", "10", "--json"]
    result = CliRunner().invoke(speed, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    ratios = {(row["engine"], row["precision"]): row["ratio"] for row in report["rows"]}
    assert max(ratio for (engine, _), ratio in ratios.items() if engine == "onnxruntime-cpu") >= 2, ratios
    assert max(ratios.values()) >= 4, ratios
