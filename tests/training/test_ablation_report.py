"""The report of an ablation study against figures written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.graph.vocabulary import ACTION_GENOME
from training.ablation.figures import RunFigures, Scores, write_figures
from training.ablation.plan import Plan, Row, Table
from training.ablation.report import estimate, report, tail_third
from training.errors import ConfigurationError
from training.evaluation import CONSTRAINTS, RECALL_AT

PREDICATES = ACTION_GENOME.predicates


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Plan]:
    """A plan of two rows, the second of which starts from the first; arguments are its table's."""

    def plan(seeds: tuple[int, ...] = (1, 2), **table: Any) -> Plan:
        given = {"title": "First", "claim": "B is better.", "measures": ("with/R@10",), "rows": ("A", "B + x")}
        rows = {"A": Row(config=Path("a.yaml")), "B + x": Row(config=Path("a.yaml"), start="A")}
        return Plan(
            name="tiny", test=Path("data/test"), seeds=seeds, output=tmp_path, report=tmp_path / "report.md",
            rows=rows, tables=(Table(**(given | table)),),
        )  # fmt: skip

    return plan


def test_the_standard_error_is_the_sample_deviation_over_the_root_of_n() -> None:
    found = estimate([0.1, 0.2, 0.6])
    assert found is not None
    # Deviations -0.2, -0.1, 0.3: variance 0.14 / 2, and 0.07 / 3 of the mean.
    assert (found.mean, found.error) == pytest.approx((0.3, (0.07 / 3) ** 0.5))
    assert (found.text(), found.text(signed=True)) == ("30.00 ± 15.28", "+30.00 ± 15.28")
    assert estimate([]) is None
    assert (estimate([0.5]).text(), estimate([0.5]).verdict) == ("50.00", "")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.021, 0.061], "shows"),  # mean 0.041, error 0.02
        ([0.019, 0.059], "does not show"),  # mean 0.039
        ([-0.019, -0.059], "does not show"),
        ([-0.021, -0.061], "the opposite shows"),
        ([0.0, 0.0], "does not show"),
        ([0.01, 0.01], "shows"),
    ],
)
def test_a_difference_shows_above_two_standard_errors(values: list[float], verdict: str) -> None:
    assert estimate(values).verdict == verdict  # type: ignore[union-attr]


def test_the_tail_third_holds_the_predicates_of_the_test_set_rarest_in_training() -> None:
    labels = {name: 100 + index for index, name in enumerate(PREDICATES)} | {
        "twisting": 1,
        "holding": 2,
        "in": 3,
    }
    assert tail_third(labels, {"twisting", "in", "above", "eating", "wiping", "behind"}) == ["twisting", "in"]
    assert tail_third(labels, set(PREDICATES))[:4] == ["twisting", "holding", "in", "looking_at"]
    assert len(tail_third(labels, set(PREDICATES))) == 9


def scores(value: float, videos: int = 3, **recall: float) -> Scores:
    """Every figure is `value`; recall by predicate is given."""
    figures = {f"{name}@{k}": value for name in ("R", "mR", "P") for k in RECALL_AT}
    by_predicate = {f"R@{k}": recall for k in RECALL_AT}
    return Scores(videos, 8 * videos, dict.fromkeys(CONSTRAINTS, figures), dict.fromkeys(CONSTRAINTS, by_predicate))


def write_run(plan: Plan, row: str, seed: int, value: float, **recall: float) -> None:
    """A finished run; where relations change, its figures are twice as high."""
    folder = plan.folder(row, seed)
    folder.mkdir(parents=True)
    labels = dict.fromkeys(PREDICATES, 100) | {"eating": 5, "wiping": 4}
    run = RunFigures(
        row=row, seed=seed, command="", task="sgdet", training_data="Puppet Genome, easy world",
        test_data="Puppet Genome, easy world, seed 5", steps=1200, batch_size=4, clip_length=3,
        trained_parameters=54321, training_labels=labels, whole=scores(value, 1500, **recall),
        by_change={"none": scores(value, 2, **recall), "high": scores(2 * value, 1, holding=0.5)},
    )  # fmt: skip
    write_figures(folder, run)


