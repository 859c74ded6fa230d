"""`vsg evaluate` and `vsg data` as they are called."""

import json
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.command_line import main
from tests.support.paths import SHARED
from training.data.action_genome import RAW_OBJECT_CLASSES, RAW_PREDICATES

RECORDS = SHARED / "evaluation"


def vsg(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """Options that name a ground truth and predictions that find one of its two relations."""
    objects: list[dict[str, Any]] = [
        {"label": "person", "box": [0, 0, 9, 9]},
        {"label": "cup/glass/bottle", "box": [5, 5, 9, 9]},
    ]
    relations = [
        {"subject": 0, "predicate": "looking_at", "object": 1},
        {"subject": 0, "predicate": "holding", "object": 1},
    ]
    pair = {"subject": 0, "object": 1, "attention": [1, 0, 0], "spatial": [0] * 6, "contacting": [0.8] + [0] * 16}
    scored = [{**each, "score": 1} for each in objects]
    write(tmp_path / "g.json", [{"index": 0, "objects": objects, "relations": relations}])
    write(tmp_path / "p.json", [{"index": 0, "objects": scored, "pairs": [pair]}])
    return ["--ground-truth", tmp_path / "g.json", "--predictions", tmp_path / "p.json", "--task", "sgdet"]


def write(path: Path, frames: list[Any]) -> None:
    path.write_text(json.dumps({"videos": [{"id": "a.mp4", "frames": frames}]}))


def test_json_gives_fractions_by_constraint(files: list[object]) -> None:
    result = vsg("evaluate", *files, "--json")
    figures = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(figures) == ["with", "semi", "no", "top6"]
    names = [f"{metric}@{k}" for metric in ("R", "mR", "P") for k in (10, 20, 50, 100)]
    assert list(figures["with"]) == names
    assert (figures["with"]["R@10"], figures["with"]["P@10"]) == (0.5, 1 / 3)


def test_the_table_gives_percentages(files: list[object]) -> None:
    lines = vsg("evaluate", *files).stdout.splitlines()
    assert lines[0].split() == ["sgdet", "@10", "@20", "@50", "@100"]
    assert lines[1].split() == ["with", "constraint", "R", "50.00", "50.00", "50.00", "50.00"]
    assert len(lines) == 1 + 4 * 3


def test_frames_of_one_file_only_are_noted_on_standard_error(files: list[object]) -> None:
    path = Path(str(files[1]))
    frame = json.loads(path.read_text())["videos"][0]["frames"][0]
    write(path, [frame, {**frame, "index": 7}])
    result = vsg("evaluate", *files, "--json")
    assert "Note: 1 frames have no predictions; they count" in result.stderr
    assert "first: video 'a.mp4', frame 7" in result.stderr
    assert json.loads(result.stdout)["with"]["R@10"] == 0.25


def test_a_wrong_file_is_one_line_and_exit_code_1(files: list[object]) -> None:
    result = vsg("evaluate", *files[:3], "nowhere.json", *files[4:])
    assert result.exit_code == 1
    assert result.stderr == "Error: nowhere.json cannot be read: No such file or directory; check the path\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["--ground-truth", "g.json"], ["--data", "d"], ["--ground-truth", "g", "--predictions", "p", "--data", "d"]],
)
def test_evaluating_needs_both_files_or_both_data_and_model(arguments: list[str]) -> None:
    result = vsg("evaluate", *arguments, "--task", "sgdet")
    assert result.exit_code == 2
    assert "give either --ground-truth and --predictions, or --data and --model" in result.stderr


def test_a_missing_or_unknown_task_is_refused(files: list[object]) -> None:
    assert "'predcls', 'sgcls', 'sgdet'" in vsg("evaluate", *files[:5], "sgg").stderr
    assert "give --task, one of predcls, sgcls, sgdet" in vsg("evaluate", *files[:4]).stderr


