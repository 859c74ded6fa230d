"""Webhooks: tell a URL that a job has ended, or that a video satisfies a rule.

They have a queue of their own, so that no video waits for a receiver that is slow or gone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

import structlog
from docket import Retry, Worker
from pydantic import BaseModel
from standardwebhooks import Webhook

from service.errors import ServiceError, UrlNotAllowed
from service.fetching import FetchPolicy, Resolver, exchange, resolve_name
from service.jobs.connection import LastingDocket
from service.jobs.errors import WebhookFailed, WebhookNotAllowed
from service.jobs.life import end_tasks
from service.search.documents import FoundMoment
from service.settings import MEMORY_QUEUE, Settings

Ending = Literal["succeeded", "failed", "cancelled"]
Outcome = Literal["delivered", "failed", "given_up"]
# Between six attempts, in a little over an hour.
RETRY_DELAYS = tuple(timedelta(seconds=seconds) for seconds in (5, 60, 300, 900, 2400))
_SECONDS = 10.0  # for one attempt; a process that stops waits for attempts under way
_SEND = "send_webhook"
_GONE = 410

log = structlog.get_logger(__name__)


class EventData(BaseModel):
    """The job that has ended.

    id: of its video.
    status: how it has ended.
    problem: the problem document of a failed job.
    """

    id: str
    status: Ending
    problem: dict[str, Any] | None = None


class RuleData(BaseModel):
    """The video that satisfies a rule.

    id: of the video.
    rule: id of the rule.
    moments: in which its query holds, the best ones.
    total: number of all of them.
    """

    id: str
    rule: str
    query: str
    moments: list[FoundMoment]
    total: int


class Event(BaseModel):
    """The body of a webhook."""

    type: str
    timestamp: datetime
    data: EventData | RuleData

    @classmethod
    def of(cls, video_id: str, status: Ending, problem: dict[str, Any] | None = None) -> Self:
        """Makes the event of a job that ends now."""
        data = EventData(id=video_id, status=status, problem=problem)
        return cls(type=f"video.{status}", timestamp=datetime.now(UTC), data=data)

    @classmethod
    def of_rule(cls, video_id: str, rule_id: str, query: str, moments: list[FoundMoment], total: int) -> Self:
        """Makes the event of a new graph that satisfies a rule."""
        data = RuleData(id=video_id, rule=rule_id, query=query, moments=moments, total=total)
        return cls(type="rule.matched", timestamp=datetime.now(UTC), data=data)

    @property
    def id(self) -> str:
        """The same for all attempts, so that a receiver recognises an event that it has seen."""
        what = self.data.rule if isinstance(self.data, RuleData) else self.data.status
        return f"msg_{self.data.id}_{what}"


class Webhooks:
    """Signs and sends events to URLs that the operator allows."""

    def __init__(self, settings: Settings, *, resolve: Resolver = resolve_name) -> None:
        self._signers = [Webhook(secret.get_secret_value()) for secret in settings.webhook_secret]
        self._policy = FetchPolicy(
            settings.webhook_hosts,
            settings.url_networks,
            connect_seconds=_SECONDS,
            idle_seconds=_SECONDS,
            total_seconds=_SECONDS,
            resolve=resolve,
        )

    @property
    def can_send(self) -> bool:
        """Whether the operator has given this process a secret and hosts."""
        return bool(self._signers and self._policy.hosts)

    def check(self, url: str) -> None:
        """Checks a URL without connecting to it. Raises WebhookNotAllowed."""
        if not self.can_send:
            raise WebhookNotAllowed(
                "this service sends no webhooks; its operator can allow them with a secret and a list of hosts"
            )
        try:
            self._policy.check(url)
        except UrlNotAllowed as error:
            raise WebhookNotAllowed(error.detail) from error

    async def deliver(self, url: str, event: Event) -> None:
        """Sends an event once. Any 2xx is success. Raises WebhookFailed, which is final if the answer is 410."""
        content = event.model_dump_json(exclude_none=True)
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
            # One for each secret, because a receiver may have either while they change.
            "webhook-signature": " ".join(signer.sign(event.id, now, content) for signer in self._signers),
        }
        try:
            target, deadline = self._policy.check(url), self._policy.deadline()
            async with exchange(
                "POST", target, self._policy, deadline, headers=headers, content=content.encode()
            ) as answer:
                status = answer.status_code
        except ServiceError as error:
            raise WebhookFailed(error.detail) from error
        if not 200 <= status < 300:
            raise WebhookFailed(f"the receiver answered {status}", is_final=status == _GONE)


class WebhookQueue:
    """Takes events, and delivers them in the background, again where that fails. Use it as an async context manager.

    On Redis, any process may put events into it, and those that can send deliver them: a worker needs no secret where
    the API has one. Events that wait outlive the process, and an event that is being sent when it ends is sent again.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        settings: Settings,
        *,
        on_attempt: Callable[[Outcome], None] = lambda outcome: None,
        delays: Sequence[timedelta] = RETRY_DELAYS,
    ) -> None:
        """
        on_attempt: is called after each attempt.
        delays: between the attempts, at most as many as `RETRY_DELAYS`.
        """
        self._webhooks = webhooks
        self._on_attempt = on_attempt
        self._delays = delays
        # A memory queue is shared by all that use its URL in one event loop, so each gets a name of its own.
        url = settings.queue_url
        url = f"{url}{secrets.token_hex(8)}" if url.startswith(MEMORY_QUEUE) else url
        self._docket = LastingDocket("vsg-webhooks", url)
        self._docket.register(self._send, names=[_SEND])
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._docket)
            if self._webhooks.can_send:
                worker = await stack.enter_async_context(Worker(self._docket, redelivery_timeout=self._lease))
                self._sending = asyncio.create_task(worker.run_forever(), name="vsg webhooks")
                # Docket's worker, when cancelled, waits for attempts under way.
                stack.push_async_callback(end_tasks, self._sending)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    @property
    def is_alive(self) -> bool:
        """Whether it sends events, if this process can. Once that has ended, it does not begin again."""
        return self._sending is None or not self._sending.done()

    async def announce(self, url: str, event: Event) -> None:
        """Puts an event into the queue, unless it is there already."""
        await self._docket.add(_SEND, key=event.id)(url, event.model_dump(mode="json"))

    async def _send(
        self,
        url: str,
        content: dict[str, Any],
        retry: Retry = Retry(attempts=len(RETRY_DELAYS) + 1, delay=RETRY_DELAYS[0]),  # noqa: B008 - how docket passes it
    ) -> None:
        event = Event.model_validate(content)
        told = log.bind(id=event.data.id, event_type=event.type, attempt=retry.attempt)
        try:
            await self._webhooks.deliver(url, event)
        except WebhookFailed as error:
            if error.is_final or retry.attempt > len(self._delays):
                self._on_attempt("given_up")
                told.warning("webhook given up", detail=error.detail)
                return
            self._on_attempt("failed")
            told.info("webhook failed", detail=error.detail)
        else:
            self._on_attempt("delivered")
            told.info("webhook delivered")
            return
        retry.after(self._delays[retry.attempt - 1])
