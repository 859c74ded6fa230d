"""A stored scene graph in the formats of other programs.

json: the graph as it is stored.
jsonl: its frames, one on a line.
graphml: objects as nodes and relations as edges, for networkx, Gephi and other graph tools.
coco: boxes as COCO annotations with tracks, triplets beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, Literal

from models.graph.scene_graph import Frame, GraphHead, Relation, SceneObject, Triplet
from models.graph.vocabulary import Vocabulary
from service.errors import InvalidOption
from service.graph import GraphReader

Format = Literal["json", "jsonl", "graphml", "coco"]
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "graphml": "application/graphml+xml",
    "coco": "application/vnd.coco+json",
}
_BLOCK = 1 << 16
"""Least bytes of every block but the last: to send a block costs a turn of a thread."""
_IN_MEMORY = 1 << 20  # bytes
_VIDEO_ID = 1


def parse_format(text: str) -> Format:
    """Reads the name of a format. Raises InvalidOption with the names there are."""
    for form in MEDIA_TYPES:
        if form == text:
            return form
    raise InvalidOption("format", f"format is {text[:40]!r}, but must be one of {', '.join(MEDIA_TYPES)}")


def formatted(blocks: Iterable[bytes], form: Format) -> Iterator[bytes]:
    """The document that `write_graph` has written, read in `blocks` that are cut anywhere, in another format.

    Frames pass one after the other; nothing is read before the first block of the answer is asked for. Raises
    ValueError for a document that `write_graph` has not written, and the errors of reading a block.
    """
    if form == "json":
        yield from blocks
    else:
        yield from _gathered(_WRITERS[form](GraphReader(blocks)))


def _gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _frame_lines(graph: GraphReader) -> Iterator[bytes]:
    for frame in graph.frames():
        yield frame + b"\n"


def coco_document(graph: GraphReader) -> Iterator[bytes]:
    """A COCO data set of one video, frame by frame: boxes with tracks, and triplets beside them.

    `images` are the sampled frames, `annotations` their objects (`track_id` is the object's id in the graph) and
    `relations` the triplets, whose `subject_id` and `object_id` are ids of annotations. `categories` are the objects of
    the graph's vocabulary, `predicates` its predicates. Ids of predicates count from 0, all others from 1.
    """
    head, vocabulary = graph.head, graph.head.vocabulary
    # A COCO file has one list after the other, and a frame has entries for all three: two of them wait aside.
    with (
        SpooledTemporaryFile(max_size=_IN_MEMORY) as images,
        SpooledTemporaryFile(max_size=_IN_MEMORY) as relations,
    ):
        yield b'{"info":' + _json(_info(head)) + b',"videos":' + _json([_video(head)])
        yield b',"categories":' + _json(_categories(vocabulary)) + b',"predicates":' + _json(_predicates(vocabulary))
        yield b',"annotations":['
        annotation_count = relation_count = 0
        for index, line in enumerate(graph.frames()):
            frame = Frame.model_validate_json(line)
            image_id = index + 1
            ids = {thing.id: annotation_count + number for number, thing in enumerate(frame.objects, 1)}
            entries = [_annotation(ids[thing.id], image_id, thing, vocabulary) for thing in frame.objects]
            yield _listed(entries, is_first=annotation_count == 0)
            images.write(_listed([_image(image_id, frame, head)], is_first=index == 0))
            triplets = [
                _relation(relation_count + number, image_id, triplet, ids, vocabulary)
                for number, triplet in enumerate(frame.triplets, 1)
            ]
            relations.write(_listed(triplets, is_first=relation_count == 0))
            annotation_count += len(entries)
            relation_count += len(triplets)
        yield b'],"images":['
        yield from _content(images)
        yield b'],"relations":['
        yield from _content(relations)
        yield b"]}\n"


def _info(head: GraphHead) -> dict[str, Any]:
    return {
        "description": f"scene graph {head.id}",
        "version": "1.0",
        "model": head.model.model_dump(),
        "options": head.options.model_dump(),
    }


def _video(head: GraphHead) -> dict[str, Any]:
    return {"id": _VIDEO_ID, "name": head.id, **head.video.model_dump()}


def _categories(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    return [
        {"id": index, "name": name, "supercategory": name if name in vocabulary.subjects else "thing"}
        for index, name in enumerate(vocabulary.objects, 1)
    ]


def _predicates(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    return [
        {"id": index, "name": name, "group": vocabulary.group_of(name).name}
        for index, name in enumerate(vocabulary.predicates)
    ]


def _image(image_id: int, frame: Frame, head: GraphHead) -> dict[str, Any]:
    return {
        "id": image_id,
        "video_id": _VIDEO_ID,
        "frame_index": frame.index,
        "timestamp": frame.timestamp,
        "file_name": f"{head.id}/{frame.index:06d}.jpg",
        "width": head.video.width,
        "height": head.video.height,
    }


def _annotation(annotation_id: int, image_id: int, thing: SceneObject, vocabulary: Vocabulary) -> dict[str, Any]:
    x1, y1, x2, y2 = thing.box
    width, height = round(x2 - x1, 1), round(y2 - y1, 1)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": vocabulary.object_index[thing.label] + 1,
        "track_id": thing.id,
        "bbox": [x1, y1, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": thing.score,
    }


def _relation(
    relation_id: int, image_id: int, triplet: Triplet, ids: dict[int, int], vocabulary: Vocabulary
) -> dict[str, Any]:
    return {
        "id": relation_id,
        "image_id": image_id,
        "subject_id": ids[triplet.subject],
        "predicate_id": vocabulary.predicate_index[triplet.predicate],
        "object_id": ids[triplet.object],
        "predicate_score": triplet.predicate_score,
        "relation_score": triplet.relation_score,
        "score": triplet.score,
    }


def _listed(entries: Iterable[dict[str, Any]], *, is_first: bool) -> bytes:
    """Entries of a list that goes on, each on a line of its own."""
    text = b",\n".join(_json(entry) for entry in entries)
    return text if is_first or not text else b",\n" + text


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _content(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(_BLOCK):
        yield block


@dataclass
class _Node:
    label: str
    first_seen: float
    last_seen: float
    frames: int = 0
    score_sum: float = 0.0


def graphml_document(graph: GraphReader) -> Iterator[bytes]:
    """The graph in GraphML, in one block: a temporal multigraph of objects and the relations between them.

    Both have their times in seconds; there are no frames. Node ids are object ids. Values that are null in the graph
    are left out, since GraphML has no null.
    """
    # Imported when it is needed: it takes longer than the rest of a command, and most never write this.
    import networkx as nx

    nodes: dict[int, _Node] = {}
    for line in graph.frames():
        frame = Frame.model_validate_json(line)
        for thing in frame.objects:
            _note(nodes, thing, frame.timestamp)
    document = nx.MultiDiGraph(**_about(graph.head))
    for identity, node in nodes.items():
        document.add_node(
            identity,
            label=node.label,
            first_seen=node.first_seen,
            last_seen=node.last_seen,
            frames=node.frames,
            score=round(node.score_sum / node.frames, 4),
        )
    for number, relation in enumerate(graph.tail().relations, 1):
        # Readers want every edge of the document to have an id of its own.
        document.add_edge(
            relation.subject,
            relation.object,
            key=f"relation{number}",
            **_edge(relation, graph.head.vocabulary),
        )
    out = BytesIO()
    nx.write_graphml_xml(document, out)
    yield out.getvalue() + b"\n"


def _note(nodes: dict[int, _Node], thing: SceneObject, time: float) -> None:
    node = nodes.setdefault(thing.id, _Node(thing.label, first_seen=time, last_seen=time))
    node.last_seen = time
    node.frames += 1
    node.score_sum += thing.score


def _about(head: GraphHead) -> dict[str, Any]:
    return {
        "id": head.id,
        **head.video.model_dump(exclude={"codec"}, exclude_none=True),
        "model": head.model.name,
        "model_version": head.model.version,
        "fps": head.options.fps,
    }


def _edge(relation: Relation, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "predicate": relation.predicate,
        "group": vocabulary.group_of(relation.predicate).name,
        **relation.model_dump(include={"start", "end", "score", "relation_score"}, exclude_none=True),
    }


_WRITERS: Mapping[Format, Callable[[GraphReader], Iterator[bytes]]] = {
    "jsonl": _frame_lines,
    "graphml": graphml_document,
    "coco": coco_document,
}
