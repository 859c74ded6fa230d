"""An archive's frames for annotation tools, Label Studio and CVAT, where people correct boxes and relations.

`vsg data relations label-studio` and `… cvat` read what the tools give back. A picture is named `KEY/SECONDS.jpg`; the
reader takes video and time from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from service.archive.exports import with_frames
from service.archive.videos import ArchivedVideo, Row

LOCAL_FILES: Final = "/data/local-files/?d="
"""Address of Label Studio's local storage."""
RELATIONS: Final = "relations"
PROPOSED: Final = "proposed"
"""Attributes of CVAT's boxes: `holding 3; looking_at 3` on the subject, by the number of the object. The second is the
model's and stays as it is: what was there and is gone was wrong."""
_CVAT_ATTRIBUTES: Final = ("number", RELATIONS, PROPOSED)


def write_label_studio(
    videos: Iterable[ArchivedVideo], out: Path, *, configuration: Path, pictures: str = LOCAL_FILES
) -> int:
    """Writes tasks of Label Studio with the model's boxes and relations, and returns the number of videos.

    configuration: gets the labelling configuration of the tasks' project.
    pictures: what the address of a picture begins with.

    Raises ArchiveError where the archive keeps no frames.
    """
    count = 0
    labels: dict[str, None] = {}
    predicates: dict[str, None] = {}
    with out.open("w", encoding="utf-8") as file:
        file.write("[")
        separator = "\n"
        for count, video in enumerate(with_frames(videos), 1):  # noqa: B007 - the last one is returned
            labels |= dict.fromkeys(video.vocabulary.objects)
            predicates |= dict.fromkeys(video.vocabulary.predicates)
            for frame in video.frames:
                file.write(separator + json.dumps(_task(video, frame, pictures)))
                separator = ",\n"
        file.write("\n]\n")
    configuration.write_text(_configuration(labels, predicates), encoding="utf-8")
    return count


def _task(video: ArchivedVideo, frame: Row, pictures: str) -> Row:
    name = video.picture_name(frame)
    result = [_region(video, thing) for thing in frame["objects"]]
    result += [_link(triplet) for triplet in frame["triplets"]]
    proposed = [[triplet["subject"], triplet["predicate"], triplet["object"]] for triplet in frame["triplets"]]
    about = {"video": video.key, "time": frame["timestamp"], "path": video.row["path"], PROPOSED: proposed}
    model = f"{video.row['model']} {video.row['model_version']}"
    return {"data": {"image": pictures + name, **about}, "predictions": [{"model_version": model, "result": result}]}


def _region(video: ArchivedVideo, thing: Row) -> Row:
    width, height = video.row["width"], video.row["height"]
    x1, y1, x2, y2 = thing["box"]
    value = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
        "rectanglelabels": [thing["label"]],
    }
    return {
        "id": str(thing["id"]),
        "type": "rectanglelabels",
        "from_name": "objects",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": thing["score"],
        "value": value,
    }


def _link(triplet: Row) -> Row:
    ends = {"from_id": str(triplet["subject"]), "to_id": str(triplet["object"])}
    return {"type": "relation", **ends, "direction": "right", "labels": [triplet["predicate"]]}


def _configuration(labels: Iterable[str], predicates: Iterable[str]) -> str:
    boxes = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    links = "".join(f"    <Relation value={quoteattr(name)}/>\n" for name in predicates)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="objects" toName="image">\n{boxes}  </RectangleLabels>\n'
        f"  <Relations>\n{links}  </Relations>\n</View>\n"
    )


def write_cvat(videos: Iterable[ArchivedVideo], out: Path, *, labels: Path) -> int:
    """Writes annotations in the format `CVAT for images 1.1`, and returns the number of videos.

    CVAT has no relations: they are texts of the subject's box.

    labels: gets the labels of the task, for the raw constructor of CVAT.

    Raises ArchiveError where the archive keeps no frames.
    """
    count = number = 0
    names: dict[str, None] = {}
    with out.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        for count, video in enumerate(with_frames(videos), 1):  # noqa: B007 - the last one is returned
            names |= dict.fromkeys(video.vocabulary.objects)
            for frame in video.frames:
                size = f'width="{video.row["width"]}" height="{video.row["height"]}"'
                file.write(f'  <image id="{number}" name={quoteattr(video.picture_name(frame))} {size}>\n')
                file.writelines(_cvat_boxes(frame))
                file.write("  </image>\n")
                number += 1
        file.write("</annotations>\n")
    texts = [
        {"name": name, "input_type": "text", "mutable": False, "values": [""], "default_value": ""}
        for name in _CVAT_ATTRIBUTES
    ]
    described = [{"name": label, "type": "rectangle", "attributes": texts} for label in names]
    labels.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return count


def _cvat_boxes(frame: Row) -> Iterator[str]:
    told: dict[int, list[str]] = {}
    for triplet in frame["triplets"]:
        told.setdefault(triplet["subject"], []).append(f"{triplet['predicate']} {triplet['object']}")
    for thing in frame["objects"]:
        relations = "; ".join(told.get(thing["id"], ()))
        values: Mapping[str, Any] = dict(zip(_CVAT_ATTRIBUTES, (thing["id"], relations, relations), strict=True))
        corners = " ".join(
            f'{name}="{value:.1f}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), thing["box"], strict=True)
        )
        yield f'    <box label={quoteattr(thing["label"])} source="auto" occluded="0" {corners} z_order="0">\n'
        for name, value in values.items():
            yield f'      <attribute name="{name}">{escape(str(value))}</attribute>\n'
        yield "    </box>\n"
