from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.search import MOST_MEGABYTES, QUESTIONS, RELATIONS_OF_A_VIDEO
from service.archive.folder import ArchiveFolder
from service.archive.reading import read_table
from tests.support.paths import ROOT


def test_a_small_archive_is_made_and_searched(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.search", str(tmp_path / "archive"), "--videos", "500", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    figures = json.loads(done.stdout)
    is_slow = any(figures[question.kind]["milliseconds"] > question.most for question in QUESTIONS)
    assert done.returncode == int(is_slow), done.stderr
    assert figures["videos"] == 500
    assert 0 < figures["megabytes"] < MOST_MEGABYTES
    assert all(figures[question.kind]["moments"] > 0 for question in QUESTIONS[:2])
    archive = ArchiveFolder(tmp_path / "archive")
    assert read_table(archive, "videos").num_rows == 500
    assert read_table(archive, "relations").num_rows == 500 * RELATIONS_OF_A_VIDEO
