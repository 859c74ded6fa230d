"""Writes small data folders in Action Genome's layout."""

from __future__ import annotations

import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from training.data.action_genome import RAW_OBJECT_CLASSES, RAW_PREDICATES

SIZE = (480, 270)
Records = dict[str, Any]


def png(size: tuple[int, int]) -> bytes:
    """A black image."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes((size[0] + 1) * size[1]))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def person(*boxes: list[float], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """A record of the file of persons."""
    return {
        "bbox": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "bbox_size": size,
        "bbox_mode": "xyxy",
        "keypoints": np.zeros((len(boxes), 17, 3), dtype=np.float32),
    }


def thing(name: str = "table", split: str = "train", **changes: Any) -> dict[str, Any]:
    """A record of one visible object."""
    return {
        "class": name,
        "bbox": (100.0, 50.0, 60.0, 40.0),
        "attention_relationship": ["looking_at"],
        "spatial_relationship": ["in_front_of", "beneath"],
        "contacting_relationship": ["touching"],
        "visible": True,
        "metadata": {"tag": f"AAAAA.mp4/{name}/000010", "set": split},
        **changes,
    }


def hidden(split: str = "train") -> dict[str, Any]:
    """A record of one object that is not visible."""
    relations = {f"{group}_relationship": None for group in ("attention", "spatial", "contacting")}
    return thing("light", split, visible=False, bbox=None, **relations)


def write(root: Path, persons: Any, objects: Any, *, images: bool = True) -> Path:
    """Writes both pickles, the class files and, by default, a black image for each person."""
    annotations = root / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    (annotations / "object_classes.txt").write_text("\n".join(RAW_OBJECT_CLASSES) + "\n")
    (annotations / "relationship_classes.txt").write_text("\n".join(RAW_PREDICATES) + "\n")
    (annotations / "person_bbox.pkl").write_bytes(pickle.dumps(persons))
    (annotations / "object_bbox_and_relationship.pkl").write_bytes(pickle.dumps(objects))
    for key, record in persons.items() if images else ():
        path = root / "frames" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(record["bbox_size"]))
    return root


def records(video: str = "AAAAA.mp4", split: str = "train", frames: int = 3) -> tuple[Records, Records]:
    """Persons and objects of one video's frames 10, 20, …"""
    keys = [f"{video}/{10 * (frame + 1):06d}.png" for frame in range(frames)]
    return {key: person([10, 20, 90, 200]) for key in keys}, {key: [thing(split=split)] for key in keys}


def write_two_videos(root: Path) -> Path:
    """One training video of three frames and one test video of three frames."""
    persons, objects = records()
    test_persons, test_objects = records("BBBBB.mp4", "test")
    return write(root, persons | test_persons, objects | test_objects)


def rewrite(root: Path, name: str, change: Any) -> None:
    """Changes the content of one pickle."""
    path = root / "annotations" / name
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


def rewrite_objects(root: Path, change: Any) -> None:
    """Changes the content of the pickle of objects."""
    rewrite(root, "object_bbox_and_relationship.pkl", change)


def change_first(**changes: Any) -> Any:
    """Changes fields of the first object; an argument for `rewrite_objects`."""

    def change(objects: Records) -> None:
        next(iter(objects.values()))[0].update(changes)

    return change


class Touch:
    """An object that creates a file when `pickle` loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)
