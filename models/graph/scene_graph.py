"""The scene graph of a video, as the service returns it: validated, with the same names in code and JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.graph.vocabulary import ACTION_GENOME, GroupName, Vocabulary

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Uncertain = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Box = tuple[float, float, float, float]
Constraint = Literal["with", "no", "semi"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SceneObject(_Part):
    """One thing in one frame. `id` is stable over the video; `box` is xyxy in pixels of the displayed video."""

    id: int = Field(ge=1)
    label: str
    score: Score
    box: Box


class Uncertainty(_Part):
    """The model's uncertainty of one predicate of one pair, from 0 up, on a scale of its own."""

    epistemic: Uncertain = Field(description="what the model does not know; more training data would tell")
    aleatoric: Uncertain = Field(description="what the video leaves open; no training would tell")


class Triplet(_Part):
    """`<subject, predicate, object>` in one frame, by object ids, in the direction of the predicate's group.

    `score` is the product of the two object scores, the predicate score and, where the model has one, the relation
    score. A bundle may sharpen the predicate score and weigh the relation score (`scoring` of its manifest), and weigh
    what says little (`statements`).
    """

    subject: int
    predicate: str
    object: int
    group: GroupName
    predicate_score: Score
    relation_score: Score | None = Field(
        description="how much the pair matters; null where the model has no relation scorer"
    )
    score: Score
    uncertainty: Uncertainty | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="with the option `uncertainty`, where the model knows it; else absent",
    )


class Frame(_Part):
    """One sampled frame. `index` counts sampled frames from 0; `timestamp` is the presentation time in seconds."""

    index: int = Field(ge=0)
    timestamp: float = Field(ge=0.0)
    objects: list[SceneObject]
    triplets: list[Triplet] = Field(description="sorted by score, best first")

    @model_validator(mode="after")
    def _triplets_name_objects(self) -> Frame:
        known = {thing.id for thing in self.objects}
        for triplet in self.triplets:
            if triplet.subject not in known or triplet.object not in known:
                raise ValueError(
                    f"frame {self.index}: a triplet names object {triplet.subject} or {triplet.object}, not there"
                )
        return self


class Relation(_Part):
    """A triplet over an interval of time, in seconds; scores are means over its frames."""

    subject: int
    predicate: str
    object: int
    start: float = Field(ge=0.0)
    end: float = Field(ge=0.0)
    score: Score
    relation_score: Score | None


class Video(_Part):
    """The video that was posted.

    Width and height are those of the displayed video: turned, mirrored, with square pixels. A field is null where the
    container does not tell.
    """

    sha256: str
    width: int
    height: int
    duration: float | None = Field(description="seconds from the first frame to the end of the last one")
    frame_rate: float | None
    codec: str
    start: float = Field(
        default=0.0, description="time of a player, in seconds, at which it shows the first frame: 0 of the graph"
    )


class ModelReference(_Part):
    """The model that made a graph. `engine` is the engine that really ran."""

    name: str
    version: str
    engine: str
    precision: str


class Options(_Part):
    """Options as applied, after clamping."""

    fps: float
    start: float
    end: float | None
    max_frames: int
    min_score: float
    top_k: int
    constraint: Constraint
    uncertainty: bool = False


class Warning(_Part):
    """A remark on a graph, which was made all the same."""

    code: str
    detail: str


class GraphHead(_Part):
    """The part of a graph that is known before its first frame."""

    id: str
    status: Status = "succeeded"
    video: Video
    model: ModelReference
    options: Options
    vocabulary: Vocabulary = Field(
        default=ACTION_GENOME,
        description="what the model can name: objects, those of them that are subjects, and groups of predicates",
    )


class _Frames(_Part):
    frames: list[Frame]


class GraphTail(_Part):
    """The part of a graph that is known after its last frame."""

    relations: list[Relation]
    prompt: str
    timings: dict[str, float] = Field(
        description="seconds: waiting for the decoder, waiting for the engine, working on the graph, reading frames "
        "again that are kept, and in total"
    )
    warnings: list[Warning]
    kept_frames: list[int] = Field(
        default=[],
        exclude_if=lambda value: not value,
        description="indices of the frames that are kept as pictures; absent where none is",
    )


# The fields of the last base come first: head, frames, tail, as a graph is written in one pass.
class SceneGraph(GraphTail, _Frames, GraphHead):
    """The dynamic scene graph of one video (`GET /videos/{id}` when it has succeeded).

    Labels, predicates and their groups are those of its vocabulary.
    """

    @model_validator(mode="after")
    def _names_are_in_the_vocabulary(self) -> SceneGraph:
        labels = {thing.label for frame in self.frames for thing in frame.objects}
        if unknown := sorted(labels - self.vocabulary.object_index.keys()):
            raise ValueError(f"object label {unknown[0]!r} is not in the graph's vocabulary")
        named = {(triplet.predicate, triplet.group) for frame in self.frames for triplet in frame.triplets}
        known = {(name, group.name) for group in self.vocabulary.groups for name in group.predicates}
        if wrong := sorted(named - known):
            raise ValueError(f"{wrong[0][0]!r} is not a predicate of a group {wrong[0][1]!r} of the graph's vocabulary")
        if missing := sorted({relation.predicate for relation in self.relations} - set(self.vocabulary.predicates)):
            raise ValueError(f"predicate {missing[0]!r} is not in the graph's vocabulary")
        return self
