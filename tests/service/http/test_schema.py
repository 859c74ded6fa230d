"""The service does what its OpenAPI schema says: schemathesis finds nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.keys import new_key
from tests.conftest import Server
from tests.service.test_keys import write_keys
from tests.support.paths import ROOT

CONFIGURATION = """
[[operations]]
include-name = "POST /videos"
# A schema cannot say that an option may not stand in body and query, that `start` is before `end`, which models there
# are and where the video ends.
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 409, 415, 422, 424, 429]

[[operations]]
include-name = "GET /search"
# Nor which texts are queries, and whether there is an archive.
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 422]

[[operations]]
include-name = "POST /rules"
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 409, 422]
"""
ALL_CHECKS = ("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful")


def run_schemathesis(server: Server, folder: Path, clip: Path, *arguments: str) -> int:
    """Runs schemathesis against a service; returns how many requests it has made. Fails the test when it finds
    something.
    """
    configuration = folder / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    # No file of a project: nothing is read or left in the checkout.
    command: list[str | Path] = [sys.executable, "-m", "schemathesis.cli", "--config-file", configuration, "run"]
    settings = ["--seed", "1", "--generation-database", "none", "--request-timeout", "120", "--no-color"]
    environment = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.service.http.schemathesis_hooks"}
    done = subprocess.run(
        [*command, f"{server.url}/openapi.json", *settings, *arguments],
        cwd=folder,
        env=os.environ | environment | {"CLIP": str(clip)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (requests,) = re.findall(r"(\d+) generated", done.stdout)
    return int(requests)


def test_schemathesis_finds_nothing(start_server: Callable[..., Server], tmp_path: Path, clip: Path) -> None:
    server = start_server(archive=str(tmp_path / "archive"), keep_frames=1)
    assert run_schemathesis(server, tmp_path, clip, *ALL_CHECKS, "--max-examples", "30") > 400


def test_schemathesis_finds_no_operation_that_forgets_its_key(
    start_server: Callable[..., Server], tmp_path: Path, clip: Path
) -> None:
    key = new_key()
    server = start_server(keys=write_keys(tmp_path / "keys", alice=key))
    server.client.headers["authorization"] = f"Bearer {key}"
    bearer = ("--header", f"Authorization: Bearer {key}")
    assert run_schemathesis(server, tmp_path, clip, *bearer, "--checks", "ignored_auth", "--phases", "coverage") > 100


@pytest.mark.bench
def test_schemathesis_finds_nothing_in_a_long_run(
    start_server: Callable[..., Server], tmp_path: Path, clip: Path
) -> None:
    assert run_schemathesis(start_server(), tmp_path, clip, *ALL_CHECKS, "--max-examples", "300") > 4000
