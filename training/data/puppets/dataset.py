"""Writes Puppet Genome to disk, exactly in Action Genome's layout."""

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from training.data.action_genome import RAW_OBJECT_CLASSES, RAW_PREDICATES
from training.data.puppets.render import render
from training.data.puppets.story import RelatedThing, make_story
from training.data.puppets.video import write_video
from training.data.puppets.world import World

FRAME_RATE: Final = 24
"""Frames per second of the videos; file names count their frames."""
STEP: Final = 12
"""Video frames between two annotated ones: two annotations a second."""

TOLD_FILE: Final = "told_by_video.json"
"""Boxes of a thing that is used before or after a frame, and of its twin, by frame: only the whole video tells them."""

_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAMES: Final = len(_LETTERS) ** 5

_PNG: Final = [
    cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB,
]  # fmt: skip  # three times as fast as the default, and no larger: noise has no repetitions to look for

Split = Literal["train", "test"]


@dataclass(frozen=True)
class _Order:
    """A worker's order to make one video."""

    name: str
    split: Split
    seed: int


def story_seed(seed: int, split: Split, index: int) -> int:
    """Returns the seed of one video's story; no two videos of a data set share one, not even across splits."""
    state = np.random.SeedSequence([seed, 0 if split == "train" else 1, index]).generate_state(2, np.uint32)
    return int(state[0]) << 20 ^ int(state[1])


def video_name(seed: int, index: int) -> str:
    """Returns a name of five characters, as in Charades.

    A multiplier without common factor keeps names of different indices apart.
    """
    number = (index * 25_214_903 + seed * 7_919 + 4_242_421) % _NAMES
    characters = []
    for _ in range(5):
        number, digit = divmod(number, len(_LETTERS))
        characters.append(_LETTERS[digit])
    return "".join(characters)


def write_dataset(
    root: Path,
    world: World,
    *,
    train_videos: int,
    test_videos: int,
    frames_per_video: int,
    seed: int,
    write_videos: bool = False,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders a data set into `root`; the same arguments give the same files.

    write_videos: true to write the clips that the frames are taken from; they end with the last annotated frame.
    progress: called with the number of finished videos and of all videos.
    """
    parts: list[tuple[Split, int]] = [("train", index) for index in range(train_videos)]
    parts += [("test", index) for index in range(test_videos)]
    orders = [
        _Order(video_name(seed, position), split, story_seed(seed, split, index))
        for position, (split, index) in enumerate(parts)
    ]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "frames").mkdir(exist_ok=True)
    (root / "videos").mkdir(exist_ok=True)
    persons: dict[str, dict[str, Any]] = {}
    objects: dict[str, list[dict[str, Any]]] = {}
    told: dict[str, dict[str, Any]] = {}
    make = partial(_make_video, root, world, frames_per_video, write_videos)
    for done, (person_part, object_part, told_part) in enumerate(_mapped(make, orders, processes), start=1):
        persons.update(person_part)
        objects.update(object_part)
        told.update(told_part)
        if progress is not None:
            progress(done, len(orders))
    keys = sorted(persons)
    folder = root / "annotations"
    (folder / "object_classes.txt").write_text("\n".join(RAW_OBJECT_CLASSES) + "\n")
    (folder / "relationship_classes.txt").write_text("\n".join(RAW_PREDICATES) + "\n")
    (folder / "frame_list.txt").write_text("".join(f"{key}\n" for key in keys))
    with (folder / "person_bbox.pkl").open("wb") as file:
        pickle.dump({key: persons[key] for key in keys}, file, protocol=4)
    with (folder / "object_bbox_and_relationship.pkl").open("wb") as file:
        pickle.dump({key: objects[key] for key in keys}, file, protocol=4)
    if world.fetched:
        (folder / TOLD_FILE).write_text(json.dumps({key: told[key] for key in sorted(told)}) + "\n")
    facts = {
        "data_set": "Puppet Genome",
        "world": world.name,
        "knobs": asdict(world),
        "seed": seed,
        "train_videos": train_videos,
        "test_videos": test_videos,
        "frames_per_video": frames_per_video,
        "frames": len(keys),
        "frame_rate": FRAME_RATE,
        "frames_between_annotations": STEP,
    }
    (folder / "puppets.json").write_text(json.dumps(facts, indent=2) + "\n")


_Part = tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]


def _mapped(make: Callable[[_Order], _Part], orders: list[_Order], processes: int) -> Iterator[_Part]:
    """Makes the parts of all orders, in several processes if asked for; yields them in order."""
    if processes <= 1:
        yield from map(make, orders)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        yield from pool.map(make, orders, chunksize=8)


def _start_worker() -> None:
    """Limits a process to one thread: the processes already fill the cores."""
    cv2.setNumThreads(1)


def _make_video(root: Path, world: World, frames: int, write_videos: bool, order: _Order) -> _Part:
    """Writes one video's frames; returns its share of the annotation files."""
    story = make_story(world, order.seed, seconds=max(frames * STEP / FRAME_RATE, 1.0))
    folder = root / "frames" / f"{order.name}.mp4"
    folder.mkdir(exist_ok=True)
    persons: dict[str, dict[str, Any]] = {}
    objects: dict[str, list[dict[str, Any]]] = {}
    told: dict[str, dict[str, Any]] = {}
    for number in range(0, frames * STEP, STEP):
        scene = story.scene(number / FRAME_RATE)
        file = f"{number:06d}.png"
        bgr = cv2.cvtColor(render(scene), cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(folder / file), bgr, _PNG):
            raise OSError(f"{folder / file} cannot be written; check that the disk has room")
        key = f"{order.name}.mp4/{file}"
        persons[key] = {
            "bbox": np.array([scene.person_box], dtype=np.float32),
            "bbox_size": (world.width, world.height),
        }
        objects[key] = [_record(thing, order, number) for thing in scene.things]
        if (pair := story.told_by_video(scene, number / FRAME_RATE)) is not None:
            thing, twin = pair
            told[key] = {"class": thing.name, "used": thing.box, "unused": twin}
    if write_videos:
        write_video(root / "videos" / f"{order.name}.mp4", story, ((frames - 1) * STEP + 1) / FRAME_RATE, FRAME_RATE)
    return persons, objects, told


def _record(thing: RelatedThing, order: _Order, number: int) -> dict[str, Any]:
    """Returns one thing as Action Genome stores it."""
    x0, y0, x1, y1 = thing.box
    return {
        "class": thing.name,
        "bbox": (x0, y0, x1 - x0, y1 - y0) if thing.visible else None,
        "attention_relationship": list(thing.attention),
        "spatial_relationship": list(thing.spatial),
        "contacting_relationship": list(thing.contacting),
        "metadata": {"tag": f"{order.name}.mp4/{thing.name}/{number:06d}", "set": order.split},
        "visible": thing.visible,
    }
