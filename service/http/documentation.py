"""What FastAPI cannot see by itself: bodies, options and answers of routes that stream."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import Path
from fastapi.responses import PlainTextResponse

from models.graph.scene_graph import SceneGraph, Status
from service.formats import MEDIA_TYPES
from service.http.link import URL_FIELD, LinkBody
from service.jobs import VIDEO_ID
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
_PROBLEM: dict[str, Any] = {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA}}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "What is wrong with the request", "content": _PROBLEM},
    "5XX": {"description": "What is wrong with the service", "content": _PROBLEM},
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


def _as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an option in a form or a query: they have no null, what is not given is left out."""
    if schema.get("type") == "boolean":
        return {"enum": ["true", "false", "1", "0"], "description": schema["description"]}
    if "anyOf" in schema:
        given, _ = schema["anyOf"]
        return {**given, "description": schema["description"]}
    return schema


_OPTIONS = {name: _as_text(schema) for name, schema in _PROPERTIES.items() if name != URL_FIELD}
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["video"],
    "properties": {"video": {"type": "string", "format": "binary"}, **_OPTIONS},
    "additionalProperties": False,
}
_LINK: dict[str, Any] = {
    "type": "object",
    "required": [URL_FIELD],
    "properties": _PROPERTIES,
    "additionalProperties": False,
}


def _status(*statuses: str) -> dict[str, Any]:
    """The schema of what is said about a job that is one of these."""
    count = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": {"type": "string"},
            "status": {"enum": list(statuses)},
            "progress": {
                "type": "object",
                "required": ["frames", "expected"],
                "properties": {"frames": count, "expected": count},
            },
        },
    }


_STATUS = _status("queued", "running")


def _event(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """The schema of one server-sent event that has one of these names."""
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"enum": list(names)}, "id": {"type": "string"}, "data": data},
    }


_EVENT = _event(
    {"type": "string", "contentMediaType": "application/json", "contentSchema": _status(*get_args(Status))},
    "progress",
    "end",
)

VideoId = Annotated[str, Path(json_schema_extra={"pattern": f"^{VIDEO_ID.pattern}$"})]
"""The parameter `video_id`. The pattern is only told: an id that does not fit it is not found, like any other."""
_LINKS = {
    name: {"operationId": name, "parameters": {"video_id": "$response.body#/id"}}
    for name in ("get_video", "get_prompt", "get_caption", "get_events", "delete_video")
}
_POSTED: dict[str, Any] = {
    "headers": {
        "Location": {"schema": {"type": "string"}, "description": "where to ask for the video"},
        "Preference-Applied": {"schema": {"type": "string"}, "description": "what was honoured of `Prefer`"},
    },
    "links": _LINKS,
}
POST_VIDEO: dict[str, Any] = {
    "operation_id": "post_video",
    "response_model": SceneGraph,
    "responses": {
        200: {"description": "The graph", **_POSTED},
        202: {
            "description": "Not ready yet: ask again at `Location`",
            "content": {"application/json": {"schema": _STATUS}},
            **_POSTED,
        },
    },
    "openapi_extra": {
        "parameters": [
            *(
                {"name": name, "in": "query", "schema": schema, "allowEmptyValue": True}
                for name, schema in _OPTIONS.items()
            ),
            {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "description": "wait=N, respond-async"},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _FORM, "encoding": {"video": {"contentType": "video/*"}}},
                "video/*": _BYTES,
                "application/octet-stream": _BYTES,
                "application/json": {"schema": _LINK},
            },
        },
    },
}
GET_VIDEO: dict[str, Any] = {
    "operation_id": "get_video",
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
    },
}
DELETE_VIDEO: dict[str, Any] = {"operation_id": "delete_video"}
GET_EVENTS: dict[str, Any] = {
    "operation_id": "get_events",
    "responses": {
        200: {
            "description": "Events `progress` with the status of `GET /videos/{id}`, then one `end`",
            "content": {"text/event-stream": {"schema": _EVENT}},
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
    "operation_id": "get_prompt",
    "responses": {
        200: {
            "description": "The prompt",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "array"}},
            },
        }
    },
}
GET_METRICS: dict[str, Any] = {
    "response_class": PlainTextResponse,
    "responses": {200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}},
}
GET_CAPTION: dict[str, Any] = {
    "operation_id": "get_caption",
    "responses": {
        200: {
            "description": "The caption, piece by piece as the model writes it; as events `caption`, then one `end` or "
            "`problem`, for who accepts text/event-stream",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "text/event-stream": {"schema": _event({"type": "string"}, "caption", "end", "problem")},
            },
        }
    },
}
