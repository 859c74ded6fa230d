"""The command line `vsg`.

Its subcommands are listed in pyproject.toml (entry points "vsg.commands") and loaded one at a time, when they run, so
that `vsg serve` never imports torch. The overview takes their summaries from the source files without importing them.
"""

from __future__ import annotations

import ast
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click

GROUP = "vsg.commands"
# An error is a known one when its class stands in a module `errors` of one of these; any other is a bug and shows its
# trace.
_PACKAGES = ("models", "training", "export", "service", "vsg", "benchmarks")
_EXTRA_OF_PACKAGE = {"training": "training", "export": "training", "service": "cpu", "benchmarks": "training"}


class CommandGroup(click.Group):
    """A group that knows the names of its commands, and loads one only to run it."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names in pyproject.toml."""
        return sorted(point.name for point in entry_points(group=GROUP))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Loads one command. Raises ClickException with the pip command when an extra is missing."""
        for point in entry_points(group=GROUP, name=name):
            return _load(point)
        return None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the overview without loading any command."""
        points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
        with formatter.section("Commands"):
            formatter.write_dl([(point.name, summary_of(point)) for point in points])

    def invoke(self, context: click.Context) -> object:
        """Runs the command; a known error becomes one line and exit code 1."""
        try:
            return super().invoke(context)
        except Exception as error:
            if any(_is_known(cls) for cls in type(error).__mro__):
                raise click.ClickException(str(error)) from error
            raise


@click.group(cls=CommandGroup)
@click.version_option(package_name="video-scene-graph")
def main() -> None:
    """Turns videos into scene graphs, and makes the models that do it."""


def _is_known(error: type) -> bool:
    package, _, module = error.__module__.partition(".")
    return package in _PACKAGES and module.rpartition(".")[2] == "errors"


def summary_of(point: EntryPoint) -> str:
    """The first line of a command's docstring, read from its source file; empty where there is none."""
    path = _source_of(point.module)
    if path is None:
        return ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == point.attr)
    documented: ast.FunctionDef | ast.Module = next(functions, tree)
    text = ast.get_docstring(documented) or ""
    return text.partition("\n")[0].rstrip(".")


def _source_of(module: str) -> Path | None:
    # find_spec on a dotted name would import the packages on the way, so only the top-level one is looked up.
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _load(point: EntryPoint) -> click.Command:
    package = point.module.partition(".")[0]
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _EXTRA_OF_PACKAGE or missing == "models":
            raise  # one of our own modules: a bug, not a missing extra
        extra = _EXTRA_OF_PACKAGE[package]
        raise click.ClickException(
            f"`vsg {point.name}` needs {missing}, which is not installed; "
            f"install it with: pip install 'video-scene-graph[{extra}]'"
        ) from error
    if not isinstance(command, click.Command):
        raise TypeError(f"entry point {point.value} of {GROUP!r} is not a click command but {type(command).__name__}")
    return command


if __name__ == "__main__":
    main(prog_name="vsg")
