"""The relation network that needs no pixels, by itself and as a stage behind a detector."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.onnx import export_stages
from models.engines import Tensors
from models.engines.onnxruntime import open_session
from models.errors import ConfigurationError
from models.graph.bundle import PICTURE_SIZE, TIMESTAMPS
from models.graph.vocabulary import ACTION_GENOME
from models.networks.checkpoint import load_checkpoint, save_checkpoint
from models.networks.pose import KEYPOINTS
from models.networks.relations.layout import NAME_WIDTH, Layout, LayoutConfig, LayoutPairs
from models.networks.relations.layout_stage import layout_stage
from models.networks.relations.pose_evidence import PoseEvidence
from models.networks.rs_net import RsNetConfig
from models.networks.scored import Scored, ScoredConfig, relation_stages
from tests.support.networks import SMALL_WORLD

SMALL = LayoutConfig(width=16, name_width=8, heads=2, feed_forward=16)
COLUMNS = ACTION_GENOME.predicate_index


@pytest.fixture
def layout() -> Layout:
    torch.manual_seed(0)
    network = Layout(SMALL).eval()
    network.object_embeddings.normal_()
    return network


def some_pairs(batch: int = 2, time: int = 3, slots: int = 4, seed: int = 0) -> LayoutPairs:
    random = torch.Generator().manual_seed(seed)

    def boxes(*axes: int) -> torch.Tensor:
        low = torch.rand(batch, time, slots, *axes, 2, generator=random) * 100
        return torch.cat((low, low + 10 + torch.rand(low.shape, generator=random) * 100), -1)

    certain = torch.ones(batch, time, slots)
    return LayoutPairs(
        mask=certain.bool(), subject_boxes=boxes(), object_boxes=boxes(), before=boxes(2), after=boxes(2),
        seen=torch.rand(batch, time, slots, 2, generator=random) < 0.5,
        subject_names=torch.randn(batch, time, slots, NAME_WIDTH, generator=random),
        object_names=torch.randn(batch, time, slots, NAME_WIDTH, generator=random),
        subject_scores=certain, object_scores=certain,
        size=torch.full((batch, time, 2), 300.0), size_known=torch.ones(batch, time, 1, dtype=torch.bool),
    )  # fmt: skip


def scores_of(layout: Layout, pairs: LayoutPairs) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat(list(layout(pairs).probabilities.values()), -1)


def test_every_group_gets_probabilities(layout: Layout) -> None:
    with torch.inference_mode():
        relations = layout(some_pairs())
    for group in ACTION_GENOME.groups:
        scores = relations.probabilities[group.name]
        assert scores.shape == (2, 3, 4, len(group.predicates))
        assert ((scores >= 0) & (scores <= 1)).all()
    assert relations.representation.shape == (2, 3, 4, SMALL.width)


def test_not_looking_is_the_opposite_of_looking(layout: Layout) -> None:
    scores = scores_of(layout, some_pairs())
    torch.testing.assert_close(scores[..., COLUMNS["not_looking_at"]], 1 - scores[..., COLUMNS["looking_at"]])


def test_a_predicate_that_was_never_asked_scores_nothing(layout: Layout) -> None:
    layout.asked[COLUMNS["twisting"]] = 0
    assert not scores_of(layout, some_pairs())[..., COLUMNS["twisting"]].any()


def test_empty_slots_change_no_other_slot(layout: Layout) -> None:
    pairs = some_pairs()
    mask = pairs.mask.clone()
    mask[..., 2:] = False
    full = replace(pairs, mask=mask)
    other = replace(full, object_boxes=torch.where(mask[..., None], pairs.object_boxes, pairs.object_boxes + 50))
    torch.testing.assert_close(scores_of(layout, full)[..., :2, :], scores_of(layout, other)[..., :2, :])


def test_the_other_pairs_of_a_frame_matter(layout: Layout) -> None:
    pairs = some_pairs()
    alone = pairs.mask.clone()
    alone[..., 1:] = False
    difference = scores_of(layout, pairs)[..., 0, :] - scores_of(layout, replace(pairs, mask=alone))[..., 0, :]
    assert difference.abs().max() > 1e-4


def test_a_complement_that_is_no_predicate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="complements has 'staring_at'"):
        Layout(LayoutConfig(complements={"staring_at": "looking_at"}))


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="width is 10: give a multiple of heads"):
        LayoutConfig(width=10, heads=4)


def test_a_checkpoint_keeps_the_embeddings_and_what_was_asked(layout: Layout, tmp_path: Path) -> None:
    layout.asked[3] = 0
    scored = Scored(ScoredConfig(SMALL, RsNetConfig(input_width=16, width=8, heads=2)), host=layout)
    save_checkpoint(tmp_path / "layout.pt", scored, {"data": "none"})
    read, _ = load_checkpoint(tmp_path / "layout.pt")
    assert isinstance(read, Scored)
    assert isinstance(read.host, Layout)
    torch.testing.assert_close(read.host.object_embeddings, layout.object_embeddings)
    assert read.host.asked[3] == 0
    assert [stage.name for stage in relation_stages(read)] == ["relations", "spatial_context", "relation_scores"]
    with pytest.raises(ConfigurationError, match="reads no frames; join it with a detector"):
        read.stages()


def detections(time: int = 6, step: float = 0.25) -> Tensors:
    """One person and two cups; one cup moves to the right by a tenth of the person's height a frame."""
    boxes = np.zeros((1, time, 4, 4), np.float32)
    boxes[..., 0, :] = (0.5, 0.4, 0.55, 0.5)
    boxes[..., 1, :] = (0.1, 0.4, 0.15, 0.5)
    boxes[0, :, 0, 0::2] += np.arange(time, dtype=np.float32)[:, None] * 0.05
    mask = np.zeros((1, time, 4), np.bool_)
    mask[..., :2] = True
    persons = np.tile(np.array([0.3, 0.2, 0.5, 1.0], np.float32), (1, time, 4, 1)) * mask[..., None]
    objects = np.zeros((1, time, 4, len(ACTION_GENOME.objects)), np.float32)
    objects[..., :2, ACTION_GENOME.objects.index("cup/glass/bottle")] = 0.8
    return {
        TIMESTAMPS: (np.arange(time, dtype=np.float32) * step)[None],
        PICTURE_SIZE: np.tile(np.array([640, 480], np.float32), (1, time, 1)),
        "pair_mask": mask,
        "subject_boxes": persons,
        "subject_scores": mask.astype(np.float32),
        "object_boxes": boxes,
        "object_scores": objects,
    }


