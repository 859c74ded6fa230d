"""The parts of the OpenAPI document that FastAPI cannot see: bodies, options, streams, keys."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import FastAPI, Path
from fastapi.responses import PlainTextResponse

from models.graph.scene_graph import SceneGraph, Status
from service.errors import PROBLEM_TYPE
from service.formats import MEDIA_TYPES
from service.http.access import FREE_PATHS
from service.http.uploads import URL_FIELD, VIDEO_FIELD, VideoUrl
from service.jobs import VIDEO_ID

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "description": "stable; see docs/errors.md"},
        "option": {"type": "string", "description": "the option that is wrong"},
        "line": {"type": "integer", "description": "where the query is wrong, from 1"},
        "column": {"type": "integer", "description": "where the query is wrong, from 1"},
        "expected": {"type": "array", "items": {"type": "string"}, "description": "what is known at that place"},
        "job_id": {"type": "string", "description": "the job that failed"},
    },
}
_PROBLEM: dict[str, Any] = {PROBLEM_TYPE: {"schema": _PROBLEM_SCHEMA}}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be served", "content": _PROBLEM},
    "5XX": {"description": "The service cannot serve the request", "content": _PROBLEM},
}

_PROPERTIES: dict[str, Any] = VideoUrl.model_json_schema()["properties"]


def _as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an option in a form or a query, where there is no null and every value is a text."""
    if schema.get("type") == "boolean":
        flag = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|1|0)$"
        return {"type": "string", "pattern": flag, "description": schema["description"]}
    if "anyOf" in schema:
        given, _ = schema["anyOf"]
        return {**given, "description": schema["description"]}
    return schema


_OPTIONS = {name: _as_text(schema) for name, schema in _PROPERTIES.items() if name != URL_FIELD}
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": [VIDEO_FIELD],
    "properties": {VIDEO_FIELD: {"type": "string", "format": "binary"}, **_OPTIONS},
    "additionalProperties": False,
}
_URL: dict[str, Any] = {
    "type": "object",
    "required": [URL_FIELD],
    "properties": _PROPERTIES,
    "additionalProperties": False,
}


def _status(*statuses: str) -> dict[str, Any]:
    """The schema of the status of a job that is in one of these states."""
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
    """The schema of a server-sent event that has one of these names."""
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

# The pattern is documented, not checked: an id that does not fit it is not found, like any other.
VideoId = Annotated[str, Path(json_schema_extra={"pattern": f"^{VIDEO_ID.pattern}$"})]
FrameIndex = Annotated[str, Path(json_schema_extra={"pattern": "^[0-9]{1,12}$"}, description="of a sampled frame")]
_LINKS = {
    name: {"operationId": name, "parameters": {"video_id": "$response.body#/id"}}
    for name in ("get_video", "get_prompt", "get_caption", "get_events", "delete_video")
}
_POSTED: dict[str, Any] = {
    "headers": {
        "Location": {"schema": {"type": "string"}, "description": "where to ask for the video"},
        "Preference-Applied": {"schema": {"type": "string"}, "description": "the part of `Prefer` that was honoured"},
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
                "multipart/form-data": {"schema": _FORM, "encoding": {VIDEO_FIELD: {"contentType": "video/*"}}},
                "video/*": _BYTES,
                "application/octet-stream": _BYTES,
                "application/json": {"schema": _URL},
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
GET_FRAME: dict[str, Any] = {
    "operation_id": "get_frame",
    "responses": {
        200: {
            "description": "The frame",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {"ETag": {"schema": {"type": "string"}, "description": "for `If-None-Match`"}},
        },
        304: {"description": "It is still the one that `If-None-Match` names"},
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "If-None-Match",
                "in": "header",
                "schema": {"type": "string"},
                "description": "the `ETag` of a frame that the caller has",
            }
        ]
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


def declare_keys(app: FastAPI) -> None:
    """Says in the document which operations need a key. Call it when all routes are there."""
    schema: dict[str, Any] = app.openapi()
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        if path not in FREE_PATHS:
            for operation in operations.values():
                operation["security"] = [{"key": []}]
