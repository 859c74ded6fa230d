"""Clips: which frames they take, what is read once into a file, and annotations that stay true under augmentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.data.action_genome import AnnotatedFrame, AnnotatedVideo
from training.data.clips import Augmentation, ClipBatch, ClipDataset, collate, read_frame
from training.errors import DataError

WIDTH, HEIGHT = 40, 20


def make_video(folder: Path, name: str, greys: list[int], objects: int = 1) -> AnnotatedVideo:
    """Frames of one grey each, so that a clip shows which it holds; a white bar covers the objects' box."""
    frames = []
    for number, grey in enumerate(greys):
        image = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
        image[4:16, 4:12] = 250
        path = folder / f"{name}{number}.png"
        cv2.imwrite(str(path), image)
        holds = np.zeros((objects, 26), bool)
        holds[:, [0, 4, 14]] = True
        frames.append(
            AnnotatedFrame(
                path=path,
                number=number,
                size=(WIDTH, HEIGHT),
                person_box=np.array((20.0, 0.0, 44.0, 20.0)),  # reaches over the right edge
                boxes=np.array([(4.0, 4.0, 12.0, 16.0)] * objects),
                labels=np.arange(1, objects + 1),
                predicates=holds,
            )
        )
    return AnnotatedVideo(name, frames)


@pytest.fixture
def videos(tmp_path: Path) -> list[AnnotatedVideo]:
    return [make_video(tmp_path, "long", [10, 20, 30, 40]), make_video(tmp_path, "short", [60, 70], objects=3)]


def greys(dataset: ClipDataset, index: int) -> list[int]:
    frames, _ = dataset[index]
    return [int(frame[0, -1, 0]) for frame in frames]


def test_a_clip_starts_at_every_frame_that_leaves_room_and_a_short_video_repeats_its_last(
    videos: list[AnnotatedVideo],
) -> None:
    dataset = ClipDataset(videos, height=HEIGHT, width=WIDTH, clip_length=3)
    assert [greys(dataset, index) for index in range(len(dataset))] == [[10, 20, 30], [20, 30, 40], [60, 70, 70]]


def test_single_frames_are_clips_of_one(videos: list[AnnotatedVideo]) -> None:
    dataset = ClipDataset(videos, height=HEIGHT, width=WIDTH, clip_length=1)
    assert [greys(dataset, index) for index in range(len(dataset))] == [[10], [20], [30], [40], [60], [70]]


def test_targets_are_fractions_of_the_frame_padded_to_the_most_objects(videos: list[AnnotatedVideo]) -> None:
    dataset = ClipDataset(videos, height=HEIGHT, width=WIDTH, clip_length=2)
    batch = collate([dataset[0], dataset[len(dataset) - 1]])
    targets = batch.targets
    assert batch.frames.shape == (2, 2, HEIGHT, WIDTH, 3)
    assert targets.object_mask.tolist() == [[[True, False, False]] * 2, [[True, True, True]] * 2]
    assert targets.object_boxes[0, 0, 0].tolist() == pytest.approx([0.2, 0.5, 0.2, 0.6])
    # Cut at the right edge: from 20 to 40 of 40 pixels.
    assert targets.person_boxes[0, 0].tolist() == pytest.approx([0.75, 0.5, 0.5, 1.0])
    assert targets.object_labels[1, 0].tolist() == [0, 1, 2], "counted without the person"
    assert targets.predicates[1, 1, 2].nonzero().flatten().tolist() == [0, 4, 14]
    assert targets.predicates[0, 0, 1:].sum() == 0