class Seen:
    """Stands in the way of a network and keeps the pairs that it is given."""

    def __init__(self, layout: Layout) -> None:
        self.pairs: list[LayoutPairs] = []
        layout.register_forward_pre_hook(lambda _, given: self.pairs.append(given[0]))


def test_the_stage_finds_a_pair_again_half_a_second_before_and_after(layout: Layout) -> None:
    seen = Seen(layout)
    layout_stage(layout).run(detections())
    pairs = seen.pairs[0]
    assert pairs.seen[0, :, 0].tolist() == [
        [False, True], [False, True], [True, True], [True, True], [True, False], [True, False]
    ]  # fmt: skip
    moved = pairs.after[0, 2, :2, 1] - pairs.object_boxes[0, 2, :2]
    torch.testing.assert_close(moved[0], torch.tensor([64.0, 0.0, 64.0, 0.0]))  # two frames of a twentieth of 640
    torch.testing.assert_close(moved[1], torch.zeros(4))
    assert not pairs.seen[0, :, 2:].any()


def test_boxes_reach_the_network_in_pixels_of_the_displayed_picture(layout: Layout) -> None:
    seen = Seen(layout)
    layout_stage(layout).run(detections())
    torch.testing.assert_close(seen.pairs[0].subject_boxes[0, 0, 0], torch.tensor([192.0, 96.0, 320.0, 480.0]))


def test_what_is_never_said_of_an_object_scores_nothing(layout: Layout) -> None:
    holding, touching = (ACTION_GENOME.groups[2].predicates.index(name) for name in ("holding", "touching"))
    before = layout_stage(layout).run(detections())["contacting"]
    layout.never_say({"holding": ["cup/glass/bottle", "bed"]})
    after = layout_stage(layout).run(detections())["contacting"]
    assert before[0, :, :2, holding].min() > 0
    assert not after[0, :, :2, holding].any()
    np.testing.assert_array_equal(after[..., touching], before[..., touching])


@pytest.mark.parametrize(
    ("objects", "said"),
    [({"juggling": ["bed"]}, "'juggling', which is no predicate"), ({"holding": ["ball"]}, "holding has 'ball'")],
)
def test_what_is_never_said_must_be_of_the_vocabulary(layout: Layout, objects: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        layout.never_say(objects)


def test_the_exported_stage_says_what_torch_says_for_clips_of_any_length(layout: Layout, tmp_path: Path) -> None:
    stage = layout_stage(layout, PoseEvidence(ACTION_GENOME))

    def given(time: int) -> Tensors:
        random = np.random.default_rng(time)
        keypoints = random.random((1, time, 2, len(KEYPOINTS), 3), np.float32)
        persons = random.integers(0, 2, (1, time, 4))
        one = detections(time) | {"keypoints": keypoints, "person_of_pair": persons}
        return {name: np.concatenate((values, values)) for name, values in one.items()}

    arrays = given(3)
    written = export_stages([stage], arrays | stage.run(arrays), set(stage.outputs), 8, tmp_path)
    session = open_session(tmp_path / written[0].file)
    names = [tensor.name for tensor in written[0].outputs]
    for time in (1, 5, 8):
        arrays = given(time)
        found = session.run(names, {tensor.name: arrays[tensor.name] for tensor in written[0].inputs})
        expected = stage.run(arrays)
        for name, values in zip(names, found, strict=True):
            np.testing.assert_allclose(values, expected[name], atol=1e-5)


def test_frames_too_far_apart_show_no_motion(layout: Layout) -> None:
    seen = Seen(layout)
    layout_stage(layout).run(detections(step=2.0))
    assert not seen.pairs[0].seen.any()


def test_several_subjects_bear_their_own_names() -> None:
    layout = Layout(replace(SMALL, complements={}), SMALL_WORLD).eval()
    layout.object_embeddings[:] = torch.arange(len(SMALL_WORLD.objects))[:, None]
    seen = Seen(layout)
    tensors = detections(time=1) | {"subject_classes": np.array([[[0, 2, 0, 0]]])}
    tensors["object_scores"] = np.tile(np.eye(7, dtype=np.float32)[3], (1, 1, 4, 1))
    layout_stage(layout).run(tensors)
    assert seen.pairs[0].subject_names[0, 0, :2, 0].tolist() == [0, 2]
    assert seen.pairs[0].object_names[0, 0, 0, 0] == 3
