"""`vsg ablate`: wrong plans are refused, runs come in order and are finished once, and are scored by change."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from models.graph.predictions import PairPredictions
from models.graph.vocabulary import ACTION_GENOME
from models.networks.checkpoint import load_checkpoint, save_checkpoint
from models.networks.two_stage import TwoStageConfig
from tests.support.networks import detector_of, make_lively, tiny, tiny_detector, tiny_relations, tiny_scorer
from training.ablation import run as running
from training.ablation import scoring
from training.ablation.figures import read_figures
from training.ablation.plan import Plan, load_plan, slug
from training.ablation.run import Study, finish_all, plan_runs
from training.ablation.scoring import Scorer, change_groups, change_share
from training.commands.ablate import ablate
from training.configuration import TrainingConfig
from training.data.action_genome import AnnotatedFrame, AnnotatedVideo, load_action_genome
from training.errors import ConfigurationError, DataError
from training.prediction import evaluate_model, network_predictor, predict_video

PLANS = Path(running.__file__).parent / "plans"


@pytest.fixture
def content(settings: dict[str, Any], puppets: Path, tmp_path: Path) -> dict[str, Any]:
    """A plan of an ARN that two rows start from, one after the other."""
    (tmp_path / "arn.yaml").write_text(yaml.safe_dump({**settings, "output": "x", "steps": 2, "clip_length": 3}))
    config = str(tmp_path / "arn.yaml")
    return {
        "name": "tiny", "test": str(puppets), "seeds": [1, 2],
        "output": str(tmp_path / "runs"), "report": str(tmp_path / "docs" / "ablations.md"),
        "rows": {
            "C": {"config": config, "start": "B + x"},
            "A": {"config": config},
            "B + x": {"config": config, "start": "A", "set": {"learning_rate": 1e-4, "model.dropout": 0.5}},
        },
        "tables": [{"title": "First", "claim": "B is better.", "measures": ["with/R@10"], "rows": ["A", "B + x"]}],
    }  # fmt: skip


@pytest.fixture
def make(content: dict[str, Any], tmp_path: Path) -> Callable[..., Plan]:
    """The plan, with changes to its first table and then to itself."""

    def load(table: dict[str, Any] | None = None, **changes: Any) -> Plan:
        tables = [{**content["tables"][0], **(table or {})}]
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**content, "tables": tables, **changes}))
        return load_plan(tmp_path / "plan.yaml")

    return load


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Training is replaced by a network that lies ready; lists the folders it was asked for."""
    folders: list[str] = []

    def ready(config: TrainingConfig, *, command: str) -> Path:
        if config.initialise_from is not None:
            assert config.initialise_from.is_file(), "the row it starts from comes first"
        folders.append("/".join(config.output.parts[-2:]))
        network = make_lively(tiny(), seed=len(folders))
        save_checkpoint(config.output / "checkpoint.pt", network, {"command": command})
        (config.output / "state").mkdir()
        return config.output / "checkpoint.pt"

    monkeypatch.setattr(running, "train", ready)
    return folders


def finish(plan: Plan, *only: str, again: bool = False) -> None:
    list(finish_all(plan_runs(plan, Path("plan.yaml"), only), Study(plan.test), again=again))


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        ({"rows": ["A", "D"]}, {}, "table 'First' names the row 'D', which `rows` lacks; it has: A, B"),
        ({"measures": ["with/R@11"]}, {}, "measure 'with/R@11' is unknown; write CONSTRAINT/NAME@K"),
        ({"predicates": ["eatin"]}, {}, "predicate 'eatin' is not in the vocabulary; the nearest is 'eating'"),
        ({"predicates": "tail"}, {}, "predicates is 'tail'; give a list of names, or tail_third or motion"),
        ({"compare": [["A", "C"]]}, {}, "compares 'C', which is not among its rows"),
        ({"changed": True}, {}, "`compare` must name the rows"),
        ({"colour": "red"}, {}, r"tables\.0\.colour is not a known name"),
        ({}, {"seeds": [1, 1]}, r"seeds is \[1, 1\]: give one or more, each once"),
        ({}, {"rows": {"A": {"config": "x", "start": "Z"}}}, "row 'A' starts from the row 'Z', which `rows` lacks"),
        (
            {},
            {"rows": {"A": {"config": "x", "start": "B"}, "B": {"config": "x", "start": "A"}}},
            "in a circle: A -> B -> A",
        ),
        (
            {},
            {"rows": {"A b": {"config": "x"}, "A-B": {"config": "x"}}},
            "'A b' and 'A-B' would share the folder 'a-b'",
        ),
        ({}, {"rows": {"A": {"config": "x", "set": {"seed": 3}}}}, "has 'seed', which `seeds` decides"),
    ],
)
def test_a_wrong_plan_is_refused_by_name(
    make: Callable[..., Plan], table: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"plan\.yaml: .*{message}"):
        make(table, **changes)


