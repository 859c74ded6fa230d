"""Pairs on disk: found once, and then the same as if they were found anew, but for half precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from models.networks.checkpoint import load_checkpoint, save_checkpoint
from models.networks.detectors import Detector
from models.networks.relations.pairs import Pairs
from tests.support.networks import make_lively, tiny_detector
from training.configuration import TrainingConfig
from training.data import pair_annotations
from training.data.action_genome import load_action_genome
from training.data.clips import ClipBatch, ClipDataset, collate
from training.data.pair_annotations import FindPairs, PairDataset, collate_pairs
from training.objectives import make_objective
from training.objectives.relations import RelationObjective
from training.targets import TENSORS, annotated_boxes

EXACT = {"mask", "subject_boxes", "subject_scores", "object_boxes", "timestamps"}


@pytest.fixture(scope="module")
def clips(puppets: Path) -> ClipDataset:
    """32 frames in clips of three."""
    videos = load_action_genome(puppets, split="train", small_objects="keep")
    return ClipDataset(videos, height=64, width=64, clip_length=3)


class Finder:
    """Finds pairs with a detector, and counts the frames it was shown."""

    def __init__(self, detector: Path) -> None:
        network, _ = load_checkpoint(detector)
        assert isinstance(network, Detector)
        self.detector = network
        self.calls: list[int] = []

    @torch.no_grad()
    def __call__(self, batch: ClipBatch) -> Pairs:
        self.calls.append(batch.frames.shape[1])
        boxes, labels, mask = annotated_boxes(batch.targets)
        return self.detector.supplied_pairs(batch.frames, batch.timestamps, boxes, labels, mask)


def test_pairs_on_disk_are_those_found_on_the_fly(
    clips: ClipDataset, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_annotations, "_FRAMES_AT_ONCE", 10)
    find = Finder(detector)
    dataset = PairDataset(clips, find, tmp_path, "a detector")
    assert find.calls == [10, 10, 10, 2]
    assert len(dataset) == len(clips)
    indices = [0, 3, len(clips) - 1]
    batch = collate_pairs([dataset[index] for index in indices])
    direct = collate([clips[index] for index in indices])
    wanted = find(direct)
    assert wanted.mask.any()
    assert not wanted.mask.all()
    for field in fields(Pairs):
        value, own = getattr(wanted, field.name), getattr(batch.pairs, field.name)
        if value is None:
            assert own is None
            continue
        assert own.dtype == value.dtype, field.name
        rough = field.name not in EXACT
        # The detector sees other frames beside each: its convolutions round differently.
        torch.testing.assert_close(own, value, atol=1e-3 if rough else 1e-5, rtol=2e-3 if rough else 1e-5,
                                   msg=field.name)  # fmt: skip
    assert torch.equal(batch.pairs.labels[wanted.mask], wanted.labels[wanted.mask])
    assert all(torch.equal(getattr(batch.targets, name), getattr(direct.targets, name)) for name in TENSORS)


def test_cached_pairs_are_computed_once(clips: ClipDataset, detector: Path, tmp_path: Path) -> None:
    first, second = Finder(detector), Finder(detector)
    PairDataset(clips, first, tmp_path, "a detector")
    dataset = PairDataset(clips, second, tmp_path, "a detector")
    assert (sum(first.calls), sum(second.calls)) == (32, 0)
    assert dataset[0][0]["mask"].shape[0] == 3
    (folder,) = tmp_path.iterdir()
    assert np.load(folder / "union_features.npy", mmap_mode="r").dtype == np.float16


def test_corrected_boxes_or_another_way_of_finding_are_other_pairs(
    puppets: Path, detector: Path, tmp_path: Path
) -> None:
    def dataset(found_by: str, moved: float) -> PairDataset:
        videos = load_action_genome(puppets, split="train", small_objects="keep")
        videos[3].frames[1].boxes[0] += moved
        clips = ClipDataset(videos, height=64, width=64, clip_length=3)
        return PairDataset(clips, Finder(detector), tmp_path, found_by)

    for found_by, moved, folders in (("one", 0, 1), ("one", 0, 1), ("two", 0, 2), ("one", 4, 3)):
        dataset(found_by, moved)
        assert len(list(tmp_path.iterdir())) == folders


def test_two_searches_at_once_both_read_whole_pairs(clips: ClipDataset, detector: Path, tmp_path: Path) -> None:
    # The second begins when the first has found half of its pairs, and ends before it.
    found: list[PairDataset] = []
    find = Finder(detector)

    def interrupted(batch: ClipBatch) -> Pairs:
        if not found:
            found.append(PairDataset(clips, Finder(detector), tmp_path, "a detector"))
        return find(batch)

    first = PairDataset(clips, interrupted, tmp_path, "a detector")
    assert len(list(tmp_path.iterdir())) == 1
    for name, array in first.arrays.items():
        assert np.array_equal(array, found[0].arrays[name]), name
    assert all(first.arrays["subject_scores"].reshape(32, -1).any(axis=1))


def test_a_search_that_was_stopped_leaves_nothing_that_looks_whole(
    clips: ClipDataset, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_annotations, "_FRAMES_AT_ONCE", 16)
    find = Finder(detector)

    def stops(batch: ClipBatch) -> Pairs:
        if find.calls:
            raise KeyboardInterrupt
        return find(batch)

    with pytest.raises(KeyboardInterrupt):
        PairDataset(clips, stops, tmp_path, "a detector")
    assert not list(tmp_path.iterdir())
    whole: FindPairs = Finder(detector)
    assert len(PairDataset(clips, whole, tmp_path, "a detector").arrays["mask"]) == 32


def test_pairs_of_another_detector_are_cached_separately(
    configure_relations: Callable[..., TrainingConfig], puppets: Path, detector: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    save_checkpoint(other, make_lively(tiny_detector(), seed=1), {})
    cache = puppets / "cache"
    items = []
    for path in (detector, other, detector):
        before = set(cache.glob("pairs_*"))
        objective = make_objective(configure_relations(cache_pairs=True, detector=path), torch.device("cpu"))
        assert isinstance(objective, RelationObjective)
        assert isinstance(objective.dataset, PairDataset)
        items.append(objective.dataset[0][0]["union_features"])
        assert len(set(cache.glob("pairs_*")) - before) <= 1
    assert np.array_equal(items[0], items[2])
    assert not np.array_equal(items[0], items[1])


@pytest.mark.parametrize("task", ["predcls", "sgcls"])
def test_tasks_that_give_boxes_have_pairs_of_their_own(
    configure_relations: Callable[..., TrainingConfig], task: str
) -> None:
    objective = make_objective(configure_relations(cache_pairs=True, task=task), torch.device("cpu"))
    batch = objective.collate([objective.dataset[0], objective.dataset[1]])  # type: ignore[attr-defined]
    assert not batch.pairs.mask[..., 0].any(), "the person's own slot"
    assert torch.equal(batch.pairs.mask[..., 1:], batch.targets.object_mask)
