"""The models that the workers serve. Each worker announces them in the queue's Redis when it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from docket import Docket
from pydantic import BaseModel, ConfigDict, TypeAdapter

from models.graph.scene_graph import ModelReference
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from service.errors import Unavailable, UnknownModel
from service.jobs.queue import in_time
from service.scheduling import Scheduler


class ServedModel(BaseModel):
    """A model that callers can choose, as GET /models shows it. Most fields are those of its bundle's manifest."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

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
    vocabulary: Vocabulary = ACTION_GENOME
    thresholds: dict[str, Any]
    training: dict[str, Any]

    @classmethod
    def of(cls, model: Scheduler, *, default: bool) -> ServedModel:
        """Describes a loaded model."""
        described = model.manifest.model_dump(mode="json", include=set(cls.model_fields))
        return cls(**described | model.reference.model_dump(), default=default)

    @property
    def reference(self) -> ModelReference:
        """This model as the graphs that it makes name it."""
        return ModelReference(name=self.name, version=self.version, engine=self.engine, precision=self.precision)


_MODELS = TypeAdapter(list[ServedModel])


class Catalog:
    """The models of the fleet. All workers of a queue must serve the same; the one that started last is believed."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._key = docket.key("models")
        self._announced = b""
        self._models: Sequence[ServedModel] = ()

    async def announce(self, models: Iterable[Scheduler]) -> None:
        """Announces the models of this worker, the default first."""
        served = [ServedModel.of(model, default=index == 0) for index, model in enumerate(models)]
        async with self._docket.redis() as redis:
            await redis.set(self._key, _MODELS.dump_json(served))

    async def models(self) -> Sequence[ServedModel]:
        """The models, the default first. Raises Unavailable before the first worker has started, and RedisError."""
        async with in_time(), self._docket.redis() as redis:
            announced = await redis.get(self._key)
        if announced is None:
            raise Unavailable("no worker has started yet, so no model is known; start one with `vsg worker`")
        if announced != self._announced:
            self._models = _MODELS.validate_json(announced)
            self._announced = announced
        return self._models


def find_model(models: Sequence[ServedModel], name: str | None) -> ServedModel:
    """The model of that name, or the first for None. Raises UnknownModel."""
    for model in models:
        if name is None or model.name == name:
            return model
    served = ", ".join(model.name for model in models)
    raise UnknownModel("model", f"no model named {name!r:.80} is served here: use {served}")
