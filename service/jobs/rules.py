"""Rules: a query and a webhook, which is told when a new graph satisfies the query.

Callers post rules, which lie in Redis beside the records of jobs. The operator names others in a file (`VSG_RULES`).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.graph.validation import in_words
from models.graph.vocabulary import Vocabulary
from service.errors import SearchMissing, ServiceError, SettingsError
from service.graph import GraphReader
from service.jobs.errors import NotFound, TooManyRules
from service.jobs.queue import JobQueue
from service.jobs.webhooks import Event
from service.search.documents import LONGEST_QUERY, FoundMoment
from service.settings import Settings, variable_of
from service.storage import Storage
from service.stored_files import StoredResult

MOST_RULES = 100
"""Of one owner."""
MOST_MOMENTS = 20
"""In one event."""
_MOST_SECONDS = 5.0  # for one rule and one graph

log = structlog.get_logger(__name__)


class RuleRequest(BaseModel):
    """What a caller asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str = Field(min_length=1, max_length=LONGEST_QUERY, description="in the language of docs/search.md")
    webhook: str = Field(min_length=1, max_length=2000, description="URL that is told of each video that satisfies it")


class Rule(RuleRequest):
    """A rule that holds for the videos of its owner."""

    id: str = Field(pattern="^[0-9a-f]{32}$")


class FileRule(RuleRequest):
    """A rule of the operator's file.

    owner: whose videos it holds for; None for everybody's.
    """

    owner: str | None = None

    def as_rule(self) -> Rule:
        """The rule, with an id that stays the same while the file says the same."""
        text = "\0".join((self.query, self.webhook, self.owner or ""))
        return Rule(id=hashlib.sha256(text.encode()).hexdigest()[:32], query=self.query, webhook=self.webhook)


class _RulesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rule: tuple[FileRule, ...] = ()


class Rules:
    """The rules of all owners. All methods raise RedisError when the queue does not answer.

    from_file: the operator's.
    """

    def __init__(self, queue: JobQueue, from_file: Sequence[FileRule] = ()) -> None:
        self._queue = queue
        self._from_file = from_file

    @classmethod
    def of(cls, queue: JobQueue, settings: Settings, vocabularies: Sequence[Vocabulary]) -> Self:
        """The rules with those of the operator's file.

        vocabularies: of the models whose graphs the rules shall hold for.

        Raises SettingsError where the file cannot be used.
        """
        return cls(queue, () if settings.rules is None else _read_file(settings.rules, queue, vocabularies))

    async def add(self, owner: str, asked: RuleRequest) -> Rule:
        """Adds a rule whose query and webhook are checked. Raises TooManyRules."""
        async with self._queue.docket.redis() as redis:
            count = len(await redis.hgetall(self._key(owner)))
            if count >= MOST_RULES:
                raise TooManyRules(f"there are {count} rules, and {MOST_RULES} is the most: delete one first")
            rule = Rule(id=secrets.token_hex(16), **asked.model_dump())
            await redis.hset(self._key(owner), rule.id, rule.model_dump_json())
        return rule

    async def of_owner(self, owner: str) -> list[Rule]:
        """The rules that an owner has posted, by id. Those of another version that cannot be read are left out."""
        async with self._queue.docket.redis() as redis:
            stored = await redis.hgetall(self._key(owner))
        rules = []
        for text in stored.values():
            try:
                rules.append(Rule.model_validate_json(text))
            except ValidationError:
                log.warning("a rule of another version is passed over")
        return sorted(rules, key=lambda rule: rule.id)

    async def delete(self, owner: str, rule_id: str) -> None:
        """Deletes a rule. Raises NotFound."""
        async with self._queue.docket.redis() as redis:
            if not await redis.hdel(self._key(owner), rule_id):
                raise NotFound(f"there is no rule {rule_id[:40]!r}: it never existed or was deleted")

    async def tell(self, video_id: str, owner: str, storage: Storage) -> None:
        """Queues the webhooks of all rules that a new graph satisfies. Never fails for a rule's sake.

        Raises StorageUnavailable where the graph cannot be read.
        """
        announcements = self._queue.announcements
        own = await self._queue.insist(lambda: self.of_owner(owner))
        rules = [*own, *(rule.as_rule() for rule in self._from_file if rule.owner in (None, owner))]
        if not rules:
            return
        result = await asyncio.to_thread(storage.result, video_id, owner)
        if result is None or result.failed:
            return
        try:
            events = await asyncio.to_thread(_events_of, result, video_id, rules)
        except FileNotFoundError:  # it was deleted just now
            return
        for rule, event in events:
            log.info("a video satisfies a rule", id=video_id, rule=rule.id)
            url = rule.webhook
            await self._queue.insist(lambda url=url, event=event: announcements.announce(url, event))  # type: ignore[misc]

    def _key(self, owner: str) -> str:
        return self._queue.docket.key(f"rules:{owner}")


def check_query(text: str, vocabularies: Sequence[Vocabulary]) -> None:
    """Raises QueryError where a query cannot be understood, SearchMissing where the libraries of searching are."""
    try:
        from service.search.queries import parse
        from service.search.words import Words
    except ModuleNotFoundError as error:
        raise SearchMissing(
            f"rules need {error.name}, which this service lacks: its operator can install 'video-scene-graph[archive]'"
        ) from error
    parse(text, Words.of(*vocabularies))


def _events_of(result: StoredResult, video_id: str, rules: Sequence[Rule]) -> list[tuple[Rule, Event]]:
    """The events of the rules that a graph satisfies. Runs in a thread."""
    try:
        from service.archive.tables import Source, graph_rows
        from service.search.errors import QueryError
        from service.search.moments import find_in_rows
        from service.search.queries import parse
        from service.search.words import Words
    except ModuleNotFoundError as error:
        log.error("rules are passed over: install 'video-scene-graph[archive]'", missing=error.name)
        return []
    graph = GraphReader(result.blocks())
    words, rows = Words.of(graph.head.vocabulary), graph_rows(graph, Source(video=video_id[:12]))
    events = []
    for rule in rules:
        try:
            moments = find_in_rows(rows, parse(rule.query, words), seconds=_MOST_SECONDS)
        except QueryError:  # a model that does not know its words says nothing of it
            continue
        except ServiceError as error:
            log.warning("a rule is passed over", rule=rule.id, detail=error.detail)
            continue
        except Exception:
            log.exception("a rule fails", rule=rule.id)
            continue
        if moments:
            found = [FoundMoment.of(moment, video_id) for moment in moments[:MOST_MOMENTS]]
            events.append((rule, Event.of_rule(video_id, rule.id, rule.query, found, len(moments))))
    return events


def _read_file(path: Path, queue: JobQueue, vocabularies: Sequence[Vocabulary]) -> tuple[FileRule, ...]:
    named = f"{variable_of('rules')} is {str(path)!r}"
    try:
        rules = _RulesFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).rule
    except OSError as error:
        raise SettingsError(f"{named}, which cannot be read ({error.strerror}): name a file of rules") from error
    except ValidationError as error:
        raise SettingsError(f"{named}: {in_words(error)}") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise SettingsError(f"{named}, which is no TOML ({error}): write [[rule]] with query and webhook") from error
    for number, rule in enumerate(rules, 1):
        try:
            queue.webhooks.check(rule.webhook)
            if vocabularies:  # an API of a fleet knows none at its start
                check_query(rule.query, vocabularies)
        except ServiceError as error:
            raise SettingsError(f"{named}: rule {number} cannot be used: {error.detail}") from error
    return rules
