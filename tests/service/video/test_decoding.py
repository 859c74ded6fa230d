"""Wanted frames that are decoded with little else are those of a full decode, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from service.video import Container, DecodeLimits, Sampling
from service.video.decoding import MissingFrameError, Scaler, decode_needed, decode_wanted
from service.video.media import examine, opened
from service.video.sampled_frames import SampledFrames
from service.video.wire import Request
from tests.service.video.conftest import Clips

COUNT, RATE = 120, 30
PYRAMID = {"preset": "veryfast", "bf": "3", "b_strategy": "0", "g": "30", "keyint_min": "30", "sc_threshold": "0"}
CODECS: dict[str, dict[str, Any]] = {
    "pyramid.mp4": {"options": PYRAMID},
    "pyramid.flv": {"options": PYRAMID},
    "long_groups.mkv": {"options": PYRAMID | {"g": "250"}},
    "two_b_frames.mp4": {"options": {"preset": "ultrafast", "bf": "2", "g": "12"}},
    "open_h264.mp4": {"options": {"preset": "veryfast", "x264-params": "open-gop=1:keyint=20:bframes=3:scenecut=0"}},
    "intra_refresh.mp4": {"options": {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=20:bframes=2"}},
    "slices.mp4": {"options": PYRAMID | {"slices": "4"}},
    "closed_h265.mp4": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=3:open-gop=0"},
    },
    "open_h265.mkv": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=4:open-gop=1"},
    },
    "layers_h265.mp4": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=40:bframes=3:temporal-layers=3"},
    },
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "good", "cpu-used": "5", "g": "30", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "good", "cpu-used": "5", "g": "30", "auto-alt-ref": "1"}},
    "advanced_simple.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "15", "flags": "+qpel"}},
    "jpeg.mkv": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "prores.mkv": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "g": "30", "svtav1-params": "enable-overlays=1"}},
}
SAMPLINGS: list[dict[str, Any]] = [
    {"fps": 2.0},
    {"fps": 0.7, "start": 0.4},
    {"fps": 60.0, "start": 1.1, "end": 1.6},
    {"fps": 7.0, "start": 1.9, "max_frames": 6},
    {"fps": 1.0, "start": 3.95},
]


CONTAINERS = {".mp4": Container.MP4, ".mkv": Container.MATROSKA, ".webm": Container.MATROSKA, ".flv": Container.FLV}


class Moving(Clips):
    """Cards above a texture that moves, so that frames depend on those that they refer to."""

    texture = np.random.default_rng(0).integers(0, 256, (30, 200, 3), np.uint8).repeat(4, axis=0)

    def card(self, number: int, width: int, height: int) -> NDArray[np.uint8]:
        image = super().card(number, width, height)
        image[height // 2 :] = self.texture[height // 2 : height, number % 40 : number % 40 + width]
        return image


class OnlyFromPackets(SampledFrames):
    """Fails where PyAV does not decode the wanted frames alone."""

    def _chosen_by_frames(self) -> Any:
        raise AssertionError("all of the video would be decoded")

    def _from_decord(self, wanted: Any) -> Any:
        raise AssertionError("decord would be asked")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Moving:
    return Moving(tmp_path_factory.mktemp("moving"))


def make(moving: Moving, name: str) -> Path:
    if name == "irregular.mp4":
        times = np.concatenate([[0.0], np.cumsum(np.random.default_rng(3).uniform(0.01, 0.08, COUNT - 1))])
        return moving.make(name, times, options=PYRAMID)
    return moving.make(name, count=COUNT, rate=RATE, **CODECS[name])


def request(path: Path, threads: int = 1, **sampling: Any) -> Request:
    options = {"max_frames": 1000, "height": Moving.height, "width": Moving.width} | sampling
    limits = DecodeLimits(threads=threads, chunk_frames=4)
    return Request(CONTAINERS[path.suffix], Sampling(**options), limits, path=str(path))


def full_decode(path: Path) -> list[NDArray[np.uint8]]:
    """All frames as they are shown, in colours that our frames have."""
    scaler = Scaler()
    with av.open(str(path)) as container:
        return [scaler.rgb(frame, frame.width, frame.height) for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", [*CODECS, "irregular.mp4"])
def test_frames_are_those_of_a_full_decode(moving: Moving, name: str) -> None:
    path = make(moving, name)
    every = full_decode(path)
    assert len(every) == COUNT
    for index, sampling in enumerate(SAMPLINGS):
        asked = request(path, threads=1 + index % 2, **sampling)
        media = examine(asked)
        end = min(sampling.get("end", media.timing.end), media.timing.end)
        expected = moving.on_display(media.timing.times, sampling["fps"], end, sampling.get("start", 0.0))
        expected = expected[: asked.sampling.max_frames]
        chunks = list(OnlyFromPackets(asked, media).chunks())
        assert np.concatenate([times for times, _ in chunks]).tolist() == media.timing.times[expected].tolist()
        for number, frame in zip(expected, np.concatenate([pixels for _, pixels in chunks]), strict=True):
            assert np.array_equal(frame, every[number])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("pyramid.mp4", 4),
        ("closed_h265.mp4", 6),
        ("vp9.webm", 4),
        ("advanced_simple.mp4", 1),
        ("open_h264.mp4", 1),
        ("open_h265.mkv", 1),
        ("intra_refresh.mp4", 1),
    ],
)
def test_decoding_begins_only_where_no_frame_looks_back(moving: Moving, name: str, count: int) -> None:
    assert len(examine(request(make(moving, name), fps=2.0)).beginnings) == count


@pytest.mark.parametrize(("name", "most"), [("pyramid.mp4", 20), ("closed_h265.mp4", 40), ("long_groups.mkv", 60)])
def test_few_frames_besides_the_wanted_ones_are_decoded(moving: Moving, name: str, most: int) -> None:
    asked = request(make(moving, name), fps=1.0)
    media = examine(asked)
    with opened(asked) as (container, stream):
        wanted = media.stamps[::RATE]
        assert len(wanted) <= len(list(decode_needed(container, stream, wanted, media.beginnings))) <= most


def test_a_wanted_frame_that_does_not_come_out_is_an_error(moving: Moving) -> None:
    asked = request(make(moving, "pyramid.mp4"), fps=1.0)
    media = examine(asked)
    with opened(asked) as (container, stream), pytest.raises(MissingFrameError, match="missing"):
        list(decode_wanted(container, stream, np.append(media.stamps[:3], media.stamps[3] + 1), media.beginnings))
