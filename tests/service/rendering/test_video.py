"""Rendered videos and pictures, read back with the decoder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from models.graph.scene_graph import Box, SceneGraph
from service.errors import RenderError
from service.rendering import render_frame, render_video
from service.rendering.tags import color_of
from service.video import EVERY_FRAME, Sampling, VideoInfo, VideoReader
from service.video.errors import RangeOutsideVideo
from tests.support.graphs import frame, scene_graph
from tests.support.paths import ROOT
from tests.support.videos import add_sound, make_video, rotate

PUPPETS = ROOT / "docs" / "puppets.mp4"


def read(path: Path) -> tuple[VideoInfo, list[float], NDArray[np.uint8]]:
    """All frames of a video in its own size, with their times."""
    with VideoReader(path, Sampling(fps=1.0, max_frames=1, height=1, width=1)) as reader:
        info = reader.info
    sampling = Sampling(fps=EVERY_FRAME, max_frames=10_000, height=info.height, width=info.width)
    with VideoReader(path, sampling) as reader:
        chunks = list(reader)
    times = [time for chunk in chunks for time in chunk.timestamps.tolist()]
    return info, times, np.concatenate([chunk.frames for chunk in chunks])


def moving(size: tuple[int, int], start: Box, end: Box, *, seconds: int = 2, duration: float = 2.0) -> SceneGraph:
    """A thing that moves evenly, sampled once a second."""
    boxes = np.linspace(start, end, seconds + 1)
    frames = [frame(index, float(index), [(1, "chair", tuple(box))]) for index, box in enumerate(boxes.tolist())]
    return scene_graph(frames, size=size, duration=duration)


def assert_outlined(image: NDArray[np.uint8], box: Box, identity: int = 1) -> None:
    """Checks that the lower, the left and the right side of a box are drawn just inside it, and nothing beside them."""
    left, top, right, bottom = (round(side) for side in box)
    middle_x, low = (left + right) // 2, (top + 3 * bottom) // 4
    for x, y in ((left, low), (right - 1, low), (middle_x, bottom - 1)):
        assert np.abs(image[y, x].astype(int) - color_of(identity)).max() < 60, (x, y)
    for x, y in ((left - 3, low), (left + 5, low), (right + 2, low), (middle_x, bottom + 2), (middle_x, bottom - 6)):
        assert np.abs(image[y, x].astype(int) - color_of(identity)).max() > 60, (x, y)


def test_a_puppet_video_keeps_its_frames_and_its_length(tmp_path: Path) -> None:
    graph = moving((160, 128), (20, 40, 60, 80), (100, 40, 140, 120), seconds=10, duration=10.0)
    seen: list[float] = []
    render_video(PUPPETS, graph, tmp_path / "out.mp4", seen.append)
    _, times, source = read(PUPPETS)
    after, drawn_times, drawn = read(tmp_path / "out.mp4")
    assert (after.width, after.height, after.duration, after.frame_rate) == (160, 128, 10.0, 24.0)
    assert drawn_times == pytest.approx(times)
    assert seen == times
    for index in (0, 60, 132, 239):
        share = times[index] / 10
        box = (20 + 80 * share, 40.0, 60 + 80 * share, 80 + 40 * share)
        assert_outlined(drawn[index], box)
        # Far from box and name the video is as it was.
        assert np.abs(drawn[index][:20].astype(int) - source[index][:20]).mean() < 4


def test_a_rotated_video_is_drawn_upright_and_its_boxes_with_it(tmp_path: Path) -> None:
    source = rotate(PUPPETS, tmp_path / "turned.mp4", 90)
    graph = moving((128, 160), (40, 60, 80, 140), (40, 60, 80, 140), seconds=10, duration=10.0)
    render_video(source, graph, tmp_path / "out.mp4")
    before, times, upright = read(source)
    after, drawn_times, drawn = read(tmp_path / "out.mp4")
    assert (after.width, after.height) == (before.width, before.height) == (128, 160)
    assert drawn_times == pytest.approx(times)
    assert_outlined(drawn[100], (40, 60, 80, 140))
    assert np.abs(drawn[100][:30].astype(int) - upright[100][:30]).mean() < 4
    with av.open(tmp_path / "out.mp4") as container:
        assert next(container.decode(video=0)).rotation == 0


def test_a_mirrored_video_is_drawn_as_players_show_it(tmp_path: Path) -> None:
    source = rotate(PUPPETS, tmp_path / "mirrored.mp4", 0, mirrored=True)
    graph = moving((160, 128), (40, 60, 80, 120), (40, 60, 80, 120), seconds=10, duration=10.0)
    render_video(source, graph, tmp_path / "out.mp4")
    _, _, stored = read(PUPPETS)
    _, _, drawn = read(tmp_path / "out.mp4")
    assert_outlined(drawn[100], (40, 60, 80, 120))
    assert np.abs(drawn[100][:30].astype(int) - stored[100][:30, ::-1]).mean() < 4


def test_a_video_whose_pixels_are_not_square_keeps_its_shape(tmp_path: Path) -> None:
    source = make_video(tmp_path / "anamorphic.mp4", size=(160, 120), pixel_shape=Fraction(3, 2))
    graph = moving((240, 120), (40, 40, 120, 100), (60, 40, 140, 100))
    render_video(source, graph, tmp_path / "out.mp4", scale=2)
    info, _, drawn = read(tmp_path / "out.mp4")
    assert (info.width, info.height) == (480, 240)
    assert_outlined(drawn[0], (80, 80, 240, 200))
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)
    picture = render_frame(source, graph, 0.0)
    assert_outlined(np.asarray(picture)[:120, :240], (40, 40, 120, 100))


def test_an_odd_sized_video_gets_a_column_and_a_row_at_its_far_ends(tmp_path: Path) -> None:
    source = make_video(tmp_path / "odd.mp4", size=(151, 113), pixels="yuv444p")
    render_video(source, moving((151, 113), (30, 40, 80, 90), (50, 40, 100, 90)), tmp_path / "out.mp4")
    info, times, drawn = read(tmp_path / "out.mp4")
    assert (info.width, info.height, len(times), info.duration) == (152, 114, 20, 2.0)
    assert_outlined(drawn[0], (30, 40, 80, 90))
    assert_outlined(drawn[10], (40, 40, 90, 90))
    assert np.abs(drawn[:, -1].astype(int) - 153).max() < 8
    assert np.abs(drawn[:, :, -1].astype(int) - 153).max() < 8


def test_a_video_without_an_even_rate_keeps_its_times(tmp_path: Path) -> None:
    moments = [0.0, 0.1, 0.15, 0.5, 0.52, 1.25, 1.3]
    with av.open(tmp_path / "uneven.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment in moments:
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), round(150 * moment), np.uint8), format="rgb24")
            image.pts, image.time_base = round(1000 * moment), Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    before, times, _ = read(tmp_path / "uneven.mp4")
    assert times == pytest.approx(moments, abs=1e-3)
    render_video(tmp_path / "uneven.mp4", scene_graph([], size=(64, 48)), tmp_path / "out.mp4")
    after, drawn_times, _ = read(tmp_path / "out.mp4")
    assert drawn_times == pytest.approx(times, abs=1e-3)
    assert after.duration == pytest.approx(before.duration, abs=1e-3)


def test_a_rate_that_matroska_rounds_is_kept(tmp_path: Path) -> None:
    source = make_video(tmp_path / "thirty.mkv", rate=30)
    render_video(source, scene_graph([], size=(64, 48)), tmp_path / "out.mp4")
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].average_rate == 30


def packets(path: Path) -> Iterator[tuple[float, bytes]]:
    with av.open(path) as container:
        for packet in container.demux(audio=0):
            if packet.dts is not None:
                yield float(packet.pts * packet.time_base), bytes(packet)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.ts", "aac")])
def test_sound_is_copied_where_it_is_asked_for(tmp_path: Path, name: str, codec: str) -> None:
    source = add_sound(make_video(tmp_path / "silent.mp4"), tmp_path / name, codec=codec)
    graph = scene_graph([], size=(64, 48))
    render_video(source, graph, tmp_path / "out.mp4", sound=True)
    after, times, _ = read(tmp_path / "out.mp4")
    assert (times[0], len(times), after.duration) == (0.0, 20, 2.0)
    heard = list(packets(tmp_path / "out.mp4"))
    sent = list(packets(source))
    headers = 7 if name == "a.ts" else 0  # which MPEG-TS has on every packet
    assert {content[headers:] for _, content in sent} >= {content for _, content in heard}
    assert len(sent) - 2 <= len(heard)
    assert heard[0][0] == pytest.approx(0.0, abs=0.05)
    assert heard[-1][0] == pytest.approx(2.0, abs=0.1)
    render_video(source, graph, tmp_path / "quiet.mp4")
    with av.open(tmp_path / "quiet.mp4") as container:
        assert not container.streams.audio


def test_a_picture_that_begins_after_the_sound_still_does(tmp_path: Path) -> None:
    source = add_sound(
        make_video(tmp_path / "silent.mp4", size=(160, 120)), tmp_path / "late.mp4", seconds=5.0, delay=3.0
    )
    graph = moving((160, 120), (20, 40, 60, 80), (100, 40, 140, 80))
    render_video(source, graph, tmp_path / "out.mp4", sound=True)
    with av.open(tmp_path / "out.mp4") as container:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert [time for time, _ in shown] == pytest.approx(3.0 + np.arange(20) / 10, abs=1e-3)
    assert_outlined(shown[0][1], (20, 40, 60, 80))
    heard = [time for time, _ in packets(tmp_path / "out.mp4")]
    assert [heard[0], heard[-1]] == pytest.approx([0.0, 5.0], abs=0.1)


def test_recordings_one_after_the_other_are_drawn_with_their_sound(tmp_path: Path) -> None:
    one = add_sound(make_video(tmp_path / "silent.mp4"), tmp_path / "one.ts")
    two = tmp_path / "two.ts"
    two.write_bytes(one.read_bytes() * 2)
    render_video(two, scene_graph([], size=(64, 48), duration=4.0), tmp_path / "out.mp4", sound=True)
    after, times, _ = read(tmp_path / "out.mp4")
    assert len(times) == 40
    assert after.duration == pytest.approx(4.0, abs=0.05)
    heard = [time for time, _ in packets(tmp_path / "out.mp4")]
    assert np.all(np.diff(heard) > 0)
    assert heard[-1] == pytest.approx(4.0, abs=0.15)
    assert render_frame(two, scene_graph([], size=(64, 48), duration=4.0), 3.5).width > 64


def test_sound_that_an_mp4_does_not_take_is_left_out(tmp_path: Path) -> None:
    source = add_sound(make_video(tmp_path / "silent.mp4"), tmp_path / "a.mkv", codec="pcm_f32le")
    render_video(source, scene_graph([], size=(64, 48)), tmp_path / "out.mp4", sound=True)
    with av.open(tmp_path / "out.mp4") as container:
        assert not container.streams.audio
        assert len(list(container.decode(video=0))) == 20


def test_a_graph_of_another_video_is_refused(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4")
    with pytest.raises(RenderError, match=r"of 640x360 pixels, but this one has 64x48"):
        render_video(source, scene_graph([], size=(640, 360)), tmp_path / "out.mp4")
    with pytest.raises(RenderError, match="cannot be drawn"):
        render_video(source, scene_graph([], size=(64, 48)), tmp_path / "out.mp4", scale=200)
    assert not (tmp_path / "out.mp4").exists()


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(scene_graph([], size=(640, 360)).model_dump_json())
    code = """