def test_a_model_is_run_on_a_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def evaluate_model(*arguments: Any, **options: Any) -> dict[str, dict[str, float]]:
        calls.append((arguments, options))
        return {"with": {"R@10": 0.25}}

    # The real one needs torch and a model.
    module = types.ModuleType("training.prediction")
    monkeypatch.setattr(module, "evaluate_model", evaluate_model, raising=False)
    monkeypatch.setitem(sys.modules, "training.prediction", module)
    asked = ["evaluate", "--data", "d", "--model", "m", "--task", "sgdet", "--split", "train", "--json"]
    assert json.loads(vsg(*asked).stdout) == {"with": {"R@10": 0.25}}
    vsg(*asked, "--engine", "openvino")
    model = (Path("d"), Path("m"), "sgdet", "train")
    assert calls == [
        (model, {"engine": None, "progress": True}),
        (model, {"engine": "openvino", "progress": True}),
    ]


def test_an_unknown_engine_is_refused() -> None:
    assert "'onnxruntime-cpu', " in vsg("evaluate", "--task", "sgdet", "--engine", "onnx").stderr


def test_scoring_files_needs_no_torch(files: list[object]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from service.command_line import main; main(sys.argv[1:], standalone_mode=False)"
    )
    command = [sys.executable, "-c", code, "evaluate", *map(str, files), "--json"]
    assert "with" in json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.mark.skipif(not RECORDS.exists(), reason=f"the reference figures are not there: {RECORDS}")
@pytest.mark.parametrize("task", ["predcls", "sgdet"])
def test_the_command_gives_the_reference_figures(task: str) -> None:
    truth, predictions = (RECORDS / f"{task}_{kind}.json" for kind in ("ground_truth", "predictions"))
    result = vsg("evaluate", "--ground-truth", truth, "--predictions", predictions, "--task", task, "--json")
    figures = json.loads(result.stdout)
    for constraint, expected in json.loads((RECORDS / "expected.json").read_text())[task].items():
        assert {name: figures[constraint][name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)


def test_checking_an_empty_folder_lists_what_is_missing(tmp_path: Path) -> None:
    result = vsg("data", "check", tmp_path)
    assert result.exit_code == 1
    for name in (
        "object_classes.txt",
        "relationship_classes.txt",
        "person_bbox.pkl",
        "object_bbox_and_relationship.pkl",
    ):
        assert f"Problem: {tmp_path}/annotations/{name} cannot be read" in result.stdout
    report = json.loads(vsg("data", "check", tmp_path, "--json").stdout)
    assert (report["ok"], len(report["problems"]), report["splits"]["train"]["videos"]) == (False, 4, 0)


def test_checking_shows_the_first_of_many_problems(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "object_classes.txt").write_text("\n".join(reversed(RAW_OBJECT_CLASSES)))
    (folder / "relationship_classes.txt").write_text("\n".join(RAW_PREDICATES))
    for name in ("person_bbox.pkl", "object_bbox_and_relationship.pkl"):
        (folder / name).write_bytes(pickle.dumps({"AAAAA.mp4/000001.png": []}))
    lines = vsg("data", "check", tmp_path).stdout.splitlines()
    assert sum(line.startswith("Problem: ") for line in lines) == 21
    assert "Problem: 17 more; --json lists them all" in lines


def test_a_puppet_data_set_is_written_and_passes_the_check(tmp_path: Path) -> None:
    sizes = ["--train-videos", 1, "--test-videos", 1, "--frames-per-video", 3]
    result = vsg("data", "puppets", tmp_path / "set", "--world", "easy", *sizes, "--seed", 5, "--processes", 1)
    assert (result.exit_code, result.exception) == (0, None)
    checked = vsg("data", "check", tmp_path / "set")
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (0, f"{tmp_path / 'set'} is in order")
    again = vsg("data", "puppets", tmp_path / "set", *sizes)
    assert (again.exit_code, "is not empty: name a new folder" in again.stderr) == (1, True)
