"""An archive in the formats of other programs: GraphML, Neo4j's CSV, COCO."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final
from xml.sax.saxutils import escape, quoteattr

from service.archive.errors import ArchiveError
from service.archive.videos import ArchivedVideo, Row

_GRAPHML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
_NODE_FIELDS = {
    "video": "string",
    "path": "string",
    "owner": "string",
    "label": "string",
    "first": "double",
    "last": "double",
    "score": "double",
}
_EDGE_FIELDS = {
    "predicate": "string",
    "start": "double",
    "end": "double",
    "score": "double",
    "relation_score": "double",
}
NEO4J_FILES: Final = ("videos.csv", "objects.csv", "shown_in.csv", "relations.csv")
"""Files of nodes, nodes, relationships and relationships."""


def write_graphml(videos: Iterable[ArchivedVideo], out: Path) -> int:
    """Writes one temporal multigraph of all videos, and returns how many there were.

    A node is an object of a video, `KEY:ID`, an edge a relation. Times are seconds. Null values are left out, since
    GraphML has no null.
    """
    count = edges = 0
    with out.open("w", encoding="utf-8") as file:
        file.write(_GRAPHML_HEAD)
        for kind, fields in (("node", _NODE_FIELDS), ("edge", _EDGE_FIELDS)):
            for name, type_name in fields.items():
                file.write(f'<key id="{kind}_{name}" for="{kind}" attr.name="{name}" attr.type="{type_name}"/>\n')
        file.write('<graph edgedefault="directed">\n')
        # Readers want every node before the edges that name it; those of one video suffice.
        for count, video in enumerate(videos, 1):  # noqa: B007 - the last one is returned
            for thing in video.objects:
                values = thing | {"path": video.row["path"]}
                node = quoteattr(_node(video, thing["id"]))
                file.write(f"<node id={node}>{_data('node', _NODE_FIELDS, values)}</node>\n")
            for relation in video.relations:
                edges += 1
                source, target = (quoteattr(_node(video, relation[end])) for end in ("subject", "object"))
                data = _data("edge", _EDGE_FIELDS, relation)
                file.write(f'<edge id="relation{edges}" source={source} target={target}>{data}</edge>\n')
        file.write("</graph>\n</graphml>\n")
    return count


def _node(video: ArchivedVideo, identity: int) -> str:
    return f"{video.key}:{identity}"


def _data(kind: str, fields: Iterable[str], values: Row) -> str:
    given = ((name, values[name]) for name in fields if values[name] is not None)
    return "".join(f'<data key="{kind}_{name}">{escape(str(value))}</data>' for name, value in given)


def write_neo4j(videos: Iterable[ArchivedVideo], out: Path) -> int:
    """Writes the files of `neo4j-admin database import` into a folder, and returns the number of videos.

    Nodes are videos (`Video`) and their objects (`Object`); relationships are relations, with their predicate in
    capitals as type, and `SHOWN_IN` from an object to its video.
    """
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with ExitStack() as stack:
        files = [stack.enter_context((out / name).open("w", encoding="utf-8", newline="")) for name in NEO4J_FILES]
        of_videos, of_objects, shown_in, of_relations = map(csv.writer, files)
        of_videos.writerow(
            ["key:ID(Video)", "path", "owner", "sha256", "model", "duration:double", "frames:int", ":LABEL"]
        )
        of_objects.writerow(
            ["key:ID(Object)", "id:int", "label", "first:double", "last:double", "score:double", "owner", ":LABEL"]
        )
        shown_in.writerow([":START_ID(Object)", ":END_ID(Video)", ":TYPE"])
        numbers = ("start:double", "end:double", "score:double", "relation_score:double")
        of_relations.writerow([":START_ID(Object)", *numbers, ":END_ID(Object)", ":TYPE"])
        for count, video in enumerate(videos, 1):  # noqa: B007 - the last one is returned
            told = (video.row[name] for name in ("video", "path", "owner", "sha256", "model", "duration", "frames"))
            of_videos.writerow([*told, "Video"])
            for thing in video.objects:
                node = _node(video, thing["id"])
                told = (thing[name] for name in ("id", "label", "first", "last", "score", "owner"))
                of_objects.writerow([node, *told, "Object"])
                shown_in.writerow([node, video.key, "SHOWN_IN"])
            for relation in video.relations:
                ends = [_node(video, relation[end]) for end in ("subject", "object")]
                values = (relation[name] for name in ("start", "end", "score", "relation_score"))
                of_relations.writerow([ends[0], *values, ends[1], relation["predicate"].upper()])
    return count


def write_coco(videos: Iterable[ArchivedVideo], out: Path) -> int:
    """Writes a COCO data set of all videos, as `GET /videos/{id}?format=coco` has one, and returns their number.

    Categories and predicates are those of all models. Raises ArchiveError where the archive keeps no frames.
    """
    lists = ("videos", "images", "annotations", "relations")
    categories: dict[str, int] = {}
    predicates: dict[str, dict[str, Any]] = {}
    counts = dict.fromkeys(lists, 0)
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {name: stack.enter_context(TemporaryFile()) for name in lists}

        def add(name: str, entry: Row) -> int:
            counts[name] += 1
            row = {"id": counts[name], **entry}
            files[name].write((b",\n" if counts[name] > 1 else b"") + _json(row))
            return counts[name]

        for video in with_frames(videos):
            video_id = add("videos", _coco_video(video))
            for label in video.vocabulary.objects:
                categories.setdefault(label, len(categories) + 1)
            for group in video.vocabulary.groups:
                for predicate in group.predicates:
                    predicates.setdefault(predicate, {"id": len(predicates), "name": predicate, "group": group.name})
            for frame in video.frames:
                image_id = add("images", _coco_image(video, frame, video_id))
                ids = {
                    thing["id"]: add("annotations", _coco_annotation(thing, image_id, categories))
                    for thing in frame["objects"]
                }
                for triplet in frame["triplets"]:
                    add("relations", _coco_relation(triplet, image_id, ids, predicates))
        with out.open("wb") as file:
            file.write(b'{"info":' + _json({"description": "scene graphs of an archive", "version": "1.0"}))
            file.write(b',"categories":' + _json([{"id": id, "name": name} for name, id in categories.items()]))
            file.write(b',"predicates":' + _json(list(predicates.values())))
            for name in lists:
                file.write(f',"{name}":['.encode())
                file.writelines(_content(files[name]))
                file.write(b"]")
            file.write(b"}\n")
    return counts["videos"]


def with_frames(videos: Iterable[ArchivedVideo]) -> Iterator[ArchivedVideo]:
    """The videos as they come. Raises ArchiveError where the archive keeps no frames of one."""
    for video in videos:
        if not video.frames and video.row["frames"]:
            raise ArchiveError(
                f"the archive keeps no frames of {video.row['path'] or video.key}, and this format needs them: write "
                "another archive with `vsg batch --frames`"
            )
        yield video


def _coco_video(video: ArchivedVideo) -> Row:
    fields = ("sha256", "path", "width", "height", "duration", "frame_rate")
    return {"name": video.key, **{name: video.row[name] for name in fields}}


def _coco_image(video: ArchivedVideo, frame: Row, video_id: int) -> Row:
    return {
        "video_id": video_id,
        "frame_index": frame["index"],
        "timestamp": frame["timestamp"],
        "file_name": video.picture_name(frame),
        "width": video.row["width"],
        "height": video.row["height"],
    }


def _coco_annotation(thing: Row, image_id: int, categories: dict[str, int]) -> Row:
    x1, y1, x2, y2 = thing["box"]
    width, height = round(x2 - x1, 1), round(y2 - y1, 1)
    return {
        "image_id": image_id,
        "category_id": categories[thing["label"]],
        "track_id": thing["id"],
        "bbox": [x1, y1, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": thing["score"],
    }


def _coco_relation(triplet: Row, image_id: int, ids: dict[int, int], predicates: dict[str, dict[str, Any]]) -> Row:
    return {
        "image_id": image_id,
        "subject_id": ids[triplet["subject"]],
        "predicate_id": predicates[triplet["predicate"]]["id"],
        "object_id": ids[triplet["object"]],
        **{name: triplet[name] for name in ("predicate_score", "relation_score", "score")},
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _content(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(1 << 18):
        yield block
