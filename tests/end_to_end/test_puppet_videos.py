"""The bundled model on puppet videos: boxes, ids, prompt and rotation are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.graph.duplicates import box_iou
from models.graph.scene_graph import Frame, SceneGraph
from service.loading import open_pipeline
from service.options import VideoOptions
from service.pipeline import Pipeline
from service.prompt import count_tokens
from service.settings import load_settings
from tests.support.paths import ROOT
from training.data.puppets.story import Story, make_story
from training.data.puppets.video import Truth, ground_truth, write_video
from training.data.puppets.world import DEMANDING_1

BUNDLE = ROOT / "bundles" / "arn-compact"
SECONDS = 10.0
FRAME_RATE = 8
# Far from any seed that `vsg data puppets` derives for training.
SEEDS = range(9_000_000, 9_000_012)


@dataclass(frozen=True)
class Case:
    """A puppet video's graph, and the truth at the times of its frames."""

    graph: SceneGraph
    truth: list[Truth]


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with closing(open_pipeline(load_settings(), bundles=[BUNDLE])) as pipeline:
        yield pipeline


@pytest.fixture(scope="module", params=[0, 90, 180, 270], ids=lambda rotation: f"rotated-{rotation}")
def cases(request: pytest.FixtureRequest, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folder = tmp_path_factory.mktemp(f"rotated-{request.param}")
    return [make_case(folder / f"{seed}.mp4", make_story(DEMANDING_1, seed), pipeline, request.param) for seed in SEEDS]


def make_case(path: Path, story: Story, pipeline: Pipeline, rotation: int) -> Case:
    write_video(path, story, SECONDS, FRAME_RATE, rotation)  # type: ignore[arg-type]
    graph = pipeline.run(path, VideoOptions())
    return Case(graph, ground_truth(story, [frame.timestamp for frame in graph.frames]))


def overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    return float(box_iou(np.array(first), np.array(second)))


def test_the_person_is_where_the_persons_box_is(cases: list[Case]) -> None:
    hits = [
        person_is_found(frame, truth)
        for case in cases
        for frame, truth in zip(case.graph.frames, case.truth, strict=True)
    ]
    assert len(hits) >= len(SEEDS) * 19
    assert np.mean(hits) >= 0.9


def person_is_found(frame: Frame, truth: Truth) -> bool:
    people = [thing for thing in frame.objects if thing.label == "person"]
    return any(overlap(person.box, truth.person_box) >= 0.5 for person in people)


def test_an_object_keeps_its_id_while_it_is_visible(cases: list[Case]) -> None:
    kept = [len(ids) == 1 for case in cases for ids in ids_by_identity(case)]
    assert len(kept) >= len(SEEDS)
    assert np.mean(kept) >= 0.9


def ids_by_identity(case: Case) -> list[set[int]]:
    """For the person and each thing of the truth, the ids of the graph's objects of its class that lie on it."""
    found: dict[int, set[int]] = {}
    for frame, truth in zip(case.graph.frames, case.truth, strict=True):
        wanted = [(-1, "person", truth.person_box)]
        wanted += [(thing.identity, thing.name, thing.box) for thing in truth.things if thing.visible]
        for identity, label, box in wanted:
            for thing in frame.objects:
                if thing.label == label and overlap(thing.box, box) >= 0.5:
                    found.setdefault(identity, set()).add(thing.id)
    return list(found.values())


def test_the_prompt_of_ten_seconds_is_short_and_names_what_is_there(cases: list[Case]) -> None:
    for case in cases:
        prompt = case.graph.prompt
        assert count_tokens(prompt) <= 400
        assert "person" in prompt
        # Times have one decimal, so anything finer would be a score.
        assert not re.search(r"\d\.\d\d", prompt)


def test_the_displayed_size_is_reported_whatever_the_rotation(cases: list[Case]) -> None:
    assert {(case.graph.video.width, case.graph.video.height) for case in cases} == {(160, 128)}
