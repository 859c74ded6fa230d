"""What a frozen host says is kept on disk: asked once, cut into the same clips, and as if it were asked anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.networks.scored import DescribedPairs
from training.data import described_pairs
from training.data.described_pairs import DescribedDataset, ScorerBatch, collate_described

LENGTHS = (3, 1, 2)


class Host:
    """Says the number of an item and of a frame, and counts the items that it was shown."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, items: list[Any]) -> ScorerBatch:
        self.calls.append(items)
        time = max(LENGTHS[item] for item in items)
        said = torch.tensor([[item + frame / 8 for frame in range(time)] for item in items])[..., None, None]
        mask = torch.tensor([[frame < LENGTHS[item] for frame in range(time)] for item in items])[..., None]
        boxes = said[..., None].expand(-1, -1, 1, 2, 4)
        return ScorerBatch(DescribedPairs(said.expand(-1, -1, 1, 5), said.expand(-1, -1, 1, 2), mask, boxes), mask)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(described_pairs, "_CLIPS_AT_ONCE", 2)
    return Host()


def dataset(host: Host, folder: Path, key: str = "a host") -> DescribedDataset:
    return DescribedDataset([0, 1, 2], LENGTHS, host, folder, key)  # type: ignore[arg-type]


def test_a_host_is_asked_once_for_each_clip_and_key(host: Host, tmp_path: Path) -> None:
    dataset(host, tmp_path)
    assert host.calls == [[0, 1], [2]]
    dataset(host, tmp_path)
    assert len(host.calls) == 2
    dataset(host, tmp_path, "another host")
    assert len(host.calls) == 4
    assert len(list(tmp_path.iterdir())) == 2


def test_a_clip_holds_its_own_frames_and_a_batch_is_padded_with_nothing(host: Host, tmp_path: Path) -> None:
    described = dataset(host, tmp_path)
    assert [len(described[index]["mask"]) for index in range(len(described))] == [3, 1, 2]
    batch = collate_described([described[0], described[2]])
    assert batch.pairs.representation.dtype == torch.float32
    assert batch.pairs.representation[0, :, 0, 0].tolist() == [0, 0.125, 0.25]
    assert batch.pairs.representation[1, :, 0, 4].tolist() == [2, 2.125, 0]
    assert batch.pairs.confidence[1, :2, 0].tolist() == [[2, 2], [2.125, 2.125]]
    assert batch.pairs.boxes.shape == (2, 3, 1, 2, 4)
    assert batch.pairs.mask[:, :, 0].tolist() == batch.related[:, :, 0].tolist() == [[True] * 3, [True, True, False]]
