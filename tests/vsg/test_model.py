"""Graphs made in this process: from files, by options, with errors that say what to do."""

from __future__ import annotations

import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

import vsg
from models.graph.scene_graph import SceneGraph
from tests.support.bundles import make_tiny_bundle
from tests.support.waiting import decoders, until
from vsg import Model, open_model


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return open_model(tiny_bundle, threads=1)


def content_of(graph: SceneGraph) -> dict[str, object]:
    return graph.model_dump(exclude={"timings"})


def engine_threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"vsg-{name}-")]


def test_a_path_bytes_and_a_file_give_the_same_graph(model: Model, clip: Path) -> None:
    graph = model(clip)
    assert len(graph.frames) == 4
    assert "holds" in graph.prompt
    assert content_of(model(str(clip))) == content_of(graph)
    assert content_of(model(clip.read_bytes())) == content_of(graph)
    with clip.open("rb") as file:
        assert content_of(model(file)) == content_of(graph)


def test_a_file_is_read_from_where_it_stands(model: Model, clip: Path) -> None:
    file = BytesIO(b"head" + clip.read_bytes())
    file.seek(4)
    assert model(file).video.sha256 == model(clip).video.sha256


def test_the_options_are_those_of_the_api(model: Model, clip: Path) -> None:
    graph = model(
        clip, fps=5, start=0.5, end=1.5, max_frames=3, min_score=0.4, top_k=2, constraint="no", uncertainty=True
    )
    assert json.loads(graph.options.model_dump_json()) == {
        "fps": 5.0, "start": 0.5, "end": 1.5, "max_frames": 3, "min_score": 0.4, "top_k": 2, "constraint": "no",
        "uncertainty": True,
    }  # fmt: skip
    assert len(graph.frames) == 3
    assert [warning.code for warning in graph.warnings] == ["no_uncertainty", "max_frames_reached"]
    assert content_of(model(clip, fps=None, end=None)) == content_of(model(clip))


def test_a_wrong_option_is_named_with_its_value(model: Model, clip: Path) -> None:
    with pytest.raises(vsg.OptionError, match="0") as caught:
        model(clip, fps=0)
    assert (caught.value.option, caught.value.status, caught.value.code) == ("fps", 422, "invalid_option")
    for option in ("fsp", "webhook", "model"):
        with pytest.raises(vsg.OptionError, match=rf"'{option}' is not an option of a model: use fps"):
            model(clip, **{option: "1"})  # type: ignore[arg-type]


def test_a_video_that_cannot_be_used_is_refused_as_by_the_service(model: Model, clip: Path) -> None:
    with pytest.raises(vsg.UnusableVideoError) as caught:
        model(b"no video")
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media")
    assert str(caught.value) == caught.value.detail
    with pytest.raises(vsg.UnusableVideoError) as caught:
        model(clip, start=50)
    assert caught.value.code == "range_outside_video"
    with pytest.raises(FileNotFoundError):
        model("nowhere.mp4")


def test_progress_is_told_after_every_clip(model: Model, clip: Path) -> None:
    told: list[vsg.Progress] = []
    model(clip, fps=5, progress=told.append)
    assert [(progress.frames, progress.expected) for progress in told] == [(0, 10), (4, 10), (8, 10), (10, 10)]


def test_what_progress_raises_ends_the_work(model: Model, clip: Path) -> None:
    def stop(progress: vsg.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(clip, progress=stop)
    until(lambda: not decoders())
    assert len(model(clip).frames) == 4


def test_several_threads_may_call_it_at_once(model: Model, clip: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(model, [clip] * 8))
    assert len({json.dumps(content_of(graph), default=str) for graph in graphs}) == 1


def test_it_says_what_it_is(model: Model) -> None:
    assert model.name == model.manifest.name == "tiny"
    assert "person" in model.vocabulary.objects
    assert repr(model) == "<Model 'tiny'>"


def test_its_threads_end_with_the_context(tmp_path: Path, clip: Path) -> None:
    with open_model(make_tiny_bundle(tmp_path / "bundle", name="closing")) as model:
        model(clip)
        assert engine_threads("closing")
    assert not engine_threads("closing")
    assert not decoders()
    model.close()
    with pytest.raises(ValueError, match="is closed"):
        model(clip)


def test_its_threads_end_when_it_is_thrown_away(tmp_path: Path, clip: Path) -> None:
    assert open_model(make_tiny_bundle(tmp_path / "bundle", name="loose"))(clip).model.name == "loose"
    gc.collect()
    assert not engine_threads("loose")


def test_a_bundle_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSG_BUNDLES", str(make_tiny_bundle(tmp_path / "mine" / "small")))
    with open_model("small") as model:
        assert model.name == "tiny"
    with open_model("arn-compact", "onnxruntime-cpu", threads=1) as model:
        assert model.name == "arn-compact"


def test_a_bundle_that_cannot_be_opened_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(vsg.OpenModelError, match=r"no bundle 'nowhere'.*arn-compact"):
        open_model("nowhere")
    with pytest.raises(vsg.OpenModelError, match="is not a bundle"):
        open_model(tmp_path)
    with pytest.raises(vsg.OpenModelError, match=r"engine .*'abacus'"):
        open_model(tiny_bundle, "abacus")  # type: ignore[arg-type]
    for name in ("a", "b"):
        make_tiny_bundle(tmp_path / name, name=name)
    with pytest.raises(vsg.OpenModelError, match="holds several bundles: give the path of one of a, b"):
        open_model(tmp_path)
