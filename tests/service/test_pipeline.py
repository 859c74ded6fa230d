from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from models.graph.scene_graph import SceneGraph
from service.errors import JobCancelled, UnknownModel
from service.loading import open_pipeline
from service.options import VideoOptions
from service.pipeline import Pipeline, Progress, clips
from service.prompt import KeyFrame, key_moments
from service.settings import load_settings
from service.video import FrameChunk, VideoReader
from service.video.errors import VideoUnreadable
from tests.support.videos import make_video, rotate


def make_pipeline(bundle: Path) -> Iterator[Pipeline]:
    settings = load_settings({"max_frames": 100, "streams": 1, "threads": 1})
    with closing(open_pipeline(settings, bundles=[bundle])) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def pipeline(tiny_bundle: Path) -> Iterator[Pipeline]:
    yield from make_pipeline(tiny_bundle)


@pytest.fixture(scope="module")
def video_pipeline(video_bundle: Path) -> Iterator[Pipeline]:
    yield from make_pipeline(video_bundle)


def person_box(graph: SceneGraph, frame: int = 0) -> tuple[float, float, float, float]:
    return next(thing.box for thing in graph.frames[frame].objects if thing.label == "person")


def test_a_video_becomes_a_graph(pipeline: Pipeline, clip: Path) -> None:
    graph = pipeline.run(clip, VideoOptions())
    assert [frame.timestamp for frame in graph.frames] == [0.0, 0.5, 1.0, 1.5]
    assert (graph.video.width, graph.video.height, graph.video.codec) == (64, 48, "h264")
    assert graph.video.sha256 == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert graph.model.model_dump() == {
        "name": "tiny",
        "version": "1",
        "engine": "onnxruntime-cpu",
        "precision": "fp32",
    }
    assert {triplet.predicate for triplet in graph.frames[0].triplets} >= {"holding", "sitting_on"}
    assert "cup" in graph.prompt
    assert graph.warnings == []
    assert graph.timings.keys() == {"decode", "engine", "graph", "total"}
    assert graph.timings["total"] >= graph.timings["engine"]


def test_the_most_telling_frames_are_given_to_be_kept(tiny_bundle: Path, clip: Path) -> None:
    kept: list[dict[int, KeyFrame]] = []
    out = BytesIO()
    settings = load_settings({"keep_frames": 2, "streams": 1, "threads": 1})
    with closing(open_pipeline(settings, bundles=[tiny_bundle])) as keeping:
        keeping.write(clip, VideoOptions(), out, keep=lambda frames: kept.append(dict(frames)) or [7])
    graph = SceneGraph.model_validate_json(out.getvalue())
    (frames,) = kept
    assert 1 <= len(frames) <= 2
    assert sorted(frame.timestamp for frame in frames.values()) == key_moments(graph, 2)
    assert graph.kept_frames == [7], "the graph names those that are really kept"
    assert graph.timings["keep"] > 0


