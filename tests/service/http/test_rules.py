"""Rules: /rules, VSG_RULES, and the webhooks of videos that satisfy them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from service.errors import SettingsError
from service.http import create_app
from service.keys import key_line
from service.settings import load_settings
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.service.jobs.process import process
from tests.service.jobs.test_webhooks import NEW as SECRET
from tests.service.jobs.test_webhooks import read
from tests.support.waiting import until
from tests.support.web import Web, reply, serve_web

HOLDING = "person holding cup for 1s"


def allowing(web: Web, **changes: Any) -> dict[str, Any]:
    """The settings with which a service sends webhooks to this receiver."""
    hosts = {"webhook_hosts": f"127.0.0.1:{web.port}", "url_networks": "127.0.0.0/8", "webhook_secret": SECRET}
    return {**hosts, **changes}


def url_of(web: Web, name: str = "told") -> str:
    return f"http://127.0.0.1:{web.port}/{name}"


def told(web: Web, count: int = 1) -> list[dict[str, Any]]:
    """The events that a receiver has got, once there are so many; no more come after them."""
    until(lambda: len(web.requests) >= count)
    time.sleep(0.2)
    events = []
    for request in web.requests:
        headers, body = read(request)
        events.append(Webhook(SECRET).verify(body, headers) | {"message": headers["webhook-id"]})
    assert len(events) == count
    return events


def test_a_rule_is_told_of_a_new_video_that_satisfies_it(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(reply()) as web:
        server = start_server(**allowing(web))
        answer = server.client.post("/rules", json={"query": HOLDING, "webhook": url_of(web)})
        never = {"query": "person holding dish", "webhook": url_of(web, "never")}
        assert server.client.post("/rules", json=never).status_code == 201
        graph = server.post(clip).json()
        (event,) = told(web)
    rule = answer.json()
    assert (answer.status_code, rule["query"], rule["webhook"]) == (201, HOLDING, url_of(web))
    assert event["type"] == "rule.matched"
    assert event["message"] == f"msg_{graph['id']}_{rule['id']}"
    data = event["data"]
    assert (data["id"], data["rule"], data["query"], data["total"]) == (graph["id"], rule["id"], HOLDING, 1)
    (relation,) = [relation for relation in graph["relations"] if relation["predicate"] == "holding"]
    (moment,) = data["moments"]
    assert (moment["video"], moment["start"], moment["end"]) == (graph["id"], relation["start"], relation["end"])
    assert moment["objects"] == {"person": relation["subject"], "cup": relation["object"]}


def test_rules_are_listed_and_deleted(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(reply()) as web:
        server = start_server(**allowing(web))
        rules = [
            server.client.post("/rules", json={"query": query, "webhook": url_of(web)}).json()
            for query in (HOLDING, "person")
        ]
        assert server.client.get("/rules").json() == {"rules": sorted(rules, key=lambda rule: rule["id"])}
        assert server.client.delete(f"/rules/{rules[0]['id']}").status_code == 204
        assert server.client.get("/rules").json() == {"rules": rules[1:]}
        problem_of(server.client.delete(f"/rules/{rules[0]['id']}"), 404, "not_found")
        server.post(clip)
        assert [event["data"]["rule"] for event in told(web)] == [rules[1]["id"]]


def test_owners_have_their_own_rules_and_these_hold_for_their_own_videos(
    start_server: Callable[..., Server], clip: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("".join(key_line(name, f"key of {name}") + "\n" for name in ("alice", "bob")))
    alice, bob = ({"authorization": f"Bearer key of {name}"} for name in ("alice", "bob"))
    with serve_web(reply()) as web:
        server = start_server(**allowing(web, keys=str(keys)))
        of_alice, of_bob = (
            server.client.post("/rules", json={"query": "person", "webhook": url_of(web)}, headers=each).json()
            for each in (alice, bob)
        )
        assert server.client.get("/rules", headers=bob).json() == {"rules": [of_bob]}
        problem_of(server.client.delete(f"/rules/{of_alice['id']}", headers=bob), 404, "not_found")
        server.post(clip, headers=bob)
        assert [event["data"]["rule"] for event in told(web)] == [of_bob["id"]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"query": "person holds cup", "webhook": "http://127.0.0.1:1/x"}, 422, "invalid_query"),
        ({"query": "", "webhook": "http://127.0.0.1:1/x"}, 422, "invalid_option"),
        ({"query": "person"}, 422, "invalid_option"),
        ({"query": "person", "webhook": "http://127.0.0.1:1/x", "owner": "bob"}, 422, "invalid_option"),
        ({"query": 1, "webhook": "http://127.0.0.1:1/x"}, 422, "invalid_option"),
        ({"query": "person", "webhook": "http://example.org/x"}, 403, "webhook_not_allowed"),
        ([], 400, "malformed_upload"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(
    start_server: Callable[..., Server], body: object, status: int, code: str
) -> None:
    server = start_server(webhook_hosts="127.0.0.1:1", url_networks="127.0.0.0/8", webhook_secret=SECRET)
    problem_of(server.client.post("/rules", json=body), status, code)
    assert server.client.get("/rules").json() == {"rules": []}


def test_a_rule_is_json_and_needs_webhooks(server: Server) -> None:
    problem_of(server.client.post("/rules", content=b"{}"), 415, "unsupported_content_type")
    twice = server.client.post(
        "/rules",
        content=b'{"query": "a", "query": "person", "webhook": "u"}',
        headers={"content-type": "application/json"},
    )
    assert problem_of(twice, 422, "invalid_option")["option"] == "query"
    problem_of(
        server.client.post("/rules", json={"query": "person", "webhook": "http://x/"}), 403, "webhook_not_allowed"
    )


def test_nobody_has_more_than_a_hundred_rules(start_server: Callable[..., Server]) -> None:
    server = start_server(webhook_hosts="127.0.0.1:1", url_networks="127.0.0.0/8", webhook_secret=SECRET)
    rule = {"query": "person", "webhook": "http://127.0.0.1:1/x"}
    assert {server.client.post("/rules", json=rule).status_code for _ in range(100)} == {201}
    problem_of(server.client.post("/rules", json=rule), 409, "too_many_rules")


async def test_rules_outlive_the_process_where_the_queue_does(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    from service.jobs.rules import RuleRequest, Rules

    with serve_web(reply()) as web:
        settings = allowing(web)
        async with process(tiny_bundle, tmp_path / "data", redis_url, **settings) as running:
            rule = await Rules(running.queue).add("me", RuleRequest(query="person", webhook=url_of(web)))
        async with process(tiny_bundle, tmp_path / "data", redis_url, **settings) as running:
            assert await Rules(running.queue).of_owner("me") == [rule]
            assert await Rules(running.queue).of_owner("another") == []


def test_the_operator_names_rules_in_a_file(start_server: Callable[..., Server], clip: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    with serve_web(reply()) as web:
        rules.write_text(
            f'[[rule]]\nquery = "{HOLDING}"\nwebhook = "{url_of(web)}"\n'
            f'[[rule]]\nquery = "person"\nwebhook = "{url_of(web)}"\nowner = "somebody"\n'
        )
        server = start_server(**allowing(web, rules=str(rules)))
        assert server.client.get("/rules").json() == {"rules": []}
        graph = server.post(clip).json()
        (event,) = told(web)
    assert (event["data"]["id"], event["data"]["query"]) == (graph["id"], HOLDING)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("query = ", "no TOML"),
        ('[[rule]]\nquery = "person"', "rule.0.webhook is missing"),
        ('[[rule]]\nquery = "person holds cup"\nwebhook = "http://127.0.0.1:1/x"', "rule 1.*holds"),
        ('[[rule]]\nquery = "person"\nwebhook = "http://example.org/x"', "rule 1 cannot be used"),
        (None, "No such file"),
    ],
)
def test_a_file_of_rules_that_cannot_be_used_ends_the_start(
    tiny_bundle: Path, tmp_path: Path, text: str | None, reason: str
) -> None:
    file = tmp_path / "rules.toml"
    if text is not None:
        file.write_text(text)
    settings = {"webhook_hosts": "127.0.0.1:1", "url_networks": "127.0.0.0/8", "webhook_secret": SECRET}
    with pytest.raises(SettingsError, match=reason):
        create_app(load_settings({"bundles": (tiny_bundle,), "rules": str(file), **settings}))
