"""The documents say what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo

import service.search.errors  # noqa: F401 - the test of errors asks for all that there are
from models.graph.validation import accepted_values
from service.command_line import main
from service.errors import RequestError, ServiceError, SetupError
from service.metrics import Metrics
from service.options import RequestOptions
from service.prompt import DEFAULT_FORM, FORMS
from service.settings import ENV_PREFIX, Settings, variable_of
from service.video.errors import VideoError
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
TEXT = (DOCS / "errors.md").read_text()
ROWS = {line for path in DOCS.glob("*.md") for line in path.read_text().splitlines() if line.startswith("|")}


def errors_below(root: type[ServiceError]) -> set[type[ServiceError]]:
    """The class and all that derive from it, of whatever package of the service."""
    return {root}.union(*map(errors_below, root.__subclasses__()))


def default_of(field: FieldInfo) -> str:
    """The default of an option or a setting as a table shows it."""
    if field.default in (None, "", ()):
        return ""
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default:.15g}`" if isinstance(field.default, float) else f"`{field.default}`"


def test_every_error_that_a_caller_can_get_is_listed_with_its_status() -> None:
    listed = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", TEXT, re.MULTILINE))
    # Bases that are never raised themselves, and errors of the command line.
    unseen = (RequestError, VideoError)
    raised = {
        (str(error.status), error.code)
        for error in errors_below(ServiceError)
        if error not in unseen and not issubclass(error, SetupError)
    }
    assert listed == raised


def test_every_option_is_listed_as_it_is_declared() -> None:
    for name, field in RequestOptions.model_fields.items():
        values = accepted_values(RequestOptions, name)
        assert f"| `{name}` | {field.description} | {values} | {default_of(field)} |" in ROWS


def test_every_setting_is_listed_as_it_is_declared() -> None:
    for name, field in Settings.model_fields.items():
        assert f"| `{variable_of(name)}` | {field.description} | {default_of(field)} |" in ROWS
    listed = {found[1].lower() for row in ROWS if (found := re.match(rf"\| `{ENV_PREFIX}(\w+)` \| ", row))}
    assert listed == set(Settings.model_fields)


def test_the_default_form_of_the_prompt_is_the_one_that_states_most_within_200_tokens() -> None:
    study = (DOCS / "prompt.md").read_text()
    rows = re.findall(r"^\| 200 \| `(\w+)` \| (.*) \|$", study, re.MULTILINE)
    assert {form for form, _ in rows} == set(FORMS)
    # Most true events over all graphs; of equals the one with the fewest false ones.
    counts = {form: [tuple(map(int, cell.split(" / "))) for cell in cells.split(" | ")] for form, cells in rows}
    best = max(
        counts, key=lambda form: (sum(true for true, _ in counts[form]), -sum(false for _, false in counts[form]))
    )
    assert best == DEFAULT_FORM


def test_every_metric_is_listed_with_its_kind_and_labels() -> None:
    text = (DOCS / "metrics.md").read_text()
    listed = {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(vsg_\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE)
    }
    meters = [meter for meter in vars(Metrics()).values() if isinstance(meter, MetricWrapperBase)]
    assert listed == {(meter._name, meter._type, meter._labelnames) for meter in meters}


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_documented_commands_exist_with_their_options_and_files(path: Path) -> None:
    text = path.read_text()
    lines = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?(vsg [^|>\n]*)", text, re.MULTILINE) + re.findall(
        r"`(vsg [^`]*)`", text
    )
    for line in lines:
        command: click.Command = main
        for word in shlex.split(line, comments=True)[1:]:
            if isinstance(command, click.Group) and not word.startswith("-"):
                found = command.get_command(click.Context(command), word)
                assert found is not None, line
                command = found
            elif word.startswith("-"):
                known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
                assert word.partition("=")[0] in known | {"--help", "--version"}, line
            elif word.startswith(("training/", "docs/")):
                # A step of docs/new_model.md copies its configuration there.
                copied = ROOT / "examples" / "new_network" / Path(word).name
                assert (ROOT / word).exists() or copied.exists(), line
