"""Takes the pictures of the page that the documentation shows: `make pictures`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.conftest import serve
from tests.service.page.browser import launch, visit
from tests.support.paths import ROOT

SAMPLE = ROOT / "docs" / "puppets.mp4"
MOMENT = 0.5


def main() -> None:
    """Writes page-start.png, page-working.png and page-result.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        serve(Path(data), bundles=(ROOT / "bundles" / "arn-compact",)) as server,
        sync_playwright() as playwright,
        launch(playwright) as browser,
    ):
        with visit(browser, server, viewport={"width": 960, "height": 620}) as opened:
            opened.page.get_by_text("Options").click()
            opened.until("() => model.options.length > 0")
            opened.page.screenshot(path=folder / "page-start.png")
        with visit(browser, server, viewport={"width": 960, "height": 260}) as opened:
            opened.page.get_by_text("Options").click()
            opened.page.fill("#fps", "24")  # many frames, so that there is time for a picture
            opened.choose(SAMPLE)
            opened.until("() => progress.value > 20 && /Reading/.test(step.textContent)")
            opened.page.screenshot(path=folder / "page-working.png")
        with visit(browser, server, viewport={"width": 1180, "height": 1160}) as opened:
            opened.open(SAMPLE)
            opened.seek(MOMENT)
            opened.page.evaluate("() => document.activeElement.blur()")
            picture = folder / "page-result.png"
            opened.page.screenshot(path=picture)
            Image.open(picture).quantize(256).save(picture, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main()
