"""The benchmark of GET /search, with a small archive."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.asking import main
from benchmarks.search import make_archive
from service.archive.folder import ArchiveFolder


def test_clients_ask_a_real_service_and_every_search_is_answered(tmp_path: Path) -> None:
    make_archive(ArchiveFolder(tmp_path / "archive"), 20)
    done = CliRunner().invoke(main, [str(tmp_path / "archive"), "--clients", "2", "--searches", "3"])
    figures = json.loads(done.output.splitlines()[0])
    assert (figures["clients"], figures["searches"]) == (2, 6)
    assert 0 < figures["p50"] <= figures["p95"]
    assert (done.exit_code == 0) == (figures["p95"] <= 1.0), "it fails where it is over its limit"