import resource, sys
from pathlib import Path
from models.graph.scene_graph import SceneGraph
from service.rendering import render_video
folder = Path(sys.argv[1])
graph = SceneGraph.model_validate_json((folder / "graph.json").read_bytes())
render_video(folder / sys.argv[2], graph, folder / "out.mp4")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    peaks = []
    for name, seconds in (("short.mp4", 3), ("long.mp4", 20)):
        make_video(tmp_path / name, seconds=seconds, size=(640, 360))
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path, name], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(float(done.stdout))
    # The 170 frames more are 112 MiB.
    assert peaks[1] - peaks[0] < 40


def test_a_picture_has_the_frame_of_that_time_and_the_graph_beside_it(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4", size=(320, 240), brightness=lambda seconds: 0.3 if seconds < 1 else 0.8)
    things = [(1, "person", (100.0, 60.0, 180.0, 220.0)), (2, "cup/glass/bottle", (200.0, 100.0, 240.0, 140.0))]
    frames = [frame(index, float(index), things, [(1, "holding", 2)]) for index in range(2)]
    graph = scene_graph(frames, size=(320, 240))
    for at, grey in ((0.95, 76), (1.05, 204)):
        picture = np.asarray(render_frame(source, graph, at))
        assert np.abs(picture[10, 10].astype(int) - grey).max() < 8
        assert_outlined(picture[:240, :320], things[0][2])
        beside = picture[:, 320:]
        for identity in (1, 2):
            assert (beside == color_of(identity)).all(axis=2).any()
    with pytest.raises(RangeOutsideVideo, match="no frame at 2 s; the video ends at 2"):
        render_frame(source, graph, 2.0)
