"""Importing loads no more than is used, and never torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import vsg
from tests.support.paths import ROOT

CLIP = ROOT / "docs" / "puppets.mp4"


def run(code: str, folder: Path) -> str:
    """Runs a program in a folder outside the checkout, and gives its output; it must print no warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def loaded_after(code: str, folder: Path) -> set[str]:
    """The top-level packages that a program has loaded in the end."""
    return {name.partition(".")[0] for name in run(f"{code}\nimport sys\nprint(*sys.modules)", folder).split()}


def test_the_package_alone_loads_nothing_else(tmp_path: Path) -> None:
    assert not loaded_after("import vsg", tmp_path) & {"httpx", "pydantic", "numpy", "models", "service"}


def test_the_client_loads_neither_service_nor_engine(tmp_path: Path) -> None:
    loaded = loaded_after("from vsg import AsyncClient, Client, ProblemError", tmp_path)
    assert "httpx" in loaded
    assert not loaded & {"service", "numpy", "onnxruntime", "fastapi", "torch", "training", "export"}


def test_three_lines_make_a_graph_from_any_folder_without_torch(tmp_path: Path) -> None:
    code = f"""
from vsg import open_model
graph = open_model({str(ROOT / "bundles" / "arn-compact")!r})({str(CLIP)!r})
print(graph.prompt)
import sys
print(sorted({{"torch", "torchvision", "training", "export", "fastapi"}} & sys.modules.keys()))
"""
    *prompt, loaded = run(code, tmp_path).splitlines()
    assert prompt[0].startswith("The following was read from a 10-second video")
    assert loaded == "[]"


def test_everything_that_is_exported_is_there() -> None:
    assert all(getattr(vsg, name).__name__ == name for name in vsg.__all__)
    assert set(vsg.__all__) <= set(dir(vsg))
    assert not hasattr(vsg, "nothing")
