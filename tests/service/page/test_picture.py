"""The browser shows a video as the service sees it, so that boxes lie on what they name."""

from __future__ import annotations

import io
from base64 import b64decode
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.video import Sampling, VideoReader
from tests.conftest import Server
from tests.service.page.browser import OpenPage
from tests.service.video.conftest import Clips

_PICTURE = """() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL();
}"""


@pytest.mark.parametrize("sign", [(1, 1), (1, -1), (-1, 1), (-1, -1)], ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
def test_the_browser_turns_mirrors_and_widens_a_video_as_the_service_does(
    open_page: OpenPage, server: Server, tmp_path: Path, sign: tuple[int, int], turned: bool
) -> None:
    matrix = (0, sign[0], sign[1], 0) if turned else (sign[0], 0, 0, sign[1])
    path = Clips(tmp_path).make("shown.mp4", count=10, matrix=matrix, pixel=Fraction(3, 2))
    visit = open_page(server)
    graph = visit.open(path)
    visit.seek(0.0)
    address = visit.page.evaluate(_PICTURE)
    shown = np.asarray(Image.open(io.BytesIO(b64decode(address.partition(",")[2]))).convert("RGB"))
    height, width = shown.shape[:2]
    assert (graph["video"]["width"], graph["video"]["height"]) == (width, height)
    with VideoReader(path, Sampling(fps=1.0, max_frames=1, height=height, width=width)) as reader:
        seen = next(reader).frames[0]
    assert np.abs(seen.astype(int) - shown).mean() < 6
