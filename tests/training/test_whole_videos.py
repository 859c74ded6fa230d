"""Epochs that are passes over videos, whole videos in a batch, what a task changes, and negatives of PredCls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.networks.checkpoint import load_checkpoint
from training.configuration import TrainingConfig, load_config
from training.data.action_genome import load_action_genome
from training.data.clips import ClipBatch, ClipDataset
from training.errors import ConfigurationError
from training.loop import train
from training.objectives.relations import RelationObjective
from training.relation_losses import given_matches

Configure = Callable[..., TrainingConfig]
CONFIGS = Path(__file__).parents[2] / "training" / "configs"
TWO_STAGE = ("sttran", "sttran_rs_net", "tr2", "mosa", "fremure")
CPU = torch.device("cpu")


def test_every_video_is_one_item_however_long_it_is(puppets: Path) -> None:
    videos = load_action_genome(puppets, split="train", small_objects="keep")
    whole = ClipDataset(videos, height=64, width=64, clip_length=99, whole_videos=True)
    assert [len(rows) for rows in whole.clips] == [len(video.frames) for video in videos]
    assert np.concatenate(whole.clips).tolist() == list(range(len(whole.paths)))
    assert whole.items_per_epoch == len(videos) == 8


def test_a_video_that_is_too_long_is_cut_into_parts_of_equal_length(puppets: Path) -> None:
    videos = load_action_genome(puppets, split="train", small_objects="keep")
    cut = ClipDataset(videos, height=64, width=64, clip_length=3, whole_videos=True)
    assert {len(rows) for rows in cut.clips} == {2}
    assert np.concatenate(cut.clips).tolist() == list(range(len(cut.paths)))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"whole_videos": True, "clip_length": 8, "batch_size": 1}, 16),  # 8 videos, twice
        ({"whole_videos": True, "clip_length": 8, "batch_size": 3}, 6),
        ({"clip_length": 2, "batch_size": 4}, 8),  # 32 frames in clips of 2, twice
    ],
)
def test_an_epoch_is_a_pass_over_the_videos(
    configure_relations: Configure, tmp_path: Path, changes: dict[str, Any], steps: int
) -> None:
    config = configure_relations(epochs=2, steps=1, cache_pairs=True, output=tmp_path / "run", **changes)
    _, provenance = load_checkpoint(train(config))
    assert provenance["config"]["steps"] == steps


def test_frames_behind_a_shorter_video_hold_no_pair(configure_relations: Configure) -> None:
    objective = RelationObjective(*parts(configure_relations(whole_videos=True, clip_length=8)), CPU)
    frames, known = objective.dataset[0]
    shorter = frames[:2], {name: each[:2] for name, each in known.items()}
    batch = objective.collate([(frames, known), shorter])
    assert isinstance(batch, ClipBatch)
    assert batch.real.tolist() == [[True] * 4, [True, True, False, False]]
    mask = objective._find(batch).mask
    assert mask[1, :2].any()
    assert not mask[1, 2:].any()
    terms = objective.loss_terms(objective.model.eval(), batch, CPU)
    assert all(term.isfinite() for term in terms.values())


def parts(config: TrainingConfig) -> tuple[TrainingConfig, Any]:
    return config, config.model


def test_predcls_shows_a_relation_scorer_pairs_that_are_not_related(configure_relations: Configure) -> None:
    def related_pairs(**changes: Any) -> tuple[int, int]:
        objective = RelationObjective(*parts(configure_relations(task="predcls", **changes)), CPU)
        batch = objective.collate([objective.dataset[index] for index in range(6)])
        assert isinstance(batch, ClipBatch)
        pairs = objective._find(batch)
        matches = given_matches(pairs.mask, batch.targets)
        return int((matches.related & pairs.mask).sum()), int((~matches.related & pairs.mask).sum())

    related, unrelated = related_pairs(relation_scoring=True, scorer={"input_width": 1, "width": 16, "heads": 2})
    assert unrelated > 0
    assert related_pairs() == (related, 0), "the host alone sees annotated pairs"


@pytest.mark.parametrize("name", TWO_STAGE)
def test_two_stage_configurations_of_action_genome_see_whole_videos_for_the_papers_epochs(name: str) -> None:
    config = load_config(CONFIGS / f"{name}_action_genome.yaml")
    assert config.epochs == (15 if name in ("tr2", "mosa") else 10)
    assert (config.whole_videos, config.batch_size) == (True, 1)
    assert config.clip_length > 97, "the longest training video is whole"
    assert config.model.whole_video  # type: ignore[union-attr]
    assert config.relation_loss.average_predicates == (name in ("mosa", "fremure"))


def test_arn_r50_shows_each_frame_of_action_genome_twenty_times() -> None:
    assert load_config(CONFIGS / "arn_r50_action_genome.yaml").epochs == 20


def test_a_task_brings_what_the_paper_changes_with_it() -> None:
    def loaded(name: str, task: str, **more: Any) -> TrainingConfig:
        return load_config(CONFIGS / f"{name}_action_genome.yaml", {"task": task, **more})

    for name in TWO_STAGE:
        assert [loaded(name, task).small_objects for task in ("predcls", "sgcls", "sgdet")] == ["keep", "drop", "drop"]
    tr2 = {task: loaded("tr2", task) for task in ("predcls", "sgcls", "sgdet")}
    assert [config.model.text_classifiers for config in tr2.values()] == [True, True, False]  # type: ignore[union-attr]
    assert [config.relation_loss.object for config in tr2.values()] == [1.0, 10.0, 1.0]
    assert loaded("tr2", "sgcls", **{"relation_loss.object": 3.0}).relation_loss.object == 3.0, "what is set wins"
    assert loaded("fremure", "predcls").model.mixtures == 6  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [("{scgls: {}}", "tasks names 'scgls': give predcls, sgcls or sgdet"), ("[1]", "tasks must hold keys and values")],
)
def test_wrong_tasks_are_refused(tmp_path: Path, tasks: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\ntasks: {tasks}\n")
    with pytest.raises(ConfigurationError, match=message):
        load_config(path)


def test_context_fusion_with_a_frozen_host_is_refused(configure_relations: Configure) -> None:
    scorer = {"input_width": 1, "context_fusion": True}
    with pytest.raises(ConfigurationError, match="trains the host's predicate classifiers together with the scorer"):
        configure_relations(relation_scoring=True, freeze_host=True, initialise_from="x.pt", scorer=scorer)
