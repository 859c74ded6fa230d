"""A real browser on the page of a running service."""

from __future__ import annotations

import io
import json
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, Response

from tests.conftest import Server

# Chromium as distributions build it plays H.264; Playwright's own build does not.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
]
# Shared machines are slow at times.
_MILLISECONDS = 60_000


def launch(playwright: Playwright) -> Browser:
    """Starts Chromium without a window."""
    return playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=_ARGUMENTS)


@contextmanager
def visit(browser: Browser, server: Server, **context: Any) -> Iterator[Visit]:
    """Opens the page in a browser without a past; `context` goes to Playwright's `new_context`."""
    with browser.new_context(accept_downloads=True, **context) as opened:
        opened.set_default_timeout(_MILLISECONDS)
        visit = Visit(opened.new_page(), server)
        visit.page.on("request", lambda request: visit.requested.append(request.url))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on("console", lambda message: visit.complaints.append(message.text))
        visit.page.goto(server.url)
        yield visit


@dataclass
class Visit:
    """One person's visit of the page.

    requested: addresses of everything that the page asked for.
    complaints: errors of the page, and lines that the browser wrote to its console.
    """

    page: Page
    server: Server
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def choose(self, video: Path) -> None:
        """Chooses a file in the page's own control."""
        self.page.set_input_files("#file", video)

    def open(self, video: Path) -> dict[str, Any]:
        """Chooses a video, waits until its graph is shown, and gives the graph that the page got."""
        with self.page.expect_response(self._is_graph) as got:
            self.choose(video)
        self.page.wait_for_selector("#result:not([hidden])")
        graph: dict[str, Any] = got.value.json()
        self.until("() => document.querySelector('video').readyState >= 2 || !unplayable.hidden")
        return graph

    def seek(self, seconds: float) -> None:
        """Moves the slider, and waits until the video is there."""
        self.page.fill("#slider", f"{seconds:.2f}")
        self.settle()

    def settle(self) -> None:
        """Waits until the video shows what it was asked for, and the page what belongs to it."""
        self.until("() => !video.seeking")
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until(self, condition: str) -> None:
        """Waits until a JavaScript function returns true; elements with an id are known by it."""
        self.page.wait_for_function(condition)

    def seconds(self) -> float:
        """The time that the page shows."""
        return float(self.page.input_value("#slider"))

    def drawn(self) -> NDArray[np.uint8]:
        """Height x width x RGBA of what is drawn over the video."""
        address = self.page.evaluate("() => overlay.toDataURL()")
        return np.asarray(Image.open(io.BytesIO(b64decode(address.partition(",")[2]))).convert("RGBA"))

    def picture(self) -> NDArray[np.uint8]:
        """Height x width x RGB of the picture that the video shows."""
        address = self.page.evaluate(
            "() => { const canvas = document.createElement('canvas');"
            " canvas.width = video.videoWidth; canvas.height = video.videoHeight;"
            " canvas.getContext('2d').drawImage(video, 0, 0); return canvas.toDataURL(); }"
        )
        return np.asarray(Image.open(io.BytesIO(b64decode(address.partition(",")[2]))).convert("RGB"))

    def download(self, name: str) -> tuple[str, bytes]:
        """Presses the button of a download; gives the file's name and content."""
        with self.page.expect_download() as got:
            self.page.get_by_role("button", name=name, exact=True).click()
        return got.value.suggested_filename, Path(got.value.path()).read_bytes()

    def shown_problem(self) -> list[str]:
        """The lines of what the page says has gone wrong, once it says so."""
        alert = self.page.get_by_role("alert")
        alert.wait_for()
        assert self.page.locator("#start").is_visible()
        return [line for line in alert.inner_text().splitlines() if line]

    def words(self) -> list[str]:
        """The triplets that are shown, as sentences without scores."""
        return [text.rpartition(" ")[0] for text in self.page.locator("#triplets li").all_inner_texts()]

    def nodes(self) -> set[int]:
        """Ids of the things in the graph that is shown."""
        return set(self.page.eval_on_selector_all(".node", "nodes => nodes.map(node => Number(node.dataset.id))"))

    def _is_graph(self, response: Response) -> bool:
        path = response.url.removeprefix(self.server.url)
        if response.request.method != "GET" or not path.startswith("/videos/") or path.count("/") != 2:
            return False
        return bool(json.loads(response.text()).get("frames"))


OpenPage = Callable[..., Visit]
"""Opens the page of a server; the rest goes to `visit`."""
