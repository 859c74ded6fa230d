"""`vsg data check`: everything that is wrong with a folder, where the loader stops at the first thing."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.command_line import main
from tests.support.annotated import Touch, change_first, png, records, rewrite_objects, thing, write, write_two_videos
from training.data.action_genome import load_action_genome
from training.data.check import check_data
from training.errors import DataError


def vsg(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_two_videos(tmp_path / "set")


def lose_pickle(root: Path) -> None:
    (root / "annotations" / "object_bbox_and_relationship.pkl").unlink()


def mislabel(root: Path) -> None:
    rewrite_objects(root, change_first(**{"class": "cup"}))


def empty_frames(root: Path) -> None:
    for path in (root / "frames" / "AAAAA.mp4").iterdir():
        path.unlink()


def import_something(root: Path) -> None:
    path = root / "annotations" / "person_bbox.pkl"
    path.write_bytes(pickle.dumps({"AAAAA.mp4/000010.png": Touch(root / "touched")}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lose_pickle,
            "object_bbox_and_relationship.pkl cannot be read: No such file; copy it here from Action Genome",
        ),
        (
            mislabel,
            "object_bbox_and_relationship.pkl: 'AAAAA.mp4/000010.png', object 0: object class 'cup' is not in the "
            "vocabulary; the nearest is 'cup/glass/bottle'",
        ),
        (empty_frames, "AAAAA.mp4 is empty: dumping this video's frames has failed; `vsg data frames ROOT` dumps"),
        (
            import_something,
            "person_bbox.pkl asks for posix.system, which annotations never need; nothing was run. Do not open this "
            "file with pickle.load; take it again",
        ),
    ],
)
def test_damage_is_named_with_a_remedy_by_loader_check_and_command(root: Path, damage: Any, message: str) -> None:
    assert vsg("data", "check", root).exit_code == 0
    damage(root)
    with pytest.raises(DataError, match=re.escape(message)):
        load_action_genome(root, split="train", small_objects="keep")
    assert message in check_data(root).problems[0]
    result = vsg("data", "check", root)
    assert (result.exit_code, result.stdout.startswith("Problem: ")) == (1, True)
    assert message in result.stdout
    assert message in json.loads(vsg("data", "check", root, "--json").stdout)["problems"][0]
    assert not (root / "touched").exists()


def test_the_check_counts_what_a_folder_holds(root: Path) -> None:
    report = check_data(root)
    assert (report.ok, report.problems, report.warnings) == (True, [], [])
    counts = report.splits["train"]
    assert (counts.videos, counts.frames, counts.objects) == (1, 3, 3)
    held = [name for name, count in counts.predicates.items() if count == 3]
    assert held == ["looking_at", "beneath", "in_front_of", "touching"]
    assert sum(counts.predicates.values()) == 12
    assert json.loads(json.dumps(report.as_json()))["splits"]["test"]["videos"] == 1


def test_the_check_finds_everything_at_once(root: Path) -> None:
    (root / "annotations" / "object_classes.txt").unlink()
    rewrite_objects(root, change_first(bbox=None))
    (root / "frames" / "BBBBB.mp4" / "000010.png").unlink()
    (root / "frames" / "BBBBB.mp4" / "000020.png").write_bytes(b"JFIF")
    (root / "frames" / "BBBBB.mp4" / "000030.png").write_bytes(png((640, 360)))
    messages = "\n".join(check_data(root).problems)
    for part in (
        "object_classes.txt cannot be read",
        "has no 'bbox'",
        "000010.png is missing",
        "000020.png is not a PNG",
        "000030.png has 640x360 pixels, its boxes are annotated on 480x270",
    ):
        assert part in messages


def test_the_check_names_all_bad_pickles() -> None:
    report = check_data(Path("/nonexistent"))
    assert [Path(problem.split()[0]).name for problem in report.problems] == [
        "object_classes.txt",
        "relationship_classes.txt",
        "person_bbox.pkl",
        "object_bbox_and_relationship.pkl",
    ]


def test_the_check_warns_of_oddities_that_are_no_errors(tmp_path: Path) -> None:
    persons, objects = records(frames=6)
    keys = list(objects)
    for key in keys[3:]:
        objects[key] = [thing(split="test")]
    objects[keys[0]] = [thing(bbox=(5, 5, 0, 9), spatial_relationship=[])]
    objects["CCCCC.mp4/000001.png"] = [thing()]
    report = check_data(write(tmp_path, persons, objects))
    assert report.ok
    for part in ("no entry among the persons", "has no area", "lacks a spatial", "has frames in both splits"):
        assert sum(part in warning for warning in report.warnings) == 1
