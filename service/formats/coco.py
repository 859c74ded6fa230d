"""A scene graph as a COCO data set of one video: boxes with tracks, and triplets beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from models.graph.scene_graph import Frame, GraphHead, SceneObject, Triplet
from models.graph.vocabulary import Vocabulary
from service.graph import GraphReader

_IN_MEMORY = 1 << 20  # bytes
_BLOCK = 1 << 18  # bytes
_VIDEO_ID = 1


def coco_document(graph: GraphReader) -> Iterator[bytes]:
    """The data set, frame by frame.

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
