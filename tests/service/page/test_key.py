"""The page of a service that wants a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route

from service.keys import new_key
from tests.conftest import Server
from tests.service.page.browser import OpenPage
from tests.service.test_keys import write_keys


@pytest.fixture
def guarded(start_server: Callable[..., Server], tmp_path: Path) -> tuple[Server, str]:
    """A service that wants a key, and the key."""
    key = new_key()
    return start_server(keys=write_keys(tmp_path / "keys", viewer=key)), key


def test_the_page_of_a_service_with_keys_asks_for_one_and_keeps_it_in_the_tab(
    open_page: OpenPage, guarded: tuple[Server, str], clip: Path
) -> None:
    server, key = guarded
    visit = open_page(server)
    page = visit.page
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(server.client.get("/models").json()["detail"]).wait_for()
    dialog.get_by_label("Key").fill(wrong := new_key())
    dialog.get_by_role("button", name="Continue").click()
    refused = server.client.get("/models", headers={"authorization": f"Bearer {wrong}"}).json()
    dialog.get_by_text(refused["detail"]).wait_for()
    dialog.get_by_label("Key").fill(key)
    dialog.get_by_label("Key").press("Enter")
    graph = visit.open(clip)
    assert json.loads(visit.download("JSON")[1]) == graph
    assert page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert not page.get_by_role("link", name="API").is_visible(), "it would lead to a 401"
    page.reload()
    dialog.wait_for()


def test_a_request_under_way_while_the_key_is_given_is_sent_again_with_it(
    open_page: OpenPage, guarded: tuple[Server, str], clip: Path
) -> None:
    server, key = guarded
    visit = open_page(server)
    dialog = visit.page.get_by_role("dialog")
    dialog.wait_for()
    held: list[Route] = []
    visit.page.route("**/videos", lambda route: held.append(route), times=1)
    visit.choose(clip)
    visit.until("() => /Sending the video/.test(step.textContent)")
    dialog.get_by_label("Key").fill(key)
    dialog.get_by_label("Key").press("Enter")
    visit.until("() => model.options.length")
    with visit.page.expect_response(lambda response: response.status == 202):
        held[0].continue_()
    visit.page.wait_for_selector("#result:not([hidden])")


def test_without_a_key_the_services_problem_is_shown(
    open_page: OpenPage, guarded: tuple[Server, str], clip: Path
) -> None:
    server, _ = guarded
    problem = server.client.get("/models").json()
    visit = open_page(server)
    visit.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert visit.shown_problem() == [problem["title"], problem["detail"]]
