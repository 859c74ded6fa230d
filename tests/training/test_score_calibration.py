"""The way in which scores join is chosen by recall on validation videos, and kept in the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from export.bundle import export_bundle
from models.graph.bundle import Bundle, Scoring
from models.networks.checkpoint import load_checkpoint, save_checkpoint
from service.command_line import main
from tests.support.networks import make_lively, tiny, tiny_scored, tiny_two_stage
from training.evaluation import FrameGroundTruth, FramePredictions
from training.prediction import load_predictor
from training.score_calibration import (
    LEAST_GAIN,
    MEASURES,
    SOUGHT,
    TOLERANCE,
    Calibration,
    SeenFrame,
    Trial,
    calibrate,
    choose,
    measure,
    write_scoring,
)

PLAIN = Scoring()


def frame(*, hidden_by: float, relation_scores: list[float] | None) -> SeenFrame:
    """A person and two cups in two places, of which only the first is annotated.

    The second cup has so many middling predicates that they hide the first one's, unless scores are sharpened or the
    relation score counts.
    """
    boxes = [[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]
    truth = FrameGroundTruth(boxes[:2], [0, 5], [[0, 1, 0], [1, 0, 3], [0, 1, 9]])  # type: ignore[arg-type]
    predicates = np.zeros((2, 26))
    predicates[0, [0, 3, 9]] = 0.5
    predicates[1] = hidden_by
    return truth, FramePredictions(
        boxes, [0, 5, 5], [1.0, 1.0, 1.0], [[0, 1], [0, 2]], predicates, relation_scores  # type: ignore[arg-type]
    )  # fmt: skip


def chosen(*frames: SeenFrame) -> Calibration:
    return calibrate(frames)


def test_the_setting_with_the_highest_recall_is_chosen() -> None:
    found = chosen(unrelated := frame(hidden_by=0.6, relation_scores=[0.9, 0.8]))
    assert found.plain.measures["no/R@10"] == 0
    assert found.best.measures["no/R@10"] == 1
    assert found.best.sought == max(trial.sought for trial in found.trials)
    assert found.best.measures == measure([unrelated], found.best.scoring)


def test_a_gain_that_may_be_chance_leaves_the_plain_product() -> None:
    found = chosen(frame(hidden_by=0.1, relation_scores=[0.9, 0.1]))
    assert found.best == found.plain
    plain = found.plain
    little = Trial(Scoring(predicate_temperature=2), plain.measures | {"no/R@10": plain.measures["no/R@10"] + 0.01})
    more = Trial(Scoring(predicate_temperature=3), plain.measures | {"no/R@10": plain.measures["no/R@10"] + 0.02})
    assert choose((plain, little)).best == plain
    assert choose((plain, little, more)).best == more


def test_a_setting_that_lowers_a_figure_is_out() -> None:
    def trial(temperature: float, **changes: float) -> Trial:
        measures = dict.fromkeys(MEASURES, 0.5) | changes
        return Trial(Scoring(predicate_temperature=temperature), measures)

    plain, chance = trial(1), trial(1.1, **{"no/R@10": 0.6, "no/mR@20": 0.5 - TOLERANCE / 2})
    harmful = trial(2, **{"no/R@10": 0.9, "with/P@10": 0.5 - 2 * TOLERANCE})
    found = choose((harmful, plain, chance))
    assert (found.plain, found.best) == (plain, chance)
    assert harmful.sought > chance.sought


def test_without_relation_scores_only_temperatures_are_tried() -> None:
    found = chosen(frame(hidden_by=0.1, relation_scores=None))
    assert {trial.scoring.relation_exponent for trial in found.trials} == {1.0}
    assert len(found.trials) == len({trial.scoring.predicate_temperature for trial in found.trials}) > 3


def test_precision_is_measured_but_does_not_decide() -> None:
    found = chosen(frame(hidden_by=0.1, relation_scores=None))
    assert {"with/P@10", "no/P@20"} <= found.best.measures.keys()
    assert not any("/P@" in name for name in SOUGHT)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, make_lively(tiny_scored(tiny_two_stage())), {"data": "made up"})
    return path


def calibrated(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["calibrate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_calibrated_checkpoint_is_evaluated_and_exported_with_its_scoring(
    checkpoint: Path, puppets: Path, tmp_path: Path
) -> None:
    scoring = Scoring(predicate_temperature=2, relation_exponent=0.5)
    save_checkpoint(checkpoint, make_lively(tiny()), {"data": "made up"})  # one stage is exported in no time
    write_scoring(checkpoint, scoring)
    assert load_predictor(checkpoint).scoring == scoring
    assert load_checkpoint(checkpoint)[1]["data"] == "made up"
    bundle = export_bundle(checkpoint, tmp_path / "bundle", name="tiny", version="1", description="tiny")
    assert bundle.manifest.scoring == scoring
    write_scoring(bundle.folder, PLAIN)
    again = Bundle.load(bundle.folder)
    assert again.manifest == bundle.manifest.model_copy(update={"scoring": PLAIN})


def test_the_command_writes_what_it_chose(checkpoint: Path, puppets: Path) -> None:
    asked = (checkpoint, "--data", puppets, "--split", "test", "--videos", 1)
    before = checkpoint.read_bytes()
    content = json.loads(calibrated(*asked, "--json", "--dry-run"))
    assert checkpoint.read_bytes() == before
    lines = calibrated(*asked).splitlines()
    wanted = Scoring(**content["chosen"])
    assert load_predictor(checkpoint).scoring == wanted
    assert lines[-1] == (
        f"predicate_temperature {wanted.predicate_temperature:g}, relation_exponent {wanted.relation_exponent:g}"
    )
    means = {scoring_in(each): sum(each[name] for name in SOUGHT) / len(SOUGHT) for each in content["tried"]}
    assert means[wanted] >= max(means[PLAIN], max(means.values()) - LEAST_GAIN) or wanted == PLAIN


def scoring_in(tried: dict[str, float]) -> Scoring:
    return Scoring(predicate_temperature=tried["predicate_temperature"], relation_exponent=tried["relation_exponent"])


def test_more_videos_than_there_are_is_refused(checkpoint: Path, puppets: Path) -> None:
    result = CliRunner().invoke(
        main, ["calibrate", str(checkpoint), "--data", str(puppets), "--split", "test", "--videos", "3"]
    )
    assert result.exit_code == 1
    assert "--videos is 3, but the test split of" in result.output
