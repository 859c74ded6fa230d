"""Scene graphs of videos, in this process or from a service.

    from vsg import open_model

    graph = open_model("arn-compact")("clip.mp4")
    print(graph.prompt)

`open_model` opens a bundle and runs it here; `Client` and `AsyncClient` talk to a service. Both give a `SceneGraph`,
take the same options, and raise the same errors (`vsg.errors`). docs/python.md is the guide. What this module exports
is the public interface; nothing is loaded before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.graph.scene_graph import SceneGraph
    from vsg.async_client import AsyncClient
    from vsg.client import Client
    from vsg.errors import (
        AccessError,
        BusyError,
        JobCancelledError,
        NotFoundError,
        OpenModelError,
        OptionError,
        ProblemError,
        QueryError,
        UnreachableError,
        UnusableVideoError,
        VsgError,
    )
    from vsg.model import Model, open_model
    from vsg.values import ClientOptions, FoundRelation, GraphOptions, Job, ModelInfo, Moment, MomentPage, Progress

__all__ = [
    "AccessError",
    "AsyncClient",
    "BusyError",
    "Client",
    "ClientOptions",
    "FoundRelation",
    "GraphOptions",
    "Job",
    "JobCancelledError",
    "Model",
    "ModelInfo",
    "Moment",
    "MomentPage",
    "NotFoundError",
    "OpenModelError",
    "OptionError",
    "ProblemError",
    "Progress",
    "QueryError",
    "SceneGraph",
    "UnreachableError",
    "UnusableVideoError",
    "VsgError",
    "open_model",
]

_MODULES = {
    "AsyncClient": "vsg.async_client",
    "Client": "vsg.client",
    "GraphOptions": "vsg.values",
    "Job": "vsg.values",
    "Model": "vsg.model",
    "FoundRelation": "vsg.values",
    "ModelInfo": "vsg.values",
    "Moment": "vsg.values",
    "MomentPage": "vsg.values",
    "Progress": "vsg.values",
    "ClientOptions": "vsg.values",
    "SceneGraph": "models.graph.scene_graph",
    "open_model": "vsg.model",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES.get(name, "vsg.errors")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
