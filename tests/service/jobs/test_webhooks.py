"""Webhooks, received by real servers and verified as receivers verify them."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.jobs.errors import WebhookFailed, WebhookNotAllowed
from service.jobs.webhooks import Event, WebhookQueue, Webhooks
from service.settings import Settings, load_settings
from tests.support.web import Answer, Web, reply, serve_web

OLD, NEW, OTHER = (f"whsec_{b64encode(bytes([number] * 32)).decode()}" for number in range(3))
EVENT = Event.of("0f" * 16, "succeeded")
SOON = (timedelta(milliseconds=20),) * 3


def settings_for(web: Web, **changes: Any) -> Settings:
    allowed = {"webhook_hosts": f"127.0.0.1:{web.port}", "url_networks": "127.0.0.1/32", "webhook_secret": NEW}
    return load_settings({**allowed, **changes})


def url_of(web: Web) -> str:
    return f"http://127.0.0.1:{web.port}/told?by=vsg"


def read(request: bytes) -> tuple[dict[str, str], str]:
    """The headers of a request, and its body."""
    head, _, body = request.decode().partition("\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:]), body


async def until_true(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_receiver_can_verify_the_signature() -> None:
    failed = Event.of("0f" * 16, "failed", {"code": "no_video_stream", "status": 422})
    with serve_web(reply(b"", "204 No Content")) as web:
        await Webhooks(settings_for(web)).deliver(url_of(web), failed)
    headers, body = read(web.requests[0])
    assert web.requests[0].startswith(b"POST /told?by=vsg HTTP/1.1\r\n")
    assert headers["Content-Type"] == "application/json"
    told = Webhook(NEW).verify(body, headers)
    assert told["type"] == "video.failed"
    assert told["timestamp"].startswith("20")
    assert told["data"] == {
        "id": "0f" * 16,
        "status": "failed",
        "problem": {"code": "no_video_stream", "status": 422},
    }
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body.replace("failed", "succeeded"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)


async def test_an_event_is_signed_with_each_secret() -> None:
    with serve_web(reply()) as web:
        await Webhooks(settings_for(web, webhook_secret=f"{OLD},{NEW}")).deliver(url_of(web), EVENT)
    headers, body = read(web.requests[0])
    assert Webhook(OLD).verify(body, headers) == Webhook(NEW).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found", "302 Found", "410 Gone"])
async def test_any_status_but_2xx_is_a_failure_and_redirects_are_not_followed(status: str) -> None:
    with serve_web(reply(b"", status, "Location: /elsewhere")) as web:
        with pytest.raises(WebhookFailed, match=f"answered {status[:3]}") as failed:
            await Webhooks(settings_for(web)).deliver(url_of(web), EVENT)
        assert len(web.requests) == 1
    assert failed.value.is_final is (status == "410 Gone")


async def test_nothing_is_sent_to_a_name_that_has_become_private() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with serve_web(reply()) as web:
        settings = settings_for(web, webhook_hosts=f"hooks.test:{web.port}", url_networks="")
        with pytest.raises(WebhookFailed, match="does not connect to hooks"):
            await Webhooks(settings, resolve=resolve).deliver(f"http://hooks.test:{web.port}/", EVENT)
        assert web.requests == []


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"webhook_secret": ""}, "https://hooks.test/"),
        ({"webhook_hosts": ""}, "https://hooks.test/"),
        ({"webhook_hosts": "hooks.test"}, "https://other.test/"),
        ({"webhook_hosts": "hooks.test"}, "file://hooks.test/etc/passwd"),
    ],
)
def test_a_webhook_is_refused_where_it_could_not_be_sent(changes: dict[str, str], url: str) -> None:
    settings = load_settings({"webhook_secret": NEW, "webhook_hosts": "*", **changes})
    with pytest.raises(WebhookNotAllowed):
        Webhooks(settings).check(url)


def in_turn(*statuses: str) -> Answer:
    """Answers the requests with these, the last one for ever."""
    count = itertools.count()

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(reply(b"", statuses[min(next(count), len(statuses) - 1)]))

    return answer


async def test_a_failed_delivery_is_tried_again_with_the_same_id() -> None:
    with serve_web(in_turn("500 Internal Server Error", "503 Service Unavailable", "200 OK")) as web:
        settings = settings_for(web)
        outcomes: list[str] = []
        async with WebhookQueue(Webhooks(settings), settings, on_attempt=outcomes.append, delays=SOON) as queue:
            await queue.announce(url_of(web), EVENT)
            await until_true(lambda: len(outcomes) == 3)
            assert queue.is_alive
        assert not queue.is_alive
    assert outcomes == ["failed", "failed", "delivered"]
    seen = [read(request) for request in web.requests]
    assert len({headers["webhook-id"] for headers, _ in seen}) == 1
    for headers, body in seen:
        assert Webhook(NEW).verify(body, headers)["data"]["id"] == EVENT.data.id


@pytest.mark.parametrize(("status", "attempts"), [("410 Gone", 1), ("500 Internal Server Error", 4)])
async def test_a_receiver_that_answers_410_or_fails_too_often_is_given_up(status: str, attempts: int) -> None:
    with serve_web(in_turn(status)) as web:
        settings = settings_for(web)
        outcomes: list[str] = []
        async with WebhookQueue(Webhooks(settings), settings, on_attempt=outcomes.append, delays=SOON) as queue:
            await queue.announce(url_of(web), EVENT)
            await until_true(lambda: len(web.requests) == attempts)
            await asyncio.sleep(1)
            assert len(web.requests) == attempts
            assert outcomes == ["failed"] * (attempts - 1) + ["given_up"]


async def test_on_redis_an_event_outlives_the_process_that_announced_it(redis_url: str, tmp_path: Path) -> None:
    with serve_web(in_turn("500 Internal Server Error", "200 OK")) as web:
        settings = settings_for(web, queue_url=redis_url, data=str(tmp_path))
        async with WebhookQueue(Webhooks(settings), settings, delays=(timedelta(seconds=1),)) as queue:
            await queue.announce(url_of(web), EVENT)
            await until_true(lambda: len(web.requests) == 1)
        assert len(web.requests) == 1
        async with WebhookQueue(Webhooks(settings), settings):
            await until_true(lambda: len(web.requests) == 2)
    assert json.loads(read(web.requests[1])[1]) == EVENT.model_dump(mode="json", exclude_none=True)