def test_the_report_gives_means_differences_and_what_they_show(make: Callable[..., Plan]) -> None:
    plan = make(compare=(("A", "B + x"),), measures=("with/R@10", "no/mR@20"), note="*Noted.*\n")
    for seed, value, gain in ((1, 0.2, 0.05), (2, 0.3, 0.07)):
        write_run(plan, "A", seed, value)
        write_run(plan, "B + x", seed, value + gain)
    text = report(plan, "vsg ablate plan.yaml")
    assert text.startswith("# Ablations: tiny\n\n`vsg ablate plan.yaml` writes this file")
    prose = " ".join(text.split())
    assert "(Puppet Genome, easy world, seed 5), 1,500 videos, 12,000 frames, SGDet. Trained on: Puppet Genome" in prose
    assert "over the seeds 1, 2 ±" in prose
    assert max(map(len, text.splitlines())) <= 120
    assert "## First\n\nClaim: B is better.\n\n| row | with R@10 | no mR@20 |\n| --- | ---: | ---: |\n" in text
    assert "| A | 25.00 ± 5.00 | 25.00 ± 5.00 |\n| B + x | 31.00 ± 6.00 | 31.00 ± 6.00 |\n" in text
    assert "| B + x | A | 1,200 x 4 x 3 | 54,321 |" in text
    # Seed by seed: 5 and 7, although the rows themselves overlap.
    assert "| B + x against A | with R@10 | +6.00 ± 1.00 | shows |\n" in text
    assert "| B + x against A | no mR@20 | +6.00 ± 1.00 | shows |\n" in text
    assert text.endswith("\n\n*Noted.*\n")
    assert "incomplete" not in text


def test_the_report_gives_gains_by_change(make: Callable[..., Plan]) -> None:
    plan = make(compare=(("A", "B + x"),), changed=True)
    for seed, value in ((1, 0.2), (2, 0.1)):
        write_run(plan, "A", seed, 0.2)
        write_run(plan, "B + x", seed, value)
    text = report(plan, "vsg ablate plan.yaml")
    assert "| B + x against A | none | 2 | with R@10 | -5.00 ± 5.00 | does not show |" in text
    assert "| B + x against A | high | 1 | with R@10 | -10.00 ± 10.00 | does not show |" in text


def test_the_report_names_runs_that_are_missing_and_shows_no_empty_lines(make: Callable[..., Plan]) -> None:
    plan = make(compare=(("A", "B + x"),))
    assert "incomplete. Missing runs: A (seed 1, 2); B + x (seed 1, 2)." in report(plan, "vsg ablate plan.yaml")
    write_run(plan, "A", 1, 0.2)
    write_run(plan, "A", 2, 0.2)
    text = report(plan, "vsg ablate plan.yaml")
    assert "| B + x |" not in text
    assert "| B + x against A |" not in text
    assert "Differences" not in text
    assert "incomplete. Missing runs: B + x (seed 1, 2)." in text


def test_a_table_of_many_measures_is_cut_into_narrow_ones(make: Callable[..., Plan]) -> None:
    plan = make((1,), measures=tuple(f"{constraint}/R@{k}" for constraint in ("with", "no") for k in (10, 20, 50, 100)))
    write_run(plan, "A", 1, 0.2)
    text = report(plan, "vsg ablate plan.yaml")
    assert "| row | with R@10 | with R@20 | with R@50 | with R@100 | no R@10 | no R@20 |\n" in text
    assert "| row | no R@50 | no R@100 |\n" in text


def test_a_difference_of_one_seed_among_several_is_left_out(make: Callable[..., Plan]) -> None:
    plan = make()
    write_run(plan, "A", 1, 0.2)
    write_run(plan, "B + x", 1, 0.4)
    text = report(plan, "vsg ablate plan.yaml")
    assert "Differences" not in text
    assert "incomplete. Missing runs: A (seed 2); B + x (seed 2)." in text


def test_with_one_seed_there_are_no_standard_errors(make: Callable[..., Plan]) -> None:
    plan = make((2,), compare=(("A", "B + x"),))
    write_run(plan, "A", 2, 0.2)
    write_run(plan, "B + x", 2, 0.3)
    text = report(plan, "vsg ablate plan.yaml")
    assert "There is one seed (2), so there are no standard errors" in text
    assert "| B + x against A | with R@10 | +10.00 |  |\n" in text


@pytest.mark.parametrize(
    ("predicates", "mean", "which", "named"),
    [
        ("tail_third", "40.00", "the third of the predicates with the fewest training labels", "eating (5)"),
        ("motion", "40.00", "the predicates that only motion tells from others in Puppet Genome", "eating (5)"),
        (("holding", "in", "twisting"), "70.00", "these predicates", "holding (100), in (100)"),
    ],
)
def test_mean_recall_may_be_over_some_predicates(
    make: Callable[..., Plan], predicates: Any, mean: str, which: str, named: str
) -> None:
    plan = make((1,), predicates=predicates, measures=("with/mR@10", "with/R@10"))
    write_run(plan, "A", 1, 0.25, **{"eating": 0.4, "holding": 0.6, "in": 0.8})
    text = report(plan, "vsg ablate plan.yaml")
    assert f"| A | {mean} | 25.00 |\n" in text
    assert f"mR is the mean over {which}. In brackets: the number of training annotations of each. {named}" in " ".join(
        text.split()
    )


def test_a_table_of_predicates_that_never_occur_is_refused(make: Callable[..., Plan]) -> None:
    plan = make((1,), predicates=("twisting",))
    write_run(plan, "A", 1, 0.25, holding=0.5)
    with pytest.raises(ConfigurationError, match="table 'First': none of twisting occurs in the test set"):
        report(plan, "vsg ablate plan.yaml")
