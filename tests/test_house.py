"""Rules that all files of the repository follow."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LONGEST = 400
KINDS = {".py", ".js", ".css", ".html", ".md"}


def files_of_the_repository() -> list[Path]:
    """Files that git knows or would take in."""
    listing = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is not a git checkout")
    return [path for name in done.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_no_file_is_longer_than_400_lines() -> None:
    counts = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in files_of_the_repository()
        if path.suffix in KINDS
    }
    assert {name: count for name, count in counts.items() if count > LONGEST} == {}, "split them by subject"
