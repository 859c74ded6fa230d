"""Serving and the command line load nothing that they can do without. import-linter checks the rest (`make check`)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

OF_ARCHIVES = {"duckdb", "lark", "pyarrow", "ray"}
FORBIDDEN = {"torch", "torchvision", "open_clip", "training", "export", "accelerate", "onnxscript", "cv2"}
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "service").rglob("*.py"))
    if path.name != "__main__.py"
]


def loaded_by(code: str) -> set[str]:
    """Runs code in a fresh interpreter, and returns the names of the modules that it loads."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_whole_service_loads_nothing_forbidden() -> None:
    loaded = loaded_by(f"import importlib\nfor name in {MODULES!r}: importlib.import_module(name)")
    assert set(MODULES) <= loaded
    assert not packages(loaded) & FORBIDDEN


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["graph", "--help"], ["bench", "--help"]])
def test_help_loads_nothing_forbidden(arguments: list[str]) -> None:
    loaded = loaded_by(f"from service.command_line import main\nmain({arguments!r}, standalone_mode=False)")
    assert not packages(loaded) & (FORBIDDEN | OF_ARCHIVES)


def test_the_overview_loads_no_command() -> None:
    loaded = loaded_by("from service.command_line import main\nmain(['--help'], standalone_mode=False)")
    assert not [name for name in loaded if ".commands" in name]
    assert not packages(loaded) & {"fastapi", "numpy"}
