"""The models that the workers serve. Each worker announces them in the queue's Redis, every few seconds."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Self

import structlog
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from redis.exceptions import RedisError

from models.graph.scene_graph import ModelReference
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from service.errors import Unavailable, UnknownModel
from service.jobs.life import end_tasks
from service.jobs.queue import JobQueue, in_time
from service.scheduling import Scheduler

log = structlog.get_logger(__name__)


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
        size = model.manifest.frame_size
        described["frame_size"] = {"height": size.height, "width": size.width}
        return cls(**described | model.reference.model_dump(), default=default)

    @property
    def reference(self) -> ModelReference:
        """This model as the graphs that it makes name it."""
        return ModelReference(name=self.name, version=self.version, engine=self.engine, precision=self.precision)


class Offer(BaseModel):
    """A worker and the models that it offers. All moments are seconds by the clock of Redis.

    models: the key of its list of models; workers with the same models share one.
    started: when it announced itself first.
    seen: when it announced itself last.
    has_left: whether it has stopped by itself.
    """

    model_config = ConfigDict(frozen=True)

    models: str
    started: float
    seen: float
    has_left: bool = False


_MODELS = TypeAdapter(tuple[ServedModel, ...])
_ANNOUNCE_SECONDS = 2.0
_SILENT_SECONDS = 10.0  # after which a worker is taken for dead


class Catalog:
    """The models of the fleet: those of the workers that live or, while none does, of those that lived last.

    Workers may serve different models. The default is that of the worker that started last.
    """

    def __init__(self, queue: JobQueue, *, memory_seconds: float) -> None:
        """`memory_seconds`: how long the models of a worker that is gone are remembered."""
        self._queue = queue
        self._memory_seconds = memory_seconds
        self._offers_key = queue.docket.key("offers")
        self._known: dict[str, tuple[ServedModel, ...]] = {}

    async def models(self) -> Sequence[ServedModel]:
        """The models, the default first. Raises Unavailable where no worker has offered any, and RedisError."""
        async with in_time():
            offers, now = await self._offers()
            living = [offer for offer in offers if self._lives(offer, now)]
            offered: dict[str, ServedModel] = {}
            for offer in living or offers:
                for model in await self._models_of(offer):
                    offered.setdefault(model.name, model)
        if not offered:
            raise Unavailable(await self._why_none())
        return [model.model_copy(update={"default": not index}) for index, model in enumerate(offered.values())]

    async def _why_none(self) -> str:
        """Says why no model is known. Raises RedisError."""
        async with in_time():
            now = await self._queue.now()
            async with self._queue.docket.redis() as redis:
                texts = (await redis.hgetall(self._offers_key)).values()
        seen = [offer.seen for text in texts if (offer := _read_offer(text)) is not None]
        if not seen:
            return "no worker has started yet, so no model is known: start one with `vsg worker`"
        seconds = now - max(seen)
        return f"no worker is left since {seconds:.0f} seconds, so no model is offered: start one with `vsg worker`"

    async def living_workers(self) -> int:
        """The number of workers that live. Raises RedisError."""
        offers, now = await self._offers()
        return sum(self._lives(offer, now) for offer in offers)

    async def remembers(self, name: str) -> bool:
        """Whether a worker offers a model of this name, or did lately. Raises RedisError."""
        offers, _ = await self._offers()
        for offer in offers:
            if any(model.name == name for model in await self._models_of(offer)):
                return True
        return False

    async def announce(self, worker: str, models: Sequence[ServedModel], started: float, *, leaves: bool) -> None:
        """Announces a worker and its models. Raises RedisError."""
        text = _MODELS.dump_json(tuple(models))
        key = self._queue.docket.key(f"models:{hashlib.sha256(text).hexdigest()}")
        offer = Offer(models=key, started=started, seen=await self._queue.now(), has_left=leaves)
        async with self._queue.docket.redis() as redis:
            # The list first: an offer without one cannot be read.
            await redis.set(key, text, px=int(2000 * (self._memory_seconds + _SILENT_SECONDS)))
            await redis.hset(self._offers_key, mapping={worker: offer.model_dump_json()})

    async def forget_the_dead(self) -> None:
        """Deletes offers that are older than the catalogue's memory. Raises RedisError."""
        now = await self._queue.now()
        async with self._queue.docket.redis() as redis:
            for worker, text in (await redis.hgetall(self._offers_key)).items():
                offer = _read_offer(text)
                if offer is not None and now - offer.seen > self._memory_seconds + _SILENT_SECONDS:
                    await redis.hdel(self._offers_key, worker)

    async def _offers(self) -> tuple[list[Offer], float]:
        """What the catalogue remembers, the worker that started last first, and the time."""
        now = await self._queue.now()
        async with self._queue.docket.redis() as redis:
            texts = (await redis.hgetall(self._offers_key)).values()
        # Workers of another version may write what this one cannot read; they offer it to nobody here.
        offers = [offer for text in texts if (offer := _read_offer(text)) is not None]
        remembered = [offer for offer in offers if now - offer.seen <= self._memory_seconds + _SILENT_SECONDS]
        return sorted(remembered, key=lambda offer: offer.started, reverse=True), now

    async def _models_of(self, offer: Offer) -> tuple[ServedModel, ...]:
        if offer.models not in self._known:
            async with self._queue.docket.redis() as redis:
                text = await redis.get(offer.models)
            if text is None:
                return ()
            try:
                self._known[offer.models] = _MODELS.validate_json(text)
            except ValidationError as error:
                log.warning("a worker of another version offers models that this one cannot read", error=str(error))
                self._known[offer.models] = ()
        return self._known[offer.models]

    @staticmethod
    def _lives(offer: Offer, now: float) -> bool:
        return not offer.has_left and now - offer.seen <= _SILENT_SECONDS


class Announcer:
    """Announces a worker again and again, so that the fleet knows it even when Redis has lost its data.

    Use it as an async context manager.
    """

    def __init__(self, queue: JobQueue, catalog: Catalog, models: Iterable[Scheduler]) -> None:
        """`models`: of the worker, the default first."""
        self._queue = queue
        self._catalog = catalog
        self._models = [ServedModel.of(model, default=index == 0) for index, model in enumerate(models)]
        self._worker = secrets.token_hex(8)
        self._started: float | None = None

    async def __aenter__(self) -> Self:
        await self._announce()
        self._task = asyncio.create_task(self._announce_forever(), name="vsg announcer")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await end_tasks(self._task)
        await self._announce(leaves=True)

    async def _announce_forever(self) -> None:
        while True:
            await asyncio.sleep(_ANNOUNCE_SECONDS)
            await self._announce()

    async def _announce(self, *, leaves: bool = False) -> None:
        try:
            async with in_time():
                if self._started is None:
                    self._started = await self._queue.now()
                await self._catalog.announce(self._worker, self._models, self._started, leaves=leaves)
                await self._catalog.forget_the_dead()
        except RedisError as error:
            log.warning("the worker is not announced: the job queue does not answer", error=str(error))


def _read_offer(text: bytes) -> Offer | None:
    try:
        return Offer.model_validate_json(text)
    except ValidationError:
        return None


def find_model(models: Sequence[ServedModel], name: str | None) -> ServedModel:
    """The model of that name, or the first for None. Raises UnknownModel."""
    for model in models:
        if name is None or model.name == name:
            return model
    served = ", ".join(model.name for model in models)
    raise UnknownModel("model", f"no model named {name!r:.80} is served here: use {served}")