def test_a_file_that_a_later_row_needs_is_missed_before_anything_runs(
    make: Callable[..., Plan], content: dict[str, Any], trained: list[str]
) -> None:
    rows = {**content["rows"], "C": {**content["rows"]["C"], "set": {"detr_weights": "gone.pth"}}}
    with pytest.raises(ConfigurationError, match=r"^row 'C' needs a file that is missing: detr_weights: gone\.pth$"):
        finish(make(rows=rows))
    assert trained == []


def test_a_row_whose_configuration_is_wrong_is_refused_before_anything_runs(
    make: Callable[..., Plan], content: dict[str, Any]
) -> None:
    config = content["rows"]["A"]["config"]
    with pytest.raises(ConfigurationError, match=r"row 'A': .*model\.arn\.quries"):
        plan_runs(make(rows=content["rows"] | {"A": {"config": config, "set": {"model.quries": 3}}}), Path("plan.yaml"))
    detector = {"config": config, "set": {"model": asdict(tiny_detector())}}
    with pytest.raises(ConfigurationError, match="row 'A' trains a detector"):
        plan_runs(make(rows=content["rows"] | {"A": detector}), Path("plan.yaml"))


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_plan_of_the_repository_can_be_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PLANS.parents[2])
    plan = load_plan(file)
    assert len(plan_runs(plan, file)) == len(plan.seeds) * len(plan.rows)


def test_a_row_comes_after_the_one_it_starts_from(make: Callable[..., Plan]) -> None:
    plan = make()
    assert plan.in_order() == ["A", "B + x", "C"]
    assert plan.in_order(("B + x",)) == plan.in_order(("First",)) == ["A", "B + x"]
    with pytest.raises(
        ConfigurationError, match="'D' is neither a table nor a row of the plan; these are: First, A, B"
    ):
        plan.in_order(("D",))


def test_a_run_configuration_has_a_seed_a_folder_and_a_start(make: Callable[..., Plan], tmp_path: Path) -> None:
    runs = plan_runs(make(), Path("plan.yaml"), only=("B + x",))
    assert [(run.row, run.config.seed, run.asked_for) for run in runs] == [
        ("A", 1, False), ("B + x", 1, True), ("A", 2, False), ("B + x", 2, True),
    ]  # fmt: skip
    config = runs[3].config
    assert config.output == tmp_path / "runs" / "b-x" / "seed-2"
    assert config.initialise_from == tmp_path / "runs" / "a" / "seed-2" / "checkpoint.pt"
    assert (config.learning_rate, config.model.dropout, config.steps) == (1e-4, 0.5, 2)  # type: ignore[union-attr]
    assert runs[3].command == "vsg ablate plan.yaml --only 'B + x' --seeds 2"
    assert slug("STTran + RS-Net") == "sttran-rs-net"


def test_a_finished_run_is_not_repeated_and_a_changed_one_is_refused(
    make: Callable[..., Plan], content: dict[str, Any], trained: list[str]
) -> None:
    plan = make(seeds=[1])
    finish(plan, "A")
    assert trained == ["a/seed-1"]
    assert not (plan.folder("A", 1) / "state").exists(), "of no more use"
    finish(plan)
    assert trained == ["a/seed-1", "b-x/seed-1", "c/seed-1"]
    finish(plan)
    assert len(trained) == 3
    changed = make(seeds=[1], rows=content["rows"] | {"A": {**content["rows"]["A"], "set": {"steps": 7}}})
    with pytest.raises(ConfigurationError, match=r"another config\.steps; remove the folder, or .* --again"):
        finish(changed)
    finish(changed, "A", again=True)
    assert trained[3:] == ["a/seed-1"]
    # B started from what A was.
    with pytest.raises(ConfigurationError, match=r"run of 'B \+ x' with another weights\.initialise_from"):
        finish(changed)
    finish(changed, "B + x", again=True)
    assert trained[4:] == ["b-x/seed-1"], "A was not asked for"


