"""Values that go in and come out: options, progress, jobs, models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO, TypeAlias, TypedDict

from pydantic import BaseModel, ConfigDict

from models.graph.scene_graph import Constraint, Status
from models.graph.vocabulary import Vocabulary

VideoFile: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO"
"""A path, the bytes of a video file, or a binary file that is read from where it stands."""


class GraphOptions(TypedDict, total=False):
    """Options of a graph. An option that is not given, or is None, has the default of docs/api.md.

    fps: frames sampled per second.
    start: seconds from the beginning where sampling starts.
    end: seconds from the beginning where it ends.
    max_frames: most frames to sample.
    min_score: least score of a triplet, 0 to 1.
    top_k: most triplets per frame.
    constraint: `with`, `semi` or `no`: which predicates of a pair are kept.
    uncertainty: whether triplets carry the model's uncertainty, where it knows it.
    """

    fps: float | None
    start: float | None
    end: float | None
    max_frames: int | None
    min_score: float | None
    top_k: int | None
    constraint: Constraint | None
    uncertainty: bool | None


class ClientOptions(GraphOptions, total=False):
    """Options of a request to a service.

    model: name of one of its models; the first is the default.
    webhook: URL that is told when the job has ended.
    """

    model: str | None
    webhook: str | None


def option_texts(options: Mapping[str, Any]) -> dict[str, str]:
    """The options as the service reads them, without those that are None."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None
    }


class _Value(BaseModel):
    # A newer service may say more; its fields named model_… are no part of pydantic.
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Progress(_Value):
    """The progress of a graph.

    frames: sampled and done.
    expected: how many there will be; the most possible where the container does not say how long the video is.
    """

    frames: int
    expected: int


class Job(_Value):
    """The making of one graph by a service, as it was at one moment.

    id: of the video and of its graph.
    status: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    progress: while it runs, else None.
    """

    id: str
    status: Status
    progress: Progress | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.status in ("succeeded", "failed", "cancelled")


class ModelInfo(_Value):
    """A model that a service offers; what its bundle's manifest says besides are further attributes.

    name: what the option `model` takes.
    engine: what runs it.
    default: whether it makes the graph where no model is named.
    family: `one_stage` or `two_stage`.
    frame_size: `height` and `width` in pixels, as the model sees frames.
    relation_scoring: whether its graphs have relation scores.
    vocabulary: the objects and predicates it knows, where the service says so.
    """

    name: str
    version: str
    engine: str
    precision: str
    default: bool
    family: str
    description: str
    frame_size: dict[str, int]
    clip_length: int
    relation_scoring: bool
    vocabulary: Vocabulary | None = None


class FoundRelation(_Value):
    """A relation that proves a moment, as in the graph, with the labels of its objects."""

    subject: int
    subject_label: str
    predicate: str
    object: int
    object_label: str
    start: float
    end: float
    score: float
    relation_score: float | None = None


class Moment(_Value):
    """A time of a video in which a query holds.

    video: id of the video, as in `Job.id`.
    start, end: seconds from the first frame; the end is not part of it.
    score: the lowest score of what proves the moment.
    relation_score: the lowest relation score, None where the model has no relation scorer.
    objects: what a thing is called in the query, and the id of its object; several ids where it is counted.
    relations: those that prove the moment, in the order of the query.
    picture: path of a kept frame that shows it, None without one.
    """

    video: str
    start: float
    end: float
    score: float
    relation_score: float | None = None
    objects: dict[str, int | tuple[int, ...]]
    relations: tuple[FoundRelation, ...]
    picture: str | None = None


class MomentPage(_Value):
    """A page of the moments that a search finds, the best score first.

    total: number of all moments that it finds.
    next: the `offset` of the next page, None on the last one.
    """

    moments: tuple[Moment, ...]
    total: int
    next: int | None = None
