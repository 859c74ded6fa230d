"""Puppet Genome: determinism, the layout on disk, and the promises of its demanding world."""

import dataclasses
import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from models.graph.vocabulary import ACTION_GENOME
from training.data.action_genome import RAW_OBJECT_CLASSES, RAW_PREDICATES
from training.data.puppets.casting import draw_cast
from training.data.puppets.dataset import STEP, story_seed, video_name, write_dataset
from training.data.puppets.render import render
from training.data.puppets.room import Image
from training.data.puppets.story import RelatedThing, Scene, Story, make_story
from training.data.puppets.things import THINGS, extent, make_prop
from training.data.puppets.ties import CONTACTING_COUNTS, joint_shares
from training.data.puppets.video import ground_truth, write_video
from training.data.puppets.world import DEMANDING, DEMANDING_1, EASY, World

FRAMES = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puppets")
    _write(folder, processes=1)
    return folder


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return [make_story(DEMANDING_1, seed) for seed in range(500)]


@pytest.fixture(scope="module")
def annotations(stories: list[Story]) -> list[list[RelatedThing]]:
    return [list(truth.things) for story in stories for truth in ground_truth(story, (0.5, 2.5))]


def _write(folder: Path, processes: int) -> None:
    write_dataset(
        folder,
        DEMANDING,
        train_videos=4,
        test_videos=2,
        frames_per_video=FRAMES,
        seed=5,
        write_videos=True,
        processes=processes,
    )


def _pickled(root: Path, name: str) -> dict[str, Any]:
    with (root / "annotations" / name).open("rb") as file:
        loaded: dict[str, Any] = pickle.load(file)
    return loaded


def _plain(scene: Scene) -> Scene:
    """The scene in even light through a perfect camera."""
    room = scene.room
    still = dataclasses.replace(room, light=np.ones_like(room.light), blur=0.0, grain=np.zeros_like(room.grain))
    return dataclasses.replace(scene, room=still)


def _without(scene: Scene, identity: int) -> Scene:
    layers = tuple(layer for layer in scene.layers if layer.owner != identity + 1)
    return dataclasses.replace(scene, layers=layers)


# Determinism


@pytest.mark.parametrize("world", [EASY, DEMANDING], ids=lambda world: str(world.name))
def test_the_same_seed_gives_the_same_pictures_and_annotations(world: World) -> None:
    first, second = make_story(world, 11), make_story(world, 11)
    assert np.array_equal(render(first.scene(1.25)), render(second.scene(1.25)))
    assert ground_truth(first, (0.0, 2.0)) == ground_truth(second, (0.0, 2.0))


def test_another_seed_gives_another_picture() -> None:
    assert not np.array_equal(render(make_story(DEMANDING, 1).scene(0.0)), render(make_story(DEMANDING, 2).scene(0.0)))