def test_a_new_key_at_its_default_does_not_change_a_finished_run(make: Callable[..., Plan], trained: list[str]) -> None:
    plan = make(seeds=[1])
    finish(plan, "A")
    path = plan.folder("A", 1) / "configuration.json"
    saved = json.loads(path.read_text())
    del saved["config"]["relation_loss"], saved["config"]["model"]["centred_text"]
    path.write_text(json.dumps(saved))
    finish(plan, "A")
    assert len(trained) == 1


def test_a_run_without_figures_is_scored_and_not_trained_again(make: Callable[..., Plan], trained: list[str]) -> None:
    plan = make(seeds=[1])
    finish(plan, "A")
    path = plan.folder("A", 1) / "figures.json"
    first = path.read_text()
    path.unlink()
    assert read_figures(path.parent) is None
    finish(plan, "A")
    assert (len(trained), path.read_text()) == (1, first)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"figures\.json was written by another version.*delete it"):
        read_figures(path.parent)


def test_vsg_ablate_trains_scores_and_reports(
    make: Callable[..., Plan], content: dict[str, Any], puppets: Path, tmp_path: Path
) -> None:
    scored = {"relation_scoring": True, "freeze_host": True, "scorer": asdict(tiny_scorer()), "mixed_precision": "bf16"}
    rows = {"A": content["rows"]["A"], "B + x": {**content["rows"]["B + x"], "set": scored}}
    plan = make(seeds=[1], rows=rows)
    result = CliRunner().invoke(ablate, [str(tmp_path / "plan.yaml"), "--seeds", "5"])
    assert (result.exit_code, result.exception) == (0, None), result.output
    assert f"wrote {plan.report}" in result.output
    runs = [read_figures(plan.folder(row, 5)) for row in rows]
    for run, row in zip(runs, rows, strict=True):
        assert run is not None
        checkpoint = plan.folder(row, 5) / "checkpoint.pt"
        network, training = load_checkpoint(checkpoint)
        assert run.whole.figures == evaluate_model(puppets, checkpoint)
        assert (run.whole.videos, sum(group.videos for group in run.by_change.values())) == (2, 2)
        assert (run.seed, run.steps, run.batch_size, run.clip_length) == (5, 2, 4, 3)
        assert (
            run.command
            == training["command"]
            == f"vsg ablate {tmp_path / 'plan.yaml'} --only "
            + (f"{row} --seeds 5" if row == "A" else f"'{row}' --seeds 5")
        )
        counted = network if row == "A" else network.scorer
        assert run.trained_parameters == sum(parameter.numel() for parameter in counted.parameters())
        videos = load_action_genome(puppets, split="train", small_objects="keep")
        held = np.concatenate([frame.predicates for video in videos for frame in video.frames])
        assert run.training_labels == dict(zip(ACTION_GENOME.predicates, held.sum(0).tolist(), strict=True))
    text = " ".join(plan.report.read_text().split())  # lines are wrapped
    assert f"`vsg ablate {tmp_path / 'plan.yaml'} --seeds 5` writes this file" in text
    assert f"| A | {100 * runs[0].whole.figures['with']['R@10']:.2f} |" in text  # type: ignore[union-attr]


