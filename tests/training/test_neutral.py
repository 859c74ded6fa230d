"""Neutral JSON files: what they give, what is refused, and the figures of the field's published evaluator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from tests.support.paths import SHARED
from training.errors import DataError
from training.neutral import compare_files, load_ground_truth, load_predictions

OBJECT_INDEX = ACTION_GENOME.object_index
PREDICATE_INDEX = ACTION_GENOME.predicate_index

RECORDS = SHARED / "evaluation"

PERSON_BOX, TABLE_BOX = [0.0, 0.0, 99.0, 199.0], [150.0, 50.0, 249.0, 149.0]
RELATIONS = [(0, "looking_at", 1), (1, "in_front_of", 0), (1, "behind", 0), (0, "holding", 1)]
# looking_at is right, above and carrying are not.
PROBABILITIES = {"attention": [0.7, 0.2, 0.1], "spatial": [0.9] + [0.1] * 5, "contacting": [0.8] + [0.1] * 16}


def write_neutral(folder: Path) -> tuple[Path, Path]:
    """Frame 3 of video a.mp4 as ground truth and as predictions."""
    objects: list[dict[str, Any]] = [{"label": "person", "box": PERSON_BOX}, {"label": "table", "box": TABLE_BOX}]
    annotated = {
        "index": 3,
        "objects": objects,
        "relations": [{"subject": s, "predicate": predicate, "object": o} for s, predicate, o in RELATIONS],
    }
    predicted = {
        "index": 3,
        "objects": [{**each, "score": score} for each, score in zip(objects, (0.5, 0.8), strict=True)],
        "pairs": [{"subject": 0, "object": 1, **PROBABILITIES}],
    }
    paths = folder / "ground_truth.json", folder / "predictions.json"
    for path, frame in zip(paths, (annotated, predicted), strict=True):
        path.write_text(json.dumps({"videos": [{"id": "a.mp4", "frames": [frame]}]}))
    return paths


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.skipif(not RECORDS.exists(), reason=f"the reference figures are not there: {RECORDS}")
@pytest.mark.parametrize("task", ["predcls", "sgdet"])
def test_figures_equal_those_of_the_published_evaluator(task: Any) -> None:
    expected = json.loads((RECORDS / "expected.json").read_text())[task]
    comparison = compare_files(RECORDS / f"{task}_ground_truth.json", RECORDS / f"{task}_predictions.json", task=task)
    assert (comparison.unpredicted, comparison.unannotated, comparison.off_task) == ((), (), ())
    for constraint, values in expected.items():
        found = {name: comparison.figures[constraint][name] for name in values}
        assert found == pytest.approx(values, rel=0, abs=1e-9), constraint


def test_neutral_files_give_the_arrays_they_hold(tmp_path: Path) -> None:
    ground_truth, predicted = write_neutral(tmp_path)
    frame = load_ground_truth(ground_truth)["a.mp4", 3]
    assert frame.labels.tolist() == [OBJECT_INDEX["person"], OBJECT_INDEX["table"]]
    assert frame.boxes.tolist() == [PERSON_BOX, TABLE_BOX]
    assert frame.relations.tolist() == [[s, o, PREDICATE_INDEX[predicate]] for s, predicate, o in RELATIONS]
    found = load_predictions(predicted)["a.mp4", 3]
    assert (found.scores.tolist(), found.pairs.tolist()) == ([0.5, 0.8], [[0, 1]])
    np.testing.assert_array_equal(found.relation_scores, [1.0])
    np.testing.assert_array_equal(found.predicate_scores, [np.concatenate(list(PROBABILITIES.values()))])


def test_ground_truth_may_bring_a_vocabulary_of_its_own(tmp_path: Path) -> None:
    ground_truth, predicted = write_neutral(tmp_path)
    vocabulary = Vocabulary(
        objects=("crate", "robot"), subjects=("robot",),
        groups=(PredicateGroup(name="use", predicates=("lifts", "pushes")),),
    )  # fmt: skip
    objects = [{"label": "robot", "box": PERSON_BOX}, {"label": "crate", "box": TABLE_BOX}]
    relation, pair = {"subject": 0, "predicate": "lifts", "object": 1}, {"subject": 0, "object": 1, "use": [0.6, 0.7]}

    def annotate(file: Any) -> None:
        file["vocabulary"] = TypeAdapter(Vocabulary).dump_python(vocabulary, mode="json")
        file["videos"][0]["frames"] = [{"index": 3, "objects": objects, "relations": [relation]}]

    def predict(file: Any) -> None:
        scored = [{**each, "score": 1.0} for each in objects]
        file["videos"][0]["frames"] = [{"index": 3, "objects": scored, "pairs": [pair]}]

    edit(ground_truth, annotate)
    edit(predicted, predict)
    figures = compare_files(ground_truth, predicted, task="sgdet", recall_at=(1, 2)).figures
    assert [figures[name]["R@1"] for name in ("with", "no")] == [0.0, 0.0]
    assert figures["no"]["R@2"] == 1.0
    pair["use"] = [0.6]
    edit(predicted, predict)
    with pytest.raises(DataError, match=r"pairs\.0\.use: it must have at least 2 items"):
        compare_files(ground_truth, predicted, task="sgdet")


def test_frames_of_only_one_file_are_named(tmp_path: Path) -> None:
    ground_truth, predicted = write_neutral(tmp_path)
    edit(ground_truth, lambda file: file["videos"][0]["frames"].append({**file["videos"][0]["frames"][0], "index": 4}))
    edit(predicted, lambda file: file["videos"][0]["frames"].append({"index": 9, "objects": [], "pairs": []}))
    comparison = compare_files(ground_truth, predicted, task="sgdet")
    assert comparison.unpredicted == (("a.mp4", 4),)
    assert comparison.unannotated == (("a.mp4", 9),)
    assert comparison.figures["with"]["R@10"] == pytest.approx(1 / 4 / 2, rel=0, abs=1e-9)


def test_predictions_that_go_beyond_the_task_are_named(tmp_path: Path) -> None:
    ground_truth, predicted = write_neutral(tmp_path)
    edit(predicted, lambda file: file["videos"][0]["frames"][0]["objects"][1].update(label="chair"))
    off_task = {task: compare_files(ground_truth, predicted, task=task).off_task for task in ("predcls", "sgcls")}
    assert off_task == {"predcls": (("a.mp4", 3),), "sgcls": ()}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["objects", 1, "label"], "cup", r"objects\.1: object class 'cup' .* nearest is 'cup/glass/bottle'"),
        (["objects", 1, "box"], [1, 2, 3], r"videos\.0\.frames\.0\.objects\.1\.box"),
        (["objects", 1, "score"], 1.5, r"frames\.0: FramePredictions.scores holds 1.5"),
        (["pairs", 0, "object"], 7, "pairs holds 7"),
        (["pairs", 0, "spatial"], [0.5], r"pairs\.0\.spatial"),
        (["index"], None, r"frames\.0\.index is None: it must be a valid integer"),
    ],
)
def test_a_malformed_predictions_file_is_refused_with_the_place(
    tmp_path: Path, path: list[Any], value: Any, message: str
) -> None:
    predicted = write_neutral(tmp_path)[1]
    *parents, last = path

    def change(file: Any) -> None:
        target = file["videos"][0]["frames"][0]
        for key in parents:
            target = target[key]
        target[last] = value

    edit(predicted, change)
    with pytest.raises(DataError, match=f"predictions.json.*{message}"):
        load_predictions(predicted)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    ground_truth, predicted = write_neutral(tmp_path)
    with pytest.raises(DataError, match=r"is not a ground truth file: .*relations"):
        load_ground_truth(predicted)
    edit(ground_truth, lambda file: file["videos"].append(file["videos"][0]))
    with pytest.raises(DataError, match=r"is frame 3 of video 'a.mp4' again"):
        load_ground_truth(ground_truth)
    edit(predicted, lambda file: file["videos"][0].update(id="b.mp4"))
    edit(ground_truth, lambda file: file["videos"].pop())
    with pytest.raises(DataError, match="have no frame in common"):
        compare_files(ground_truth, predicted, task="sgdet")
    edit(ground_truth, lambda file: file["videos"][0]["frames"][0]["relations"][0].update(predicate="look_at"))
    with pytest.raises(DataError, match=r"relations\.0: predicate 'look_at' .* nearest is 'looking_at'"):
        load_ground_truth(ground_truth)
    with pytest.raises(DataError, match=r"missing.json cannot be read: No such file"):
        load_ground_truth(tmp_path / "missing.json")