def test_the_number_of_processes_changes_no_file(root: Path, tmp_path: Path) -> None:
    _write(tmp_path, processes=2)
    for path in sorted(root.rglob("*.p*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(root)).read_bytes(), path.name


def test_train_and_test_share_neither_seeds_nor_names() -> None:
    train = {story_seed(3, "train", index) for index in range(2000)}
    test = {story_seed(3, "test", index) for index in range(2000)}
    assert len(train) == len(test) == 2000
    assert not train & test
    assert len({video_name(3, index) for index in range(4000)}) == 4000


# On disk


def test_the_class_files_hold_the_raw_names_in_order(root: Path) -> None:
    folder = root / "annotations"
    assert tuple((folder / "object_classes.txt").read_text().split()) == RAW_OBJECT_CLASSES
    assert tuple((folder / "relationship_classes.txt").read_text().split()) == RAW_PREDICATES


def test_keys_are_sorted_and_name_existing_frames(root: Path) -> None:
    persons, objects = _pickled(root, "person_bbox.pkl"), _pickled(root, "object_bbox_and_relationship.pkl")
    listed = (root / "annotations" / "frame_list.txt").read_text().split()
    assert list(persons) == list(objects) == listed == sorted(listed)
    assert len(listed) == 6 * FRAMES
    for key in listed:
        video, frame = key.split("/")
        assert len(video) == len("ABCDE.mp4")
        assert int(frame.removesuffix(".png")) % STEP == 0
        image = cv2.imread(str(root / "frames" / key), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (128, 160, 3)


def test_person_boxes_are_rows_of_corners(root: Path) -> None:
    for record in _pickled(root, "person_bbox.pkl").values():
        assert record["bbox"].shape == (1, 4)
        assert record["bbox"].dtype == np.float32
        x0, y0, x1, y1 = record["bbox"][0]
        assert 0 <= x0 < x1 <= 160
        assert 0 <= y0 < y1 <= 128
        assert record["bbox_size"] == (160, 128)


def test_object_records_have_the_field_types_of_action_genome(root: Path) -> None:
    splits: Counter[str] = Counter()
    for key, records in _pickled(root, "object_bbox_and_relationship.pkl").items():
        assert records
        for record in records:
            assert record["class"] in ACTION_GENOME.objects
            assert record["metadata"]["tag"].startswith(key.split("/")[0])
            assert type(record["visible"]) is bool
            splits[record["metadata"]["set"]] += 1
            labels = [record[f"{group}_relationship"] for group in ("attention", "spatial", "contacting")]
            if not record["visible"]:
                assert record["bbox"] is None
                continue
            assert [type(value) for value in record["bbox"]] == [float] * 4
            assert len(labels[0]) == 1
            assert all(labels)
            assert all(type(label) is str and label in ACTION_GENOME.predicates for group in labels for label in group)
    assert set(splits) == {"train", "test"}


def test_the_folder_describes_its_data(root: Path) -> None:
    facts = json.loads((root / "annotations" / "puppets.json").read_text())
    assert facts["world"] == "demanding"
    assert facts["seed"] == 5
    assert facts["frames"] == 6 * FRAMES
    assert facts["knobs"]["motion_only"] == DEMANDING.motion_only


def test_video_frames_show_what_the_annotated_frames_show(root: Path) -> None:
    path = sorted((root / "videos").glob("*.mp4"))[0]
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == (FRAMES - 1) * STEP + 1
    for number in range(0, len(frames), STEP):
        still = cv2.imread(str(root / "frames" / path.name / f"{number:06d}.png"))
        assert still is not None
        assert np.abs(frames[number].astype(int) - still[:, :, ::-1]).mean() < 14.0


# The world


def test_every_class_and_every_predicate_occurs(annotations: list[list[RelatedThing]]) -> None:
    things = [thing for frame in annotations for thing in frame if thing.visible]
    assert {thing.name for thing in things} == set(THINGS)
    assert {label for thing in things for label in thing.attention + thing.spatial + thing.contacting} == set(
        ACTION_GENOME.predicates
    )


def test_frames_hold_as_many_things_and_labels_as_action_genome_s(annotations: list[list[RelatedThing]]) -> None:
    things = [[thing for thing in frame if thing.visible] for frame in annotations]
    labels = [sum(len(t.attention + t.spatial + t.contacting) for t in frame) for frame in things]
    assert 1.9 < np.mean([len(frame) for frame in things]) < 2.3
    assert 6.0 < np.mean(labels) < 7.5


def test_contacts_keep_the_long_tail(annotations: list[list[RelatedThing]]) -> None:
    counts = Counter(label for frame in annotations for thing in frame for label in thing.contacting)
    assert counts["holding"] > counts["not_contacting"] > counts["touching"] > counts["leaning_on"]
    assert counts["holding"] > 40 * counts["twisting"]
    shares = joint_shares(DEMANDING.unusual, DEMANDING.rarest_share).sum(axis=0)
    wanted = np.array(CONTACTING_COUNTS) / sum(CONTACTING_COUNTS)
    frequent = wanted > 0.05
    assert np.allclose(shares[frequent], wanted[frequent], rtol=0.3)
    assert shares.min() > 0.8 * DEMANDING.rarest_share
    assert len(shares) == len(ACTION_GENOME.groups[2].predicates)


def test_relations_change_in_about_the_stated_share_of_videos(stories: list[Story]) -> None:
    changing = sum(len(story.cast.acts) > 1 for story in stories) / len(stories)
    assert abs(changing - DEMANDING_1.changes) < 0.08
    casts = [draw_cast(EASY, np.random.default_rng(seed), 4.0) for seed in range(400)]
    assert abs(sum(len(cast.acts) > 1 for cast in casts) / 400 - EASY.changes) < 0.08


def test_identities_stay_with_their_things(stories: list[Story]) -> None:
    for story in stories[:40]:
        seen = {
            (thing.identity, thing.name) for truth in ground_truth(story, (0.0, 2.0, 5.0)) for thing in truth.things
        }
        assert len(seen) == len(story.cast.members)


def test_things_move_without_jumps(stories: list[Story]) -> None:
    """Also where one act gives way to the next."""
    for story in stories[:60]:
        moments = [act.start for act in story.cast.acts] + [1.0]
        for moment in moments:
            before, after = ground_truth(story, (moment - 0.001, moment + 0.001))
            for a, b in zip(before.things, after.things, strict=True):
                assert np.abs(np.subtract(a.box, b.box)).max() < 3.0


def test_no_annotated_box_is_small_or_outside(annotations: list[list[RelatedThing]]) -> None:
    sides = []
    for thing in (thing for frame in annotations for thing in frame if thing.visible):
        x0, y0, x1, y1 = thing.box
        assert 0 <= x0 < x1 <= 160
        assert 0 <= y0 < y1 <= 128
        sides.append(min(x1 - x0, y1 - y0))
    assert min(sides) >= 6.0
    assert np.quantile(sides, 0.01) >= 10.0


def test_annotated_things_can_be_seen(annotations: list[list[RelatedThing]]) -> None:
    things = [thing for frame in annotations for thing in frame]
    assert np.mean([thing.visible for thing in things]) > 0.95
    assert all(thing.visible_share >= 0.6 for thing in things if thing.visible)
    assert not any(thing.attention or thing.spatial or thing.contacting for thing in things if not thing.visible)


def test_a_box_covers_exactly_what_is_drawn(stories: list[Story]) -> None:
    """Whatever a missing thing changes lies in its box, and where nothing hides the thing reaches the box's sides."""
    exact = 0
    for story in stories[:60]:
        scene = _plain(story.scene(0.5))
        whole = render(scene).astype(int)
        for thing in scene.things:
            changed = np.abs(whole - render(_without(scene, thing.identity))).max(axis=2) > 48
            ys, xs = np.nonzero(changed)
            x0, y0, x1, y1 = thing.box
            drawn = np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
            assert np.all(drawn[:2] > np.array((x0, y0)) - 1.5)
            assert np.all(drawn[2:] < np.array((x1, y1)) + 1.5)
            exact += bool(np.abs(drawn - (x0, y0, x1, y1)).max() <= 1.5)
    assert exact > 60


def test_the_person_fills_the_person_box() -> None:
    for seed in range(20):
        scene = _plain(make_story(EASY, seed).scene(0.0))
        bare = dataclasses.replace(scene, layers=tuple(layer for layer in scene.layers if layer.owner == 0))
        pictures = []
        for grey in (0, 255):  # what shows neither backdrop is drawn
            room = dataclasses.replace(bare.room, backdrop=np.full_like(bare.room.backdrop, grey))
            pictures.append(render(dataclasses.replace(bare, room=room)).astype(int))
        ys, xs = np.nonzero(np.abs(pictures[0] - pictures[1]).max(axis=2) < 128)
        drawn = np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
        assert np.abs(drawn - np.array(scene.person_box)).max() <= 1.5


def test_distractors_stay_beyond_the_reach_of_related_things(stories: list[Story]) -> None:
    far = []
    for story in stories[:150]:
        scene = story.scene(0.5)
        for _, box in scene.distractors:
            dx = max(box[0] - scene.person_box[2], scene.person_box[0] - box[2], 0.0)
            dy = max(box[1] - scene.person_box[3], scene.person_box[1] - box[3], 0.0)
            far.append(np.hypot(dx, dy))
    assert len(far) > 150
    assert np.mean(np.array(far) > DEMANDING.reach[1]) > 0.85


def _looks(world: World, rng: np.random.Generator, name: str) -> np.ndarray:
    """Mean colour of a new thing of the class."""
    prop = make_prop(name, world, rng)
    image: Image = np.zeros((128, 160, 3), dtype=np.uint8)
    mask = np.zeros((128, 160), dtype=np.uint8)
    shapes = prop.placed(80.0, 64.0)
    for shape in shapes:
        cv2.fillPoly(image, [shape.points.astype(np.int32)], shape.colour)
        cv2.fillPoly(mask, [shape.points.astype(np.int32)], 1)
    assert extent(shapes)[2] > 80.0
    return np.asarray(image[mask > 0].mean(axis=0))


@pytest.mark.parametrize(("world", "low", "high"), [(DEMANDING, 0.0, 0.13), (EASY, 0.35, 1.0)])
def test_colour_alone_tells_classes_in_the_easy_world_only(world: World, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    means = np.stack([np.mean([_looks(world, rng, name) for _ in range(12)], axis=0) for name in THINGS])
    guesses = [
        int(np.argmin(np.linalg.norm(means - _looks(world, rng, name), axis=1))) == index
        for index, name in enumerate(THINGS)
        for _ in range(6)
    ]
    assert low <= np.mean(guesses) <= high


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="motion_only"):
        dataclasses.replace(DEMANDING, motion_only=1.5)


def test_a_larger_frame_shows_the_same_scene() -> None:
    small = make_story(DEMANDING, 4).scene(0.5)
    large = make_story(dataclasses.replace(DEMANDING, width=320, height=256), 4).scene(0.5)
    assert render(large).shape == (256, 320, 3)
    assert np.allclose(np.array(small.person_box) * 2, large.person_box, atol=1.5)


# Videos


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_rotated_video_is_upright_once_turned_as_its_metadata_say(tmp_path: Path, rotation: Any) -> None:
    story = make_story(dataclasses.replace(DEMANDING, noise=(0.0, 0.0)), 3)
    path = tmp_path / "turned.mp4"
    write_video(path, story, seconds=0.25, rotation=rotation)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.rotation % 360 == -rotation % 360  # PyAV counts anti-clockwise
    upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    assert np.abs(upright.astype(int) - render(story.scene(0.0))).mean() < 8.0