def test_frames_come_from_the_cache_once_it_is_there(
    videos: list[AnnotatedVideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"height": 10, "width": 20}
    direct = ClipDataset(videos, **size, clip_length=3)[2][0]
    ClipDataset(videos, **size, clip_length=3, cache=tmp_path / "cache")
    monkeypatch.setattr("training.data.clips.read_frame", None)
    cached = ClipDataset(videos, **size, clip_length=3, cache=tmp_path / "cache")
    assert greys(cached, 0) == [10, 20, 30]
    np.testing.assert_array_equal(cached[2][0], direct)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_holds_one_size_and_the_frames_as_they_are_now(videos: list[AnnotatedVideo], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ClipDataset(videos, height=10, width=20, clip_length=1, cache=cache)
    narrow = ClipDataset(videos, height=10, width=10, clip_length=1, cache=cache)
    assert narrow[0][0].shape == (1, 10, 10, 3)
    cv2.imwrite(str(videos[0].frames[0].path), np.full((HEIGHT, WIDTH, 3), 99, np.uint8))
    drawn_again = ClipDataset(videos, height=10, width=10, clip_length=1, cache=cache)
    assert (greys(narrow, 0), greys(drawn_again, 0)) == ([10], [99])
    videos.reverse()  # as many frames, in another order
    assert greys(ClipDataset(videos, height=10, width=10, clip_length=1, cache=cache), 0) == [60]


def test_a_missing_frame_is_named_before_a_cache_is_read(videos: list[AnnotatedVideo], tmp_path: Path) -> None:
    videos[0].frames[1].path.unlink()
    with pytest.raises(DataError, match=r"long1\.png cannot be read: No such file or directory; run `vsg data check`"):
        ClipDataset(videos, height=10, width=10, clip_length=1, cache=tmp_path / "cache")


def test_frames_are_rgb_and_stretched(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 2] = 200  # red, as OpenCV orders it
    cv2.imwrite(str(tmp_path / "red.png"), image)
    frame = read_frame(tmp_path / "red.png", 4, 6)
    assert frame.shape == (4, 6, 3)
    assert frame[2, 3].tolist() == [200, 0, 0]


def test_a_frame_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.png cannot be read as an image; run `vsg data check`"):
        read_frame(tmp_path / "nothing.png", 4, 4)


@pytest.fixture
def batch(videos: list[AnnotatedVideo]) -> ClipBatch:
    dataset = ClipDataset(videos, height=HEIGHT, width=WIDTH, clip_length=2)
    return collate([dataset[index] for index in range(len(dataset))] * 4)


def bar(frames: torch.Tensor) -> tuple[float, float]:
    """Left and right edge of the white bar, as fractions of the width."""
    columns = (frames[HEIGHT // 2, :, 0] > 200).nonzero().flatten()
    return columns[0].item() / WIDTH, (columns[-1].item() + 1) / WIDTH


@pytest.mark.parametrize("mirror", [0.0, 0.5, 1.0])
def test_boxes_stay_on_what_they_enclose(batch: ClipBatch, mirror: float) -> None:
    augment = Augmentation(mirror=mirror, gain=0, bias=0)
    turned = augment(batch, torch.Generator().manual_seed(0))
    flipped = 0
    for clip, boxes in zip(turned.frames, turned.targets.object_boxes, strict=True):
        for frame, box in zip(clip, boxes[:, 0], strict=True):
            left, right = bar(frame)
            assert [(left + right) / 2, right - left] == pytest.approx([box[0].item(), box[2].item()])
        flipped += bar(clip[0])[0] > 0.5
    assert {0.0: flipped == 0, 0.5: 0 < flipped < len(batch.frames), 1.0: flipped == len(batch.frames)}[mirror]
    torch.testing.assert_close(turned.targets.object_boxes[..., 1:], batch.targets.object_boxes[..., 1:])
    assert torch.equal(turned.targets.predicates, batch.targets.predicates)


def test_a_clip_has_the_timestamps_of_its_frames(videos: list[AnnotatedVideo]) -> None:
    dataset = ClipDataset(videos, height=HEIGHT, width=WIDTH, clip_length=3)
    batch = collate([dataset[1], dataset[2]])
    seconds = torch.tensor(((1.0, 2.0, 3.0), (0.0, 1.0, 1.0))) / 24  # the short video repeats its last frame
    torch.testing.assert_close(batch.timestamps, seconds)
    assert batch.timestamps.dtype == torch.float32
    assert torch.equal(Augmentation()(batch, torch.Generator()).timestamps, batch.timestamps)


def test_frames_and_targets_may_be_asked_for_by_their_place(videos: list[AnnotatedVideo]) -> None:
    dataset = ClipDataset(videos, height=HEIGHT, width=WIDTH, clip_length=3)
    rows = np.array([5, 0, 4])
    assert [int(frame[0, -1, 0]) for frame in dataset.frames_of(rows)] == [70, 10, 60]
    assert dataset.targets_of(rows)["object_mask"].sum(1).tolist() == [3, 1, 3]


def test_mirroring_moves_the_person_as_well(batch: ClipBatch) -> None:
    turned = Augmentation(mirror=1.0, gain=0, bias=0)(batch, torch.Generator())
    assert turned.targets.person_boxes[0, 0].tolist() == pytest.approx([0.25, 0.5, 0.5, 1.0])


def test_colours_change_alike_for_all_frames_of_a_clip_and_never_wrap(batch: ClipBatch) -> None:
    changed = Augmentation(mirror=0, gain=0.25, bias=25)(batch, torch.Generator().manual_seed(1))
    assert not torch.equal(changed.frames, batch.frames)
    bright = batch.frames > 245
    assert (changed.frames[bright] > 150).all(), "what was white did not wrap to black"
    still = batch.frames[2, 0].unsqueeze(0).expand(2, -1, -1, -1)[None]
    alike = Augmentation()(
        ClipBatch(still, batch.targets, batch.timestamps, batch.real), torch.Generator().manual_seed(2)
    ).frames
    assert torch.equal(alike[0, 0], alike[0, 1])


def test_the_same_generator_gives_the_same_augmentation(batch: ClipBatch) -> None:
    first, second = (Augmentation()(batch, torch.Generator().manual_seed(4)).frames for _ in range(2))
    assert torch.equal(first, second)
