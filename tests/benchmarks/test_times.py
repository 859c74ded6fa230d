from __future__ import annotations

import json
import subprocess
import sys

from tests.support.paths import ROOT


def test_times_that_are_damaged_at_random_come_back() -> None:
    command = [sys.executable, "-m", "benchmarks.times", "--damages", "30", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["damages"] == 30
    assert figures["frames that were not damaged"] > 6000
    assert figures["of them with their true time"] >= 0.99
    assert figures["videos with a frame off by more than the damage"] == 0
