"""The plan of an ablation study: a YAML file that names every variant once, and the tables that compare them."""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from models.graph.validation import in_words
from training.data.action_genome import read_vocabulary
from training.errors import ConfigurationError, unknown_name
from training.evaluation import CONSTRAINTS, RECALL_AT

TOLD_BY_VIDEO: Final = "video/AP"
"""Average precision of relation scores on pairs that only the whole video tells (Puppet Genome)."""
METRICS: Final = tuple(f"{name}@{k}" for name in ("R", "mR", "P") for k in RECALL_AT)
MEASURES: Final = (*(f"{constraint}/{metric}" for constraint in CONSTRAINTS for metric in METRICS), TOLD_BY_VIDEO)
PREDICATE_SETS: Final = ("tail_third", "motion")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Row:
    """One variant.

    config: the training configuration; None where `weights_of` names another row.
    set: dotted keys that win over the configuration's, as `vsg train --set` takes them.
    start: the row whose checkpoint of the same seed this one starts from.
    weights_of: the row whose network this one scores in another way, instead of training one.
    calibrated: chooses on the validation videos how scores join, as `vsg calibrate` does.
    ranks: false to leave relation scores out of the product.
    """

    config: Path | None = None
    set: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    weights_of: str | None = None
    calibrated: bool = False
    ranks: bool = True

    @property
    def needs(self) -> str | None:
        """The row that must be finished before this one."""
        return self.start or self.weights_of

    def __post_init__(self) -> None:
        if (self.config is None) == (self.weights_of is None) or (self.weights_of and (self.set or self.start)):
            raise ConfigurationError("a row has either `config`, with `set` and `start`, or `weights_of`")
        decided = {"seed": "`seeds` decides", "output": "`output` and the row's name decide"}
        if self.start is not None:
            decided["initialise_from"] = "`start` decides"
        for key, who in decided.items():
            if key in self.set:
                raise ConfigurationError(f"`set` of a row has {key!r}, which {who}; take it out")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Table:
    """Rows that are compared, and the measures of the comparison.

    claim: the paper's claim, in one sentence.
    measures: some of `MEASURES`.
    compare: pairs of this table's rows; the second minus the first is reported.
    predicates: the predicates that mR is the mean over: names; `tail_third`, the rarest in training; `motion`, those
        that Puppet Genome tells by motion; None for all.
    changed: true to give differences by how much of a video changes as well.
    note: Markdown below the table.
    """

    title: str
    claim: str
    measures: tuple[str, ...]
    rows: tuple[str, ...]
    compare: tuple[tuple[str, str], ...] = ()
    predicates: str | tuple[str, ...] | None = None
    changed: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        place = f"table {self.title!r}"
        for measure in self.measures:
            if measure not in MEASURES:
                raise ConfigurationError(
                    f"{place}: measure {measure!r} is unknown; write CONSTRAINT/NAME@K with {', '.join(CONSTRAINTS)}; "
                    f"R, mR, P; and {', '.join(map(str, RECALL_AT))}; or {TOLD_BY_VIDEO}"
                )
        if isinstance(self.predicates, str) and self.predicates not in PREDICATE_SETS:
            raise ConfigurationError(
                f"{place}: predicates is {self.predicates!r}; give a list of names, or {' or '.join(PREDICATE_SETS)}"
            )
        for name in (name for pair in self.compare for name in pair):
            if name not in self.rows:
                raise ConfigurationError(f"{place} compares {name!r}, which is not among its rows; add it there")
        if self.changed and not self.compare:
            raise ConfigurationError(f"{place}: `changed` shows differences, so `compare` must name the rows")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Plan:
    """An ablation study. Paths are relative to where `vsg ablate` is run.

    test: data folder whose test split is scored.

    Raises ConfigurationError naming an unknown row or predicate, a circle of `start`, or two rows that would share a
    folder; DataError where the test folder's vocabulary cannot be read.
    """

    name: str
    test: Path
    seeds: tuple[int, ...]
    output: Path
    report: Path
    rows: dict[str, Row]
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"seeds is {list(self.seeds)}: give one or more, each once")
        folders: dict[str, str] = {}
        for name, row in self.rows.items():
            other = folders.setdefault(slug(name), name)
            if other != name or not slug(name):
                raise ConfigurationError(
                    f"rows {other!r} and {name!r} would share the folder {slug(name)!r}; rename one"
                )
            self._require_row(row.needs, f"row {name!r} starts from")
            if row.weights_of is not None and self.rows[row.weights_of].config is None:
                raise ConfigurationError(f"row {name!r} has weights_of {row.weights_of!r}, which trains nothing")
            self._require_end(name)
        known = read_vocabulary(self.test).predicate_index
        for table in self.tables:
            for wanted in table.rows:
                self._require_row(wanted, f"table {table.title!r} names")
            for predicate in table.predicates if isinstance(table.predicates, tuple) else ():
                if predicate not in known:
                    raise ConfigurationError(f"table {table.title!r}: {unknown_name('predicate', predicate, known)}")

    def in_order(self, only: tuple[str, ...] = ()) -> list[str]:
        """Returns rows, each after the one it starts from.

        only: titles of tables and names of rows; the rows that they start from are added.

        Raises ConfigurationError for any other name.
        """
        wanted = [row for name in only for row in self.named(name)] if only else list(self.rows)
        ordered: dict[str, None] = {}
        for name in wanted:
            ordered.update(dict.fromkeys(reversed(self._line(name))))
        return list(ordered)

    def named(self, name: str) -> tuple[str, ...]:
        """Returns the rows of the table of that title, or the row of that name.

        Raises ConfigurationError where there is none.
        """
        if name in self.rows:
            return (name,)
        for table in self.tables:
            if table.title == name:
                return table.rows
        known = [*(table.title for table in self.tables), *self.rows]
        raise ConfigurationError(f"{name!r} is neither a table nor a row of the plan; these are: {', '.join(known)}")

    def folder(self, row: str, seed: int) -> Path:
        """The folder of a run's checkpoint and figures."""
        return self.output / slug(row) / f"seed-{seed}"

    def _line(self, name: str) -> list[str]:
        """Returns a row, the one it starts from, and so on."""
        line = [name]
        while (start := self.rows[line[-1]].needs) is not None:
            line.append(start)
        return line

    def _require_row(self, name: str | None, whose: str) -> None:
        if name is not None and name not in self.rows:
            raise ConfigurationError(f"{whose} the row {name!r}, which `rows` lacks; it has: {', '.join(self.rows)}")

    def _require_end(self, name: str) -> None:
        """Raises ConfigurationError where following `start` comes back to a row."""
        line = [name]
        while (start := self.rows[line[-1]].needs) in self.rows:
            if start in line:
                raise ConfigurationError(f"rows start from each other in a circle: {' -> '.join([*line, start])}")
            line.append(start)


def slug(name: str) -> str:
    """Returns a row's name as the name of a folder: `STTran + RS-Net` gives `sttran-rs-net`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def load_plan(path: Path) -> Plan:
    """Reads a plan. Raises ConfigurationError naming the file and what is wrong."""
    try:
        return TypeAdapter(Plan).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {in_words(error, 'the plan')}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
