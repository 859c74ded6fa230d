"""The command line `vsg`.

pyproject.toml lists its subcommands (entry points "vsg.commands"). Each is imported only when it runs, so that `vsg
serve` never imports torch. The overview reads their summaries from the source files.
"""

from __future__ import annotations

import ast
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click

GROUP = "vsg.commands"
# Errors from a module `errors` of one of these packages become one line. Any other error is a bug and shows its trace.
_PACKAGES = ("models", "training", "export", "service", "vsg", "benchmarks")
_EXTRAS = {
    "service.commands.archive": "archive",
    "service.commands.batch": "archive",
    "service.commands.find": "archive",
    "training": "training",
    "export": "training",
    "service": "cpu",
    "benchmarks.speed": "training",
    "benchmarks.service": "cpu",
}
"""The extra of pyproject.toml that a command, or the commands of a package, need; the first that fits."""


class CommandGroup(click.Group):
    """A group that imports a command only to run it."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Lists the commands in pyproject.toml whose packages are installed; images leave some out."""
        return [point.name for point in _installed()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Imports a command. Raises ClickException with the pip command where an extra is missing."""
        for point in _installed():
            if point.name == name:
                return _load(point)
        return None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the overview without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(point.name, summary_of(point)) for point in _installed()])

    def invoke(self, context: click.Context) -> object:
        """Runs the command. A known error becomes one line and exit code 1."""
        try:
            return super().invoke(context)
        except Exception as error:
            if any(_is_known(cls) for cls in type(error).__mro__):
                raise click.ClickException(str(error)) from error
            raise


@click.group(cls=CommandGroup)
@click.version_option(package_name="video-scene-graph")
def main() -> None:
    """Turn videos into scene graphs, and make the models that do it."""


def _installed() -> list[EntryPoint]:
    """The commands that are here, sorted by name."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return [point for point in points if _source_of(point.module) is not None]


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
    # find_spec of a dotted name would import its parents, so only the top-level package is looked up.
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _PACKAGES:
            raise  # one of our own modules: a bug, not a missing extra
        extra = next(extra for package, extra in _EXTRAS.items() if point.module.startswith(package))
        raise click.ClickException(
            f"`vsg {point.name}` needs {missing}, which is not installed: "
            f"install it with: pip install 'video-scene-graph[{extra}]'"
        ) from error
    if not isinstance(command, click.Command):
        raise TypeError(f"entry point {point.value} of {GROUP!r} is not a click command but {type(command).__name__}")
    return command


if __name__ == "__main__":
    main(prog_name="vsg")
