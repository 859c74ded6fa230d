"""The representation of a pair against loops over mask cells and over pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.config import RelationConfig
from models.networks.relations.representation import PairRepresentation, UnionRepresentation, box_masks, union_boxes
from tests.models.networks.relations.samples import (
    SMALL,
    random_boxes,
    random_pairs,
    with_more_slots,
    with_other_leftovers,
)
from tests.support.networks import SMALL_WORLD


def masks_by_hand(subject: list[float], thing: list[float], cells: int) -> list[list[list[float]]]:
    """Soft coverage of each cell by either box, minus 0.5; boxes in any unit (the published rectangles)."""
    left, top = min(subject[0], thing[0]), min(subject[1], thing[1])
    width, height = max(subject[2], thing[2]) - left, max(subject[3], thing[3]) - top
    masks = []
    for box in (subject, thing):
        x1, x2 = ((edge - left) / width * cells for edge in (box[0], box[2]))
        y1, y2 = ((edge - top) / height * cells for edge in (box[1], box[3]))
        masks.append([
            [
                min(max(column + 1 - x1, 0), 1)
                * min(max(x2 - column, 0), 1)
                * min(max(row + 1 - y1, 0), 1)
                * min(max(y2 - row, 0), 1)
                - 0.5
                for column in range(cells)
            ]
            for row in range(cells)
        ])  # fmt: skip
    return masks


@pytest.mark.parametrize("cells", [4, 11, 27])
def test_box_masks_equal_a_loop_over_cells_whatever_the_frames_shape(cells: int) -> None:
    torch.manual_seed(cells)
    subjects, things = random_boxes(3, 2), random_boxes(3, 2)
    masks = box_masks(subjects, things, torch.arange(cells).float())
    pixels = torch.tensor([640.0, 360.0, 640.0, 360.0])
    for first in range(3):
        for second in range(2):
            wanted = masks_by_hand(
                (subjects[first, second] * pixels).tolist(), (things[first, second] * pixels).tolist(), cells
            )
            torch.testing.assert_close(masks[first, second], torch.tensor(wanted), atol=1e-4, rtol=0)


def test_box_masks_equal_a_small_case_by_hand() -> None:
    # The region is 4 wide and 2 high on 2 x 2 cells: the subject is its left half, the object a quarter of it.
    masks = box_masks(
        torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 4.0, 2.0]), torch.arange(2, dtype=torch.float32)
    )
    assert masks.tolist() == [[[0.5, -0.5], [0.5, -0.5]], [[-0.5, -0.5], [0.0, 0.5]]]


def test_a_region_without_area_has_uncovered_cells() -> None:
    point = torch.full((4,), 0.3)
    assert (box_masks(point, point, torch.arange(5.0)) == -0.5).all()


def test_union_boxes_hold_both() -> None:
    first, second = torch.tensor([0.1, 0.4, 0.3, 0.5]), torch.tensor([0.2, 0.1, 0.6, 0.2])
    torch.testing.assert_close(union_boxes(first, second), torch.tensor([0.1, 0.1, 0.6, 0.5]))


@pytest.mark.parametrize("clip_features", [False, True])
def test_parts_of_a_pair_are_concatenated_in_the_published_order(clip_features: bool) -> None:
    config = RelationConfig(**SMALL, clip_features=clip_features)
    representation = PairRepresentation(config, ACTION_GENOME).eval()
    pairs = random_pairs(config, 2, 3)
    represented = representation(pairs)
    assert represented.shape == (2, 3, 4, config.width)
    for batch, time, slot in pairs.mask.nonzero().tolist():
        if isinstance(representation.union, UnionRepresentation):
            union = representation.union
            masks = masks_by_hand(
                pairs.subject_boxes[batch, time, slot].tolist(), pairs.object_boxes[batch, time, slot].tolist(), 11
            )
            region = union.union_func1(pairs.union_features[batch, time, slot])
            around = union.vr_fc((region + union.conv(torch.tensor(masks)[None])[0]).flatten())
        else:
            assert pairs.crop_features is not None
            around = representation.union(pairs.crop_features[batch, time, slot])
        wanted = torch.cat((
            representation.subj_fc(pairs.subject_features[batch, time, slot]),
            representation.obj_fc(pairs.object_features[batch, time, slot]),
            around,
            representation.obj_embed.weight[0],
            representation.obj_embed2.weight[pairs.object_scores[batch, time, slot].argmax()],
        ))  # fmt: skip
        torch.testing.assert_close(represented[batch, time, slot], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("clip_features", [False, True])
def test_slots_without_a_pair_are_zero(clip_features: bool, training: bool) -> None:
    config = RelationConfig(**SMALL, clip_features=clip_features)
    pairs = random_pairs(config, 2, 3)
    represented = PairRepresentation(config, ACTION_GENOME).train(training)(pairs)
    assert (represented[~pairs.mask] == 0).all()
    assert (represented[pairs.mask] != 0).any(-1).all()


def test_slots_without_a_pair_do_not_count_in_batch_statistics() -> None:
    config = RelationConfig(**SMALL)
    torch.manual_seed(0)
    first = PairRepresentation(config, ACTION_GENOME).train()
    second = PairRepresentation(config, ACTION_GENOME).train()
    second.load_state_dict(first.state_dict())
    pairs = random_pairs(config, 2, 3)
    changed = with_more_slots(with_other_leftovers(pairs), 5)
    torch.testing.assert_close(second(changed)[changed.mask], first(pairs)[pairs.mask])
    torch.testing.assert_close(second.state_dict(), first.state_dict())


def test_training_on_a_clip_without_a_pair_leaves_finite_weights() -> None:
    config = RelationConfig(**SMALL)
    representation = PairRepresentation(config, ACTION_GENOME).train()
    represented = representation(random_pairs(config, 1, 2, filled=0.0))
    assert (represented == 0).all()
    represented.sum().backward()
    gradients = [parameter.grad for parameter in representation.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(torch.isfinite(value).all() for value in representation.state_dict().values())


def test_each_pair_says_the_word_of_its_own_subject() -> None:
    config = RelationConfig(**SMALL)
    representation = PairRepresentation(config, SMALL_WORLD).eval()
    pairs = random_pairs(config, 1, 1, filled=1.0)
    pairs = replace(pairs, subject_classes=torch.tensor([[[2, 0, 0, 2]]]), object_scores=pairs.object_scores[..., :7])
    words = representation(pairs)[0, 0, :, 3 * config.visual_width :][:, : config.word_width]
    torch.testing.assert_close(words, representation.obj_embed.weight[[2, 0, 0, 2]])


def test_a_network_of_clip_features_refuses_pairs_without_them() -> None:
    config = RelationConfig(**SMALL, clip_features=True)
    pairs = replace(random_pairs(config, 1, 1), crop_features=None)
    with pytest.raises(ValueError, match="crop_features"):
        PairRepresentation(config, ACTION_GENOME)(pairs)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="heads"):
        RelationConfig(**(SMALL | {"heads": 5}))
