"""STTran's detector: its anchors, its map, and its objects against the published rules written out in loops."""

from __future__ import annotations

import pytest
import torch

from models.errors import ConfigurationError
from models.networks.detectors.sttran_detector import (
    Objects,
    Regions,
    SttranDetector,
    SttranDetectorConfig,
    map_size,
    place_anchors,
)
from tests.support.networks import SMALL_WORLD
from tests.support.sttran import BLOCKS, GROUP_WIDTH, expected_objects, expected_proposals

CONFIG = SttranDetectorConfig(
    frame_height=128, frame_width=192, blocks=BLOCKS, group_width=GROUP_WIDTH, proposals=40, detections=400, pairs=64
)
SIZE = (128, 192)
SCALE = 2.0
PICTURE = torch.tensor((SIZE[1] / SCALE, SIZE[0] / SCALE))


@pytest.fixture(scope="module")
def detector() -> SttranDetector:
    return SttranDetector(CONFIG).eval()


def random_regions(seed: int, frames: int = 2, count: int = 40) -> Regions:
    """Regions in clusters, so that they suppress each other, with classes that STTran cleans among the likely ones."""
    random = torch.Generator().manual_seed(seed)
    corners = (
        torch.rand(frames, 6, 1, 2, generator=random) * 100
        + torch.rand(frames, 6, -(-count // 6), 2, generator=random) * 12
    )
    corners = corners.flatten(1, 2)[:, :count]
    boxes = torch.cat((corners, corners + 20 + torch.rand(frames, count, 2, generator=random) * 30), -1)
    logits = torch.randn(frames, count, 37, generator=random)
    liked = torch.tensor((1, 5, 8, 17, 20))
    chosen = liked[torch.randint(0, 5, (frames, count, 2), generator=random)]
    logits = logits.scatter_add(2, chosen, 3 + torch.rand(frames, count, 2, generator=random) * 2)
    deltas = torch.randn(frames, count, 37, 4, generator=random) * 0.4
    features = torch.rand(frames, count, 2048, generator=random)
    return Regions(boxes, torch.ones(frames, count, dtype=torch.bool), features, logits, deltas)


def sorted_rows(boxes: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    rows = torch.cat((boxes, probabilities), 1)
    return rows[torch.tensor(sorted(range(len(rows)), key=lambda number: rows[number].tolist()))] if len(rows) else rows


@pytest.mark.parametrize("seed", range(5))
def test_objects_are_made_of_regions_by_the_published_rules(detector: SttranDetector, seed: int) -> None:
    regions = random_regions(seed)
    objects = detector.find_objects(regions, PICTURE.expand(2, 2))
    cleaned = 0
    for frame in range(2):
        wanted = expected_objects(
            regions.boxes[frame], regions.logits[frame], regions.deltas[frame], regions.features[frame], SIZE, SCALE
        )
        kept = objects.mask[frame]
        torch.testing.assert_close(
            sorted_rows(objects.boxes[frame][kept], objects.probabilities[frame][kept]),
            sorted_rows(wanted.boxes, wanted.probabilities),
        )
        assert set(objects.features[frame][kept][:, 0].tolist()) == set(wanted.features[:, 0].tolist())
        cleaned += int((wanted.probabilities == 0).any(1).sum())
    assert cleaned, "no object was cleaned, so this proves little"


def test_regions_that_hold_nothing_make_no_objects(detector: SttranDetector) -> None:
    regions = random_regions(0)
    nothing = Regions(regions.boxes, torch.zeros_like(regions.mask), regions.features, regions.logits, regions.deltas)
    assert not detector.find_objects(nothing, PICTURE.expand(2, 2)).mask.any()


def test_the_surest_person_is_paired_with_all_other_objects_under_their_best_class_but_person(
    detector: SttranDetector,
) -> None:
    probabilities = torch.zeros(1, 5, 36)
    probabilities[0, :, 0] = torch.tensor((0.2, 0.7, 0.6, 0.1, 0.99))  # the last is masked
    probabilities[0, :, 9] = torch.tensor((0.5, 0.1, 0.3, 0.8, 0.0))
    objects = Objects(
        torch.arange(20.0).view(1, 5, 4), torch.tensor([[True, True, True, True, False]]), torch.rand(1, 5, 2048),
        probabilities,
    )  # fmt: skip
    times = torch.zeros(1, 1)
    pairs = detector.pair_up(torch.rand(1, 1024, 8, 12), objects, times, PICTURE.view(1, 1, 2))
    assert pairs.mask[0, 0].tolist() == [True, True, True, False, False]
    assert pairs.labels[0, 0, :3].tolist() == [9, 9, 9]
    torch.testing.assert_close(pairs.object_scores[0, 0, :, 9], torch.tensor((0.8, 0.5, 0.3, 0.0, 0.0)))
    assert not pairs.object_scores[..., 0].any()
    torch.testing.assert_close(pairs.subject_scores[0, 0], torch.tensor((0.7, 0.7, 0.7, 0.0, 0.0)))
    size = torch.cat((PICTURE, PICTURE))
    torch.testing.assert_close(pairs.subject_boxes[0, 0, 2], objects.boxes[0, 1] / size)
    torch.testing.assert_close(pairs.object_boxes[0, 0, 1], objects.boxes[0, 0] / size)


def test_proposals_are_the_published_ones(detector: SttranDetector) -> None:
    torch.manual_seed(0)
    for layer, scale in ((detector.rpn_conv, 0.02), (detector.rpn_scores, 0.05), (detector.rpn_deltas, 0.02)):
        torch.nn.init.normal_(layer.weight, std=scale)
    maps = torch.rand(2, 1024, map_size(SIZE[0]), map_size(SIZE[1]))
    boxes, mask = detector.propose(maps)
    hidden = detector.rpn_conv(maps).relu()
    scores, deltas = detector.rpn_scores(hidden), detector.rpn_deltas(hidden)
    for frame in range(2):
        # Channels hold the background of 12 anchors, then the foreground; cells run row by row.
        probability = scores[frame].view(2, 12, -1).softmax(0)[1].T.flatten()
        moves = deltas[frame].view(12, 4, -1).permute(2, 0, 1).reshape(-1, 4)
        wanted = expected_proposals(detector.anchors, probability, moves, SIZE, 6000, 40)
        assert mask[frame].sum() == len(wanted)
        torch.testing.assert_close(boxes[frame][mask[frame]], wanted)


def test_anchors_are_the_published_twelve_in_each_cell() -> None:
    anchors = place_anchors(2, 3)
    assert anchors.shape == (2 * 3 * 12, 4)
    # generate_anchors(scales=(4, 8, 16, 32), ratios=(0.5, 1, 2)) of the published code.
    assert anchors[0].tolist() == [-38, -16, 53, 31]
    assert anchors[4].tolist() == [-24, -24, 39, 39]
    assert anchors[11].tolist() == [-168, -344, 183, 359]
    assert (anchors[12] - anchors[0]).tolist() == [16, 0, 16, 0]
    assert (anchors[36] - anchors[0]).tolist() == [0, 16, 0, 16]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (96, 160), (111, 118)])
def test_the_map_has_as_many_cells_as_anchors_are_placed_in(height: int, width: int) -> None:
    config = SttranDetectorConfig(frame_height=height, frame_width=width, blocks=BLOCKS, group_width=GROUP_WIDTH)
    small = SttranDetector(config).eval()
    frames = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
    assert small.feature_map(frames).shape == (1, 1024, map_size(height), map_size(width))
    assert len(small.anchors) == 12 * map_size(height) * map_size(width)


def test_images_are_blue_first_without_their_means(detector: SttranDetector) -> None:
    seen: list[torch.Tensor] = []
    hook = detector.base[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    detector.feature_map(torch.tensor((10, 20, 30), dtype=torch.uint8).expand(1, *SIZE, 3))
    hook.remove()
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor((30 - 102.9801, 20 - 115.9465, 10 - 122.7717)))


def test_strides_lie_on_the_first_convolutions(detector: SttranDetector) -> None:
    for layer in (detector.base[5], detector.base[6], detector.top):
        assert layer[0].conv1.stride == (2, 2)
        assert layer[0].conv2.stride == (1, 1)


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Action Genome's vocabulary only"):
        SttranDetector(CONFIG, SMALL_WORLD)
    with pytest.raises(ConfigurationError, match="proposals is 50: give at most"):
        SttranDetectorConfig(proposals=50, proposals_before_suppression=40)
