"""docs/search.md shows what its commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.archive.folder import ArchiveFolder
from service.commands.batch import batch
from service.commands.find import find
from service.search.moments import Moment, find_moments, words_of
from service.search.queries import parse
from service.search.words import LABEL_GROUPS
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "search.md").read_text()
EXAMPLES = [
    [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.partition("<!-- examples -->")[2].partition("<!-- end of examples -->")[0].splitlines()[3:]
]
SCORES = re.compile(r"\(([\d.]+)\)")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first documented command was run."""
    folder = tmp_path_factory.mktemp("search")
    for name in ("docs", "bundles"):
        (folder / name).symlink_to(ROOT / name)
    command = next(line for line in TEXT.splitlines() if line.startswith("vsg batch "))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(batch, shlex.split(command)[2:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder


def run_in(place: Path, command: str) -> Result:
    """Runs a documented `vsg find`."""
    words = shlex.split(command)
    assert words[:2] == ["vsg", "find"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return CliRunner().invoke(find, words[2:])


def as_documented(moment: Moment) -> str:
    """A moment as the table of examples has it."""
    named = ((name, ids if isinstance(ids, tuple) else (ids,)) for name, ids in moment.objects.items())
    objects = ", ".join(f"{name} {' and '.join(map(str, ids))}" for name, ids in named)
    return f"{moment.start:g} to {moment.end:g} s{': ' if objects else ''}{objects} ({moment.score:.2f})"


def test_there_are_twenty_examples() -> None:
    assert len(EXAMPLES) == 20
    assert all(question.endswith("?") for question, _, _ in EXAMPLES)


def test_examples_have_the_answers_of_the_archive(place: Path) -> None:
    archive = ArchiveFolder(place / "archive")
    words = words_of(archive)
    for _, query, shown in EXAMPLES:
        moments = find_moments(archive, parse(query.strip("`"), words)).moments
        found = [as_documented(moment) for moment in moments] or ["none"]
        expected = shown.split("<br>")
        # Scores differ a little between processors, and with them the order of moments.
        assert sorted(SCORES.sub("", one) for one in found) == sorted(SCORES.sub("", one) for one in expected), query
        for one in found:
            like = [other for other in expected if SCORES.sub("", other) == SCORES.sub("", one)]
            scores = [[float(score) for score in SCORES.findall(text)] for text in (one, like[0])]
            assert scores[0] == pytest.approx(scores[1], abs=0.03), query


def test_documented_commands_run(place: Path) -> None:
    commands = [line for line in TEXT.splitlines() if line.startswith("vsg find ")]
    assert len(commands) >= 4
    for command in commands:
        done = run_in(place, command)
        assert done.exit_code == 0, done.output
    assert (place / "clips" / "puppets_0-9.5s.mp4").exists()


def test_the_documented_error_is_the_one_that_comes(place: Path) -> None:
    begin, error = re.search(r"^\$ (vsg find .*)\n((?:.+\n)+?)```", TEXT, re.MULTILINE).groups()
    done = run_in(place, begin)
    assert done.exit_code == 1
    assert done.output == error


def test_documented_groups_of_labels_are_those_of_the_code() -> None:
    table = TEXT.partition("<!-- groups -->")[2].partition("<!-- end of groups -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert {name: tuple(labels.split(", ")) for name, labels in rows} == LABEL_GROUPS
