"""Object detectors in torch as a stage that finds pairs."""

from __future__ import annotations

import numpy as np
import torch

from export.check import sample_frames
from models.graph.vocabulary import ACTION_GENOME
from models.networks.detectors.choosing import Choosing, ChoosingConfig
from models.networks.detectors.object_detector import RegionDetector, detector_stage
from tests.support.networks import make_lively, tiny_detector

FRAMES = sample_frames(np.random.default_rng(0), 2, 3, 64, 64)
CONFIG = ChoosingConfig(pairs=6, persons=2, things=4, least_score=0.02, clip_length=4)


@torch.inference_mode()
def test_faster_r_cnn_gives_its_regions_as_boxes_and_scores() -> None:
    detector = make_lively(tiny_detector())
    found = RegionDetector(detector)
    frames = torch.from_numpy(FRAMES[0])
    boxes, scores = found(frames)
    assert (found.names, found.frame_size) == (ACTION_GENOME.objects, (64, 64))
    assert boxes.shape == (3, 8, 4)
    assert scores.shape == (3, 8, 36)
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    pairs = detector.pairs(frames[None], torch.zeros(1, 3))
    person = scores[..., 0].amax(-1)
    mask = pairs.mask[0].any(-1)
    assert torch.allclose(person[mask], pairs.subject_scores[0, :, 0][mask], atol=1e-6), "the same best subject"


def test_the_stage_gives_pairs_of_every_frame_by_name() -> None:
    detector = RegionDetector(make_lively(tiny_detector()))
    table = {name: name for name in detector.names}
    choosing = Choosing(CONFIG, detector.names, table, ACTION_GENOME, detector.frame_size)
    stage = detector_stage(detector, choosing)
    assert (stage.name, stage.span, stage.inputs) == ("detector", "frame", ("frames",))
    found = stage.run({"frames": FRAMES})
    assert found["pair_mask"].shape == (2, 3, 6)
    assert found["person_boxes"].shape == (2, 3, 2, 4)
    assert found["pair_mask"].any()
    alone = stage.run({"frames": FRAMES[1:, 2:]})
    assert all(np.allclose(found[name][1, 2], values[0, 0], atol=1e-5) for name, values in alone.items())
