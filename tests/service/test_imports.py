"""Serving must not need torch: neither installed nor imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FORBIDDEN = ("torch", "torchvision", "open_clip", "training", "export", "accelerate", "onnxscript", "cv2")
REFERENCE_ENGINE = ROOT / "models" / "engines" / "torch_engine.py"
"""What `vsg bench --compare torch` compares with; loaded only there."""
SOURCES = sorted((ROOT / "service").rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_of_the_service_imports_what_serving_does_without(path: Path) -> None:
    waiting, seen = [path], {path}
    while waiting:
        here = waiting.pop()
        for module in imported_modules(here):
            assert module.partition(".")[0] not in FORBIDDEN, f"{here} imports {module}"
            # Part of `models` needs torch and part does not, so what is taken from it is followed.
            place = ROOT / Path(*module.split("."))
            source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            if module.startswith("models.") and source not in seen | {REFERENCE_ENGINE}:
                seen.add(source)
                waiting.append(source)


def test_importing_the_whole_service_loads_nothing_forbidden() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        # The decoder process configures itself when it starts; it is never imported.
        if path.name not in ("child.py", "__main__.py")
    ]
    loaded = run(
        f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\nprint(*sys.modules)"
    ).split()
    assert not {name.partition(".")[0] for name in loaded} & set(FORBIDDEN)


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["graph", "--help"], ["bench", "--help"]])
def test_help_loads_nothing_forbidden(arguments: list[str]) -> None:
    code = f"""
import sys
from service.command_line import main
main({arguments!r}, standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240, check=True
    )
    assert not {name.partition(".")[0] for name in done.stderr.split()} & set(FORBIDDEN)


def test_the_overview_loads_no_command() -> None:
    code = """
import sys
from service.command_line import main
main(["--help"], standalone_mode=False)
print([name for name in sys.modules if ".commands" in name or name.startswith(("fastapi", "numpy"))])
"""
    assert run(code).splitlines()[-1] == "[]"
