"""How often one caller may post."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import SettingsError, Unavailable
from service.http import create_app
from service.http.access import RateLimit
from service.http.errors import RateLimited
from service.keys import new_key
from service.settings import load_settings
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.service.test_keys import write_keys


def test_each_key_has_a_limit_of_its_own(start_server: Callable[..., Server], tmp_path: Path, clip: Path) -> None:
    alice, bob = new_key(), new_key()
    server = start_server(keys=write_keys(tmp_path / "keys", alice=alice, bob=bob), rate_limit="2/hour")
    of_alice, of_bob = ({"authorization": f"Bearer {key}"} for key in (alice, bob))
    assert server.post(clip, headers=of_alice).status_code == 200
    problem_of(server.post(b"text", headers=of_alice), 415, "unsupported_media")  # it counts as well
    refused = server.post(clip, headers=of_alice)
    problem_of(refused, 429, "rate_limited")
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert server.post(clip, headers=of_bob).status_code == 200
    assert server.client.get("/models", headers=of_alice).status_code == 200


def test_without_keys_each_address_has_a_limit_of_its_own(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server(rate_limit="1/hour", proxies="127.0.0.1")
    here, there = ({"x-forwarded-for": address} for address in ("192.0.2.1", "192.0.2.2"))
    assert server.post(clip, headers=here).status_code == 200
    problem_of(server.post(clip, headers=here), 429, "rate_limited")
    assert server.post(clip, headers=there).status_code == 200


def test_without_a_limit_nobody_is_refused(server: Server) -> None:
    assert {server.post(b"text").status_code for _ in range(20)} == {415}


async def test_a_caller_may_post_again_after_retry_after() -> None:
    limit = RateLimit("1/2 second", "memory://")
    await limit.take("alice")
    with pytest.raises(RateLimited) as refused:
        await limit.take("alice")
    assert 1 <= refused.value.retry_after <= 2
    await asyncio.sleep(refused.value.retry_after + 0.1)
    await limit.take("alice")


async def test_all_processes_count_together_on_redis(redis_url: str) -> None:
    one, other = RateLimit("2/hour", redis_url), RateLimit("2/hour", redis_url)
    await one.take("alice")
    await other.take("alice")
    with pytest.raises(RateLimited):
        await one.take("alice")
    await one.take("bob")
    for limit in (one, other):
        await limit.close()


async def test_a_redis_that_is_not_there_makes_the_service_unavailable() -> None:
    limit = RateLimit("2/hour", "redis://127.0.0.1:1/0")
    with pytest.raises(Unavailable):
        await limit.take("alice")
    await limit.close()


@pytest.mark.parametrize("text", ["sixty", "60", "60/fortnight", "0/minute"])
def test_a_limit_that_cannot_be_read_stops_the_start(text: str, tiny_bundle: Path) -> None:
    with pytest.raises(SettingsError, match=f"VSG_RATE_LIMIT is '{text}': give a number and a time, such as 60/minute"):
        create_app(load_settings({"rate_limit": text, "bundles": (tiny_bundle,)}))


def test_a_queue_that_cannot_count_requests_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="VSG_RATE_LIMIT needs a queue at one Redis server"):
        RateLimit("1/second", "redis+cluster://127.0.0.1:7000")
