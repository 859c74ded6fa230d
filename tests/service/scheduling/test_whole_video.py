from __future__ import annotations

import numpy as np

from models.engines import Tensors
from service.scheduling.whole_video import WholeVideo

PAIR_FIELDS = frozenset({"subject_scores", "object_boxes"})


def clip_of(random: np.random.Generator, frames: int, slots: int = 8) -> Tensors:
    return {
        "pair_mask": random.random((frames, slots)) < 0.2,
        "subject_scores": random.random((frames, slots)).astype(np.float32),
        "object_boxes": random.random((frames, slots, 4)).astype(np.float32),
        # As wide as there are slots, but no tensor of pairs.
        "frame_context": random.random((frames, slots)).astype(np.float32),
    }


def test_pairs_come_back_in_their_slots_and_empty_slots_are_zero() -> None:
    random = np.random.default_rng(0)
    clips = [clip_of(random, frames) for frames in (5, 1, 16, 3)]
    whole = WholeVideo(7, PAIR_FIELDS)  # fewer than come
    for clip in clips:
        whole.add(clip)
    frames = whole.take_frames()
    assert frames.keys() == {"pair_mask", "frame_context"}
    parts = list(whole.parts(frames, 4))
    assert [first for first, _ in parts] == [0, 4, 8, 12, 16, 20, 24]
    for name in clips[0]:
        wanted = np.concatenate([clip[name] for clip in clips])
        if name in PAIR_FIELDS:
            mask = np.concatenate([clip["pair_mask"] for clip in clips])
            wanted = np.where(mask.reshape(*mask.shape, *[1] * (wanted.ndim - 2)), wanted, 0)
        np.testing.assert_array_equal(np.concatenate([part[name] for _, part in parts]), wanted)


def test_slots_that_hold_no_pair_take_no_memory() -> None:
    random = np.random.default_rng(0)
    whole = WholeVideo(1000, PAIR_FIELDS)
    for _ in range(50):
        clip = clip_of(random, 20)
        clip["pair_mask"][:] = False
        whole.add(clip)
    assert {len(rows.values) for rows in whole._pairs.values()} == {0}


def test_a_video_whose_frames_have_no_mask_yet_keeps_all_slots() -> None:
    clip = clip_of(np.random.default_rng(0), 3)
    del clip["pair_mask"]
    whole = WholeVideo(3, PAIR_FIELDS)
    whole.add(clip)
    assert whole.take_frames().keys() == clip.keys()