def test_networks_on_one_detector_share_what_it_finds(puppets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[PairPredictions] = []
    asked: list[str] = []

    def spy(video: AnnotatedVideo, predictor: Any) -> PairPredictions:
        said.append(predict_video(video, predictor))
        return said[-1]

    monkeypatch.setattr(scoring, "predict_video", spy)
    # Everything that is faintly like a thing is one, so that there are pairs.
    eager = tiny_detector(least_score=1e-4)
    first, second, third = (
        make_lively(TwoStageConfig(eager, tiny_relations(name))) for name in ("sttran", "tr2", "sttran")
    )
    second.detector.load_state_dict(first.detector.state_dict())
    third.detector.load_state_dict(make_lively(eager, seed=4).state_dict())
    for name, network in (("first", first), ("second", second), ("third", third)):
        detector_of(network).roi_heads.box_predictor.cls_score.bias.data[1] += 4
        find = network.detector.pairs
        monkeypatch.setattr(
            network.detector, "pairs", lambda *given, find=find, name=name: asked.append(name) or find(*given)
        )
    config = TrainingConfig(name="x", data=puppets, output=puppets, model=first.config.relations)
    scorer = Scorer(puppets)
    videos = load_action_genome(puppets, split="test", small_objects="keep")
    for network in (first, second, third):
        said.clear()
        scorer(network, config)
        for video, shared in zip(videos, said, strict=True):
            alone = predict_video(video, network_predictor(network))
            assert alone.pair_mask.any()
            np.testing.assert_array_equal(shared.pair_mask, alone.pair_mask)
            np.testing.assert_array_equal(shared.predicate_scores, alone.predicate_scores)
    # Each is asked for two videos by the comparison; the scorer asks those whose detector is new.
    assert [asked.count(name) for name in ("first", "second", "third")] == [4, 2, 4]


def video_of(*frames: dict[str, str]) -> AnnotatedVideo:
    """Frames as what the person does with things by name: {"cup": "holding"}; all are looked at, and above."""
    labels = {"cup": 10, "table": 31, "bed": 2}

    def frame(done: dict[str, str]) -> AnnotatedFrame:
        count, index = len(done), ACTION_GENOME.predicate_index
        predicates = np.zeros((count, 26), dtype=bool)
        predicates[:, [index["looking_at"], index["above"]]] = True
        predicates[np.arange(count), [index[contact] for contact in done.values()]] = True
        return AnnotatedFrame(
            Path("0.png"), 0, (64, 64), np.zeros(4), np.zeros((count, 4)), np.array([labels[name] for name in done]),
            predicates,
        )  # fmt: skip

    return AnnotatedVideo("v", [frame(each) for each in frames])


def test_the_share_of_changed_frames_equals_a_case_by_hand() -> None:
    held, touched = {"cup": "holding", "table": "touching"}, {"cup": "touching", "table": "touching"}
    assert change_share(video_of(held, held, held)) == 0
    assert change_share(video_of(held, touched, touched, held, held)) == 2 / 4
    assert change_share(video_of(held, dict(reversed(held.items())), held)) == 0, "order is no change"
    assert change_share(video_of(held, {"cup": "holding"}, held)) == 1, "an object that comes or goes is one"
    assert change_share(video_of({"cup": "holding"}, {"bed": "holding"}, {"bed": "holding"})) == 1 / 2


def test_videos_that_change_are_cut_into_thirds_by_their_share() -> None:
    a, b = {"cup": "holding"}, {"cup": "touching"}
    halves, whole, still, quarter = video_of(a, b, b), video_of(a, b, a), video_of(a, a, a), video_of(a, b, b, b, b)
    videos = [whole, still, quarter, halves, still, whole, quarter, halves]
    assert change_groups(videos) == ["high", "none", "low", "middle", "none", "high", "low", "middle"]
    assert change_groups([still, whole]) == ["none", "low"]


def test_a_row_scores_the_network_of_another_in_its_own_way(
    make: Callable[..., Plan], content: dict[str, Any], trained: list[str], puppets: Path
) -> None:
    rows = {
        "A": {**content["rows"]["A"], "set": {"validation_videos": 2}},
        "A, calibrated": {"weights_of": "A", "calibrated": True},
    }
    plan = make({"rows": list(rows), "compare": [list(rows)]}, rows=rows, seeds=[1])
    finish(plan)
    assert trained == ["a/seed-1"], "the second row trains nothing"
    plain, calibrated = (read_figures(plan.folder(row, 1)) for row in rows)
    assert plain is not None
    assert calibrated is not None
    assert plain.scoring == {"predicate_temperature": 1.0, "relation_exponent": 1.0}
    network, _ = load_checkpoint(plan.folder("A", 1) / "checkpoint.pt")
    config = plan_runs(plan, Path("plan.yaml"))[0].config
    _, _, scoring = Scorer(puppets)(network, config, calibrated=True)  # type: ignore[arg-type]
    assert calibrated.scoring == scoring.model_dump()
    assert calibrated.trained_parameters == plain.trained_parameters


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "a row has either `config`, with `set` and `start`, or `weights_of`"),
        ({"weights_of": "A", "set": {"steps": 1}}, "a row has either `config`"),
        ({"weights_of": "Z"}, "starts from the row 'Z', which `rows` lacks"),
        ({"weights_of": "A, again"}, "'A, again', which trains nothing"),
    ],
)
def test_a_row_without_a_network_of_its_own_names_one(
    make: Callable[..., Plan], content: dict[str, Any], row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(rows={**content["rows"], "A, again": row})


def test_a_calibrated_row_without_validation_videos_is_refused(
    make: Callable[..., Plan], content: dict[str, Any]
) -> None:
    rows = {"A": content["rows"]["A"], "B": {"weights_of": "A", "calibrated": True}}
    plan = make({"rows": ["A"]}, rows=rows)
    with pytest.raises(ConfigurationError, match="row 'B' is calibrated, but has no videos for it"):
        plan_runs(plan, Path("plan.yaml"))
