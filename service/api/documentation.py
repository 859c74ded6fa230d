"""What FastAPI cannot see by itself: bodies, options and answers of routes that stream."""

from __future__ import annotations

from typing import Any

from models.scene_graph import SceneGraph
from service.api.link import URL_FIELD, LinkBody
from service.formats import MEDIA_TYPES
from service.problem import MEDIA_TYPE

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "description": "stable; see docs/api.md"},
        "option": {"type": "string", "description": "the option that is wrong"},
        "job_id": {"type": "string", "description": "the job that failed"},
    },
}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "What is wrong with the request", "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA}}}
}

_DESCRIPTIONS = {
    "model": "name of a model of GET /models; the first is the default",
    "fps": "frames sampled per second, over 0 and at most 1000",
    "start": "seconds from the beginning where sampling starts",
    "end": "seconds from the beginning where it ends",
    "max_frames": "most frames to sample",
    "min_score": "least score of a triplet, 0 to 1",
    "top_k": "most triplets per frame, 1 to 1000",
    "constraint": "predicates kept of a pair: with (best of each group), semi (also those over 0.9), no (all)",
    "webhook": "URL that is told when the job has ended",
    "url": "where the video is; only hosts that the operator has named",
    "uncertainty": "whether triplets carry the model's uncertainty, where it knows it",
}
_PROPERTIES: dict[str, Any] = {
    name: {**schema, "description": _DESCRIPTIONS[name]}
    for name, schema in LinkBody.model_json_schema()["properties"].items()
}
_OPTIONS = {name: schema for name, schema in _PROPERTIES.items() if name != URL_FIELD}
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["video"],
    "properties": {"video": {"type": "string", "format": "binary"}, **_OPTIONS},
}
_LINK: dict[str, Any] = {
    "type": "object",
    "required": [URL_FIELD],
    "properties": _PROPERTIES,
    "additionalProperties": False,
}
_STATUS: dict[str, Any] = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["queued", "running"]},
        "progress": {
            "type": "object",
            "properties": {"frames": {"type": "integer"}, "expected": {"type": "integer"}},
        },
    },
}

POST_VIDEO: dict[str, Any] = {
    "response_model": SceneGraph,
    "responses": {
        202: {
            "description": "Not ready yet: ask again at `Location`",
            "content": {"application/json": {"schema": _STATUS}},
            "headers": {"Location": {"schema": {"type": "string"}}},
        }
    },
    "openapi_extra": {
        "parameters": [
            *({"name": name, "in": "query", "schema": schema} for name, schema in _OPTIONS.items()),
            {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "description": "wait=N, respond-async"},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _FORM},
                "video/*": _BYTES,
                "application/octet-stream": _BYTES,
                "application/json": {"schema": _LINK},
            },
        },
    },
}
GET_VIDEO: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The graph, or the status while it is being made",
            "content": {
                "application/json": {"schema": {"anyOf": [{"$ref": "#/components/schemas/SceneGraph"}, _STATUS]}},
                MEDIA_TYPES["jsonl"]: {"schema": {"$ref": "#/components/schemas/Frame"}},
                MEDIA_TYPES["graphml"]: {"schema": {"type": "string"}},
                MEDIA_TYPES["coco"]: {"schema": {"type": "object"}},
            },
        }
    }
}
GET_EVENTS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "Events `progress` with the status of `GET /videos/{id}`, then one `end`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "`Last-Event-ID` was the end: there is nothing more"},
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "schema": {"type": "string"},
                "description": "id of the last event seen, which is not sent again",
            }
        ]
    },
}
GET_PROMPT: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The prompt",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "array"}},
            },
        }
    }
}
GET_CAPTION: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The caption, piece by piece as the model writes it; as events `caption`, then one `end` or "
            "`problem`, for who accepts text/event-stream",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        }
    }
}
