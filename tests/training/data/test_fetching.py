"""Stories that only the whole video tells, and the older demanding world without them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.data.puppets.dataset import TOLD_FILE, write_dataset
from training.data.puppets.fetching import FETCHED
from training.data.puppets.story import Story, make_story
from training.data.puppets.video import ground_truth
from training.data.puppets.world import DEMANDING, DEMANDING_1

SEEDS = 160
OLD_SCENES: list[tuple[int, tuple[float, ...], list[tuple[str, tuple[float, ...]]]]] = [
    (3, (54.73, 18.26, 94.58, 121.38), [("closet/cabinet", (18.32, 58.53, 54.73, 121.96))]),
    (
        2000017,
        (62.09, 38.67, 101.89, 121.86),
        [("laptop", (67.94, 86.18, 92.06, 108.16)), ("food", (59.31, 43.09, 77.54, 60.88))],
    ),
]


@pytest.fixture(scope="module")
def fetching() -> list[Story]:
    stories = [make_story(DEMANDING, seed, seconds=4.0) for seed in range(SEEDS)]
    return [story for story in stories if story.twin is not None]


def told(story: Story) -> list[tuple[float, tuple[float, ...], tuple[float, ...], str]]:
    """The moments at which only the video tells, with both boxes and where the person looks."""
    found: list[tuple[float, tuple[float, ...], tuple[float, ...], str]] = []
    for time in np.arange(0.0, 4.0, 0.5).tolist():
        scene = story.scene(time)
        if (pair := story.told_by_video(scene, time)) is not None:
            found.append((time, pair[0].box, pair[1], pair[0].attention[0]))
    return found


def test_things_are_fetched_in_about_the_stated_share_of_videos(fetching: list[Story]) -> None:
    assert abs(len(fetching) / SEEDS - DEMANDING.fetched) < 0.08


def test_the_older_demanding_world_is_what_it_was() -> None:
    for seed, person, boxes in OLD_SCENES:
        scene = make_story(DEMANDING_1, seed).scene(0.5)
        assert np.allclose(scene.person_box, person, atol=0.01)
        assert [thing.name for thing in scene.things] == [name for name, _ in boxes]
        assert np.allclose([thing.box for thing in scene.things], [box for _, box in boxes], atol=0.01)
        assert make_story(DEMANDING_1, seed).twin is None


def test_the_thing_rests_and_is_held_within_the_video(fetching: list[Story]) -> None:
    seen = 0
    for story in fetching:
        contacts = story.cast.members[FETCHED].contacts
        assert set(contacts) == {"not_contacting", "holding"}
        assert story.cast.acts[-1].start < 4.0
        labels = {truth.things[FETCHED].contacting for truth in ground_truth(story, np.arange(0.0, 4.0, 0.25).tolist())}
        seen += {("not_contacting",), ("holding",)} <= labels
    assert seen > 0.9 * len(fetching), "a thing that something covers has no label"


def test_thing_and_twin_look_alike_and_lie_equally_far(fetching: list[Story]) -> None:
    gaps, sides = [], []
    for story in fetching:
        for time, used, unused, _ in told(story)[:1]:
            person = story.scene(time).person_box
            gaps.append([max(box[0] - person[2], person[0] - box[2], 0.0) for box in (used, unused)])
            inside = all(box[0] > 1 and box[2] < 159 and box[1] > 1 and box[3] < 127 for box in (used, unused))
            if inside:
                sides.append(np.subtract(used[2:], used[:2]) - np.subtract(unused[2:], unused[:2]))
    assert len(gaps) > 20
    assert len(sides) > 10
    assert np.abs(sides).max() < 1.5
    used_gap, unused_gap = np.mean(gaps, axis=0)
    assert abs(used_gap - unused_gap) < 2.5
    closer = np.mean([used < unused for used, unused in gaps])
    assert 0.3 < closer < 0.7, "the distance does not tell which is used"


def test_the_person_looks_at_neither_while_the_thing_rests(fetching: list[Story]) -> None:
    looks = [attention for story in fetching for _, _, _, attention in told(story)]
    assert len(looks) > 60
    assert looks.count("looking_at") < 0.15 * len(looks), "only on the way to another thing"


def test_a_data_set_names_the_pairs_that_only_the_video_tells(tmp_path: Path) -> None:
    write_dataset(tmp_path, DEMANDING, train_videos=10, test_videos=0, frames_per_video=4, seed=5, processes=1)
    pairs = json.loads((tmp_path / "annotations" / TOLD_FILE).read_text())
    frames = set((tmp_path / "annotations" / "frame_list.txt").read_text().split())
    assert pairs
    assert pairs.keys() <= frames
    assert all(len(pair["used"]) == len(pair["unused"]) == 4 for pair in pairs.values())