def test_a_graph_is_made_although_its_frames_cannot_be_read_again(
    tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "spoilt.mp4"
    video.write_bytes(clip.read_bytes())

    def spoil(progress: Progress) -> None:
        if progress.frames == progress.expected:
            video.write_bytes(b"no video any more")

    out = BytesIO()
    settings = load_settings({"keep_frames": 2, "streams": 1, "threads": 1})
    with closing(open_pipeline(settings, bundles=[tiny_bundle])) as keeping:
        keeping.write(video, VideoOptions(), out, progress=spoil, keep=lambda frames: list(frames))
    graph = SceneGraph.model_validate_json(out.getvalue())
    assert len(graph.frames) == 4
    assert graph.kept_frames == []
    assert [warning.code for warning in graph.warnings] == ["frames_not_kept"]


def test_boxes_are_pixels_of_the_video_not_of_the_model(pipeline: Pipeline, tmp_path: Path) -> None:
    video = make_video(tmp_path / "wide.mp4", seconds=0.5, size=(320, 100))
    x1, y1, x2, y2 = person_box(pipeline.run(video, VideoOptions()))
    assert (x1, y1, y2) == pytest.approx((32, 10, 90), abs=0.2)
    assert x2 == pytest.approx(320 * (0.2 + 0.7 * 0.6), abs=3)


def test_boxes_are_square_pixels_of_the_displayed_video(pipeline: Pipeline, tmp_path: Path) -> None:
    plain = pipeline.run(make_video(tmp_path / "square.mp4"), VideoOptions())
    video = make_video(tmp_path / "anamorphic.mp4", pixel_shape=Fraction(3, 2))
    wide = pipeline.run(video, VideoOptions())
    assert (wide.video.width, wide.video.height) == (96, 48)
    assert np.array(person_box(wide)) == pytest.approx(np.array(person_box(plain)) * [1.5, 1, 1.5, 1], abs=0.2)
    turned = pipeline.run(rotate(video, tmp_path / "turned.mp4", 90, mirrored=True), VideoOptions())
    assert (turned.video.width, turned.video.height) == (48, 96)
    assert np.array(person_box(turned)) == pytest.approx(np.array(person_box(plain)) * [0.75, 2, 0.75, 2], abs=0.2)


def test_frames_reach_the_engine_in_order_across_clips(pipeline: Pipeline, tmp_path: Path) -> None:
    video = make_video(tmp_path / "brighter.mp4", seconds=5, brightness=lambda seconds: 0.2 + 0.15 * seconds)
    graph = pipeline.run(video, VideoOptions())
    edges = [person_box(graph, index)[2] for index in range(len(graph.frames))]
    assert len(edges) == 10  # two clips of four and one of two
    assert edges == sorted(edges)
    assert edges[-1] > edges[0] + 15


def test_a_video_without_people_gives_an_empty_graph(pipeline: Pipeline, tmp_path: Path) -> None:
    graph = pipeline.run(make_video(tmp_path / "dark.mp4", brightness=lambda seconds: 0.0), VideoOptions())
    assert len(graph.frames) == 4
    assert all(not frame.objects and not frame.triplets for frame in graph.frames)
    assert graph.relations == []
    assert graph.prompt
    SceneGraph.model_validate_json(graph.model_dump_json())


def test_rate_and_range_are_those_asked_for(pipeline: Pipeline, clip: Path) -> None:
    graph = pipeline.run(clip, VideoOptions(fps=5, start=0.5, end=1.5))
    assert [frame.timestamp for frame in graph.frames] == pytest.approx([0.5, 0.7, 0.9, 1.1, 1.3], abs=0.051)


def test_max_frames_ends_sampling_with_a_warning(pipeline: Pipeline, clip: Path) -> None:
    graph = pipeline.run(clip, VideoOptions(max_frames=3))
    assert len(graph.frames) == 3
    assert graph.options.max_frames == 3
    assert len(graph.warnings) == 1


def test_options_over_the_caps_are_reported_as_applied(pipeline: Pipeline, clip: Path) -> None:
    graph = pipeline.run(clip, VideoOptions(max_frames=5000))
    assert graph.options.max_frames == 100
    assert [warning.code for warning in graph.warnings] == ["max_frames_lowered"]


def test_constraint_score_and_top_k_reach_the_graph(pipeline: Pipeline, clip: Path) -> None:
    everything = pipeline.run(clip, VideoOptions(constraint="no"))
    best = pipeline.run(clip, VideoOptions(constraint="with"))
    assert len(everything.frames[0].triplets) > len(best.frames[0].triplets)
    assert len(pipeline.run(clip, VideoOptions(top_k=2)).frames[0].triplets) == 2
    assert all(triplet.score >= 0.5 for triplet in pipeline.run(clip, VideoOptions(min_score=0.5)).frames[0].triplets)


def relation_scores(graph: SceneGraph, predicate: str) -> list[float | None]:
    """Of the one triplet with this predicate in every frame."""
    return [
        next(triplet.relation_score for triplet in frame.triplets if triplet.predicate == predicate)
        for frame in graph.frames
    ]


def test_a_stage_of_the_whole_video_sees_all_of_it_and_its_scores_reach_the_graph(
    video_pipeline: Pipeline, tmp_path: Path
) -> None:
    video = make_video(tmp_path / "brighter.mp4", seconds=5, brightness=lambda seconds: 0.2 + 0.15 * seconds)
    graph = video_pipeline.run(video, VideoOptions())  # ten frames, in clips of four
    assert relation_scores(graph, "sitting_on") == pytest.approx([index / 9 for index in range(10)], abs=1e-3)
    scores = relation_scores(graph, "holding")
    assert scores[0] == pytest.approx(0.2 / 0.875, abs=0.03)
    assert scores == sorted(scores)
    assert scores[-1] == 1
    holding = next(triplet for triplet in graph.frames[0].triplets if triplet.predicate == "holding")
    assert holding.score == pytest.approx(0.9 * 0.8 * 0.95 * scores[0], abs=1e-3)
    merged = next(relation for relation in graph.relations if relation.predicate == "holding")
    assert merged.relation_score == pytest.approx(np.mean(scores), abs=1e-3)


def test_timestamps_of_a_range_are_those_of_the_video(video_pipeline: Pipeline, clip: Path) -> None:
    graph = video_pipeline.run(clip, VideoOptions(start=1, fps=5, uncertainty=True))
    times = [frame.timestamp for frame in graph.frames]
    assert times[0] == pytest.approx(1, abs=0.051)
    assert relation_scores(graph, "sitting_on") == pytest.approx([time / times[-1] for time in times], abs=1e-3)
    for frame in graph.frames:
        assert frame.triplets[0].uncertainty is not None
        assert frame.triplets[0].uncertainty.aleatoric == pytest.approx(frame.timestamp / 100, abs=1e-4)


def test_uncertainty_is_given_if_it_is_asked_for_and_the_model_has_it(
    video_pipeline: Pipeline, pipeline: Pipeline, clip: Path
) -> None:
    silent = video_pipeline.run(clip, VideoOptions())
    assert (silent.options.uncertainty, silent.warnings) == (False, [])
    assert '"uncertainty":{' not in silent.model_dump_json()
    asked = video_pipeline.run(clip, VideoOptions(uncertainty=True))
    assert (asked.options.uncertainty, asked.warnings) == (True, [])
    for triplet in asked.frames[1].triplets:
        assert triplet.uncertainty is not None
        assert triplet.uncertainty.epistemic == pytest.approx(0.06, abs=0.005)
    unknown = pipeline.run(clip, VideoOptions(uncertainty=True))
    assert [warning.code for warning in unknown.warnings] == ["no_uncertainty"]
    assert "'tiny'" in unknown.warnings[0].detail
    assert '"uncertainty":{' not in unknown.model_dump_json()


def test_a_single_frame_is_a_video(video_pipeline: Pipeline, clip: Path) -> None:
    graph = video_pipeline.run(clip, VideoOptions(max_frames=1))
    assert relation_scores(graph, "holding") == [1]


def test_an_unknown_model_is_refused_with_the_known_ones(pipeline: Pipeline, clip: Path) -> None:
    with pytest.raises(UnknownModel, match="no model named 'huge' is served here; there is tiny"):
        pipeline.run(clip, VideoOptions(model="huge"))


def test_progress_counts_up_to_what_was_expected(pipeline: Pipeline, clip: Path) -> None:
    seen: list[Progress] = []
    pipeline.run(clip, VideoOptions(fps=5), progress=seen.append)
    assert seen == [Progress(0, 10), Progress(4, 10), Progress(8, 10), Progress(10, 10)]


def test_progress_knows_the_rate_of_the_video(pipeline: Pipeline, clip: Path) -> None:
    seen: list[Progress] = []
    pipeline.run(clip, VideoOptions(fps=30), progress=seen.append)
    assert (seen[0], seen[-1]) == (Progress(0, 20), Progress(20, 20))


def test_progress_of_a_damaged_video_reaches_its_end(pipeline: Pipeline, clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    with av.open(str(clip)) as container:
        broken = [packet for packet in container.demux(video=0) if packet.pts is not None][10]
        begin, size = broken.pos or 0, broken.size
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content[:begin] + b"\xff" * size + content[begin + size :])
    seen: list[Progress] = []
    graph = pipeline.run(damaged, VideoOptions(fps=30), progress=seen.append)
    assert 0 < len(graph.frames) < seen[0].expected == 20
    assert seen[-1] == Progress(len(graph.frames), len(graph.frames))


def test_recordings_one_after_the_other_are_one_video_of_their_length(pipeline: Pipeline, tmp_path: Path) -> None:
    one = make_video(tmp_path / "one.ts", seconds=10)
    two = tmp_path / "two.ts"
    two.write_bytes(one.read_bytes() * 2)
    graph = pipeline.run(two, VideoOptions())
    assert graph.video.duration == pytest.approx(20, abs=0.01)
    assert graph.frames[-1].timestamp == 19.5
    assert all(relation.end - relation.start == pytest.approx(20) for relation in graph.relations)
    assert "from a 20-second video" in graph.prompt


def test_a_graph_states_times_as_it_states_scores(pipeline: Pipeline, tmp_path: Path) -> None:
    graph = pipeline.run(make_video(tmp_path / "ntsc.mp4", seconds=20, rate=24), VideoOptions(fps=24, start=15.5))
    times = [frame.timestamp for frame in graph.frames]
    times += [moment for relation in graph.relations for moment in (relation.start, relation.end)]
    assert times == [round(time, 4) for time in times]
    assert 16.0 in times


def test_one_frame_is_a_video_with_a_length(pipeline: Pipeline, tmp_path: Path) -> None:
    graph = pipeline.run(make_video(tmp_path / "one.mp4", seconds=0.04, rate=25), VideoOptions())
    assert graph.video.duration == pytest.approx(0.04)
    assert "from a 0.04-second video" in graph.prompt
    assert {(relation.start, relation.end) for relation in graph.relations} == {(0.0, 0.04)}


@pytest.mark.usefixtures("slow_engine")
def test_cancelling_ends_a_run_between_clips(pipeline: Pipeline, long_clip: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(JobCancelled):
        pipeline.run(long_clip, VideoOptions(fps=1), progress=seen.append, cancelled=lambda: len(seen) >= 3)
    assert seen[-1].frames == 8


def test_cancelling_does_not_wait_for_the_decoder(
    pipeline: Pipeline, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def waits_until_closed(reader: VideoReader) -> FrameChunk:
        assert closed.wait(10)
        raise VideoUnreadable("the decoder ended too early")

    def close(reader: VideoReader) -> None:
        closed.set()
        really_close(reader)

    really_close = VideoReader.close
    monkeypatch.setattr(VideoReader, "__next__", waits_until_closed)
    monkeypatch.setattr(VideoReader, "close", close)
    seen: list[Progress] = []
    with pytest.raises(JobCancelled):
        pipeline.run(clip, VideoOptions(), progress=seen.append, cancelled=lambda: len(seen) > 0)


def test_clips_regroup_chunks_of_any_size() -> None:
    def chunk(*times: float) -> FrameChunk:
        return FrameChunk(np.array(times), np.array(times, np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3))

    regrouped = list(clips([chunk(0, 1, 2), chunk(3), chunk(4, 5, 6, 7, 8), chunk(9)], 4))
    assert [clip.timestamps.tolist() for clip in regrouped] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for clip in regrouped:
        assert clip.frames[:, 0, 0, 0].tolist() == clip.timestamps.tolist()
