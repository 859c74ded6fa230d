from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.errors import BenchError
from benchmarks.service.processes import PeakMemory, cpu_seconds
from benchmarks.stolen_time import StolenTime
from service.command_line import main
from tests.support.paths import ROOT


def bench(*arguments: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["bench", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_part_is_measured_with_the_same_frames(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    report = bench(tiny_bundle, clip, "--fps", "5", "--clients", "1,3", "--videos", "2", "--plot", tmp_path / "x.png")
    assert (report["model"], report["engine"], report["precision"]) == ("tiny", "onnxruntime-cpu", "fp32")
    assert [report[part]["frames"] for part in ("offline", "decode", "engine_only")] == [10, 10, 30]
    one, three = report["http"]
    assert (one["clients"], one["frames"]) == (1, 20)
    assert (three["clients"], three["frames"]) == (3, 60)
    assert len(three["latencies"]) == 6
    assert 0 < three["latency_p50"] <= three["latency_p95"]
    assert sum(three["batch_sizes"]["brightness"].values()) == 18
    assert 0 < three["busy"] <= 1
    assert 50 < one["peak_memory_mib"] < 2000
    ratios = report["ratios"]
    assert ratios["http_3_to_engine_only"] == pytest.approx(three["fps"] / report["engine_only"]["fps"], abs=1e-3)
    assert ratios["http_3_to_http_1"] == pytest.approx(three["fps"] / one["fps"], abs=1e-3)
    assert (tmp_path / "x.png").stat().st_size > 5000


def test_a_stub_batches_the_frames_of_all_clients(tiny_bundle: Path, clip: Path) -> None:
    report = bench(tiny_bundle, clip, "--stub", "20", "--fps", "5", "--clients", "6", "--only", "http")
    assert report["engine"] == "stub"
    (load,) = report["http"]
    assert load["frames"] == 120
    # Alone each video would take ten runs.
    assert sum(load["batch_sizes"]["stub"].values()) < 90
    assert "engine_only" not in report


def test_pytorch_is_measured_on_the_same_model(tiny_bundle: Path, clip: Path) -> None:
    bundle = ROOT / "bundles" / "arn-compact"
    report = bench(bundle, clip, "--only", "engine", "--compare", "torch", "--clients", "1")
    assert report["torch"]["frames"] == report["engine_only"]["frames"] == 4
    assert report["torch"]["weights"] == "random"
    assert report["ratios"]["engine_only_to_torch"] > 0


def test_without_json_a_table_is_printed(tiny_bundle: Path, clip: Path) -> None:
    done = CliRunner().invoke(main, ["bench", str(tiny_bundle), str(clip), "--only", "offline", "--only", "decode"])
    assert done.exit_code == 0, done.output
    for word in ("decoding alone", "offline", "frames / s"):
        assert word in done.output


def test_time_stolen_by_the_host_is_reported(tiny_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StolenTime, "__exit__", lambda stolen, *_: setattr(stolen, "share", 0.314))
    arguments = ["bench", str(tiny_bundle), str(clip), "--only", "decode"]
    assert "disturbed: 31% of the processors' time" in " ".join(CliRunner().invoke(main, arguments).output.split())
    assert json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)["stolen"] == 0.314


def test_clients_must_be_numbers(tiny_bundle: Path, clip: Path) -> None:
    done = CliRunner().invoke(main, ["bench", str(tiny_bundle), str(clip), "--clients", "1,many"])
    assert done.exit_code == 2
    assert "1,many" in done.output


def test_a_service_that_does_not_start_is_shown_with_its_reason(
    tiny_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.service.server import serving

    with (
        pytest.raises(BenchError, match="VSG_NONSENSE is not a setting"),
        serving(tiny_bundle, {"NONSENSE": "1"}, streams=1),
    ):
        pass


def test_memory_of_children_counts() -> None:
    with PeakMemory() as alone:
        pass
    with PeakMemory() as together:
        subprocess.run([sys.executable, "-c", "x = b'x' * (100 * 2**20); import time; time.sleep(0.5)"], check=True)
    assert together.mebibytes > alone.mebibytes + 90


def test_processor_time_of_children_counts_where_it_is_asked_for() -> None:
    own, all_ = cpu_seconds(), cpu_seconds(with_children=True)
    subprocess.run([sys.executable, "-c", "for _ in range(10_000_000): pass"], check=True)
    assert cpu_seconds(with_children=True) - all_ > 0.2
    assert cpu_seconds() - own < 0.2
