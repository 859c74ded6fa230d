"""Fixtures for tests of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import Server, serve
from tests.service.page.browser import CHROMIUM, Visit, launch, visit
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; tests/install-system-packages does that")
    with sync_playwright() as playwright, launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample video of the README."""
    return ROOT / "docs" / "puppets.mp4"


@pytest.fixture(scope="module")
def puppet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the bundled model, which sees what happens in the sample video."""
    with serve(tmp_path_factory.mktemp("data"), bundles=(ROOT / "bundles" / "arn-compact",)) as running:
        yield running


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens pages; when the test is over, they must have asked nobody but their own server and broken no policy."""
    visits: list[Visit] = []
    with ExitStack() as stack:

        def opened(server: Server, **context: Any) -> Visit:
            visits.append(stack.enter_context(visit(browser, server, **context)))
            return visits[-1]

        yield opened
    for each in visits:
        own = (each.server.url, "blob:", "data:")
        assert [address for address in each.requested if not address.startswith(own)] == []
        # The browser itself reports answers such as 415 on its console.
        assert [text for text in each.complaints if not text.startswith("Failed to load resource")] == []
