"""Annotated relations as arrays and batches."""

import numpy as np
import pytest
import torch

from models.graph.vocabulary import ACTION_GENOME
from training.data.relations import Pair, Record
from training.data.relations.batches import RelationAugmentation, RelationBatch, collate_sequences
from training.data.relations.examples import WEAK, Names, is_held_out, make_sequences

COLUMNS = ACTION_GENOME.predicate_index
PHOTO = Record(
    source="photos", image="a.jpg", width=200, height=100,
    boxes=((10, 10, 50, 90), (40, 40, 60, 50), (100, 50, 190, 100)), labels=("person", "cup", "table"),
    pairs=(Pair(subject=0, object=1, predicates=("holding",), asked=("holding", "eating"), related=True),),
)  # fmt: skip


def moment(video: str, time: float, left: float) -> Record:
    return Record(
        source="videos", video=video, time=time, boxes=((0, 0, 40, 100), (left, 50, left + 10, 60)),
        labels=("person", "cup"), pairs=(Pair(subject=0, object=1, asked=("holding",)),),
    )  # fmt: skip


def batch_of(*records: Record) -> RelationBatch:
    names = Names()
    sequences = make_sequences(records, ACTION_GENOME, names)
    return collate_sequences(sequences, torch.arange(len(names.index) * 2.0).view(-1, 2))


def test_things_that_nobody_paired_are_pairs_that_are_not_related() -> None:
    (example,), *others = make_sequences([PHOTO], ACTION_GENOME, Names())
    assert not others
    assert example.annotated.tolist() == [True, False]
    assert example.related.tolist() == [1, 0]
    assert not example.weights[1].any()


def test_only_what_was_asked_weighs() -> None:
    (example,), *_ = make_sequences([PHOTO], ACTION_GENOME, Names())
    weighed = {
        name: float(example.weights[0, column]) for name, column in COLUMNS.items() if example.weights[0, column]
    }
    assert {name for name, weight in weighed.items() if weight == 1} == {"holding", "eating"}
    assert weighed["in_front_of"] == pytest.approx(WEAK)
    assert not weighed.keys() & {"looking_at", "touching", "not_contacting", "above"}


def test_what_a_data_set_never_asks_of_a_class_does_not_hold_there() -> None:
    (example,), *_ = make_sequences([PHOTO], ACTION_GENOME, Names())
    for name in ("sitting_on", "have_it_on_the_back", "drinking_from"):
        assert example.weights[0, COLUMNS[name]] == pytest.approx(WEAK)
        assert not example.holds[0, COLUMNS[name]]
    assert not example.weights[1, COLUMNS["sitting_on"]], "of an unannotated pair nothing is known"


def test_an_asked_predicate_holds_or_does_not() -> None:
    (example,), *_ = make_sequences([PHOTO], ACTION_GENOME, Names())
    assert example.holds[0, COLUMNS["holding"]]
    assert not example.holds[0, COLUMNS["eating"]]


@pytest.mark.parametrize(("predicate", "in_front"), [("holding", True), ("sitting_on", False)])
def test_a_held_thing_is_in_front_and_a_seat_is_not(predicate: str, in_front: bool) -> None:
    pair = PHOTO.pairs[0].model_copy(update={"predicates": (predicate,), "asked": (predicate,)})
    (example,), *_ = make_sequences([PHOTO.model_copy(update={"pairs": (pair,)})], ACTION_GENOME, Names())
    assert example.holds[0, COLUMNS["in_front_of"]] == in_front
    assert example.weights[0, COLUMNS["in_front_of"]] == pytest.approx(WEAK)


def test_pairs_of_labels_that_are_left_out_are_gone() -> None:
    (example,), *_ = make_sequences([PHOTO], ACTION_GENOME, Names(), without=["cup"])
    assert len(example) == 1
    assert make_sequences([PHOTO], ACTION_GENOME, Names(), without=["person"]) == []


def test_the_moments_of_a_video_make_one_sequence_with_their_motion() -> None:
    records = [moment("v", time / 4, 10 + 4 * time) for time in range(4)] + [moment("w", 0, 10)]
    first, second = make_sequences(records, ACTION_GENOME, Names())
    assert [len(first), len(second)] == [4, 1]
    assert [example.seen[0].tolist() for example in first] == [
        [False, True], [False, True], [True, False], [True, False]
    ]  # fmt: skip
    assert first[0].moments[0, 2, 1, 0] == 18  # the cup half a second later
    assert not second[0].seen.any()


def test_the_parts_of_a_video_are_held_out_together() -> None:
    held_out = {is_held_out(moment("v", time, 10), 0.5) for time in range(20)}
    assert len(held_out) == 1
    share = np.mean([is_held_out(moment(f"v{number}", 0, 10), 0.3) for number in range(500)])
    assert 0.2 < share < 0.4


def test_a_batch_is_padded_and_its_mask_says_where() -> None:
    batch = batch_of(PHOTO, moment("v", 0, 10), moment("v", 0.5, 10))
    assert batch.pairs.mask.tolist() == [[[True, True], [False, False]], [[True, False], [True, False]]]
    assert batch.pairs.size_known[:, 0, 0].tolist() == [True, False]
    assert batch.related.isnan().tolist()[0] == [[False, False], [True, True]]
    sides = batch.pairs.object_boxes[..., 2:] - batch.pairs.object_boxes[..., :2]
    assert (sides > 0).all()


def test_mirroring_turns_left_into_right_within_the_picture() -> None:
    batch = batch_of(PHOTO)
    mirrored = RelationAugmentation(flip=1, jitter=0, shake=0, other_name=0, still=0)(
        batch, torch.Generator().manual_seed(0)
    )
    assert mirrored.pairs.object_boxes[0, 0, 0].tolist() == [140, 40, 160, 50]
    assert mirrored.pairs.subject_boxes[0, 0, 0].tolist() == [150, 10, 190, 90]
    assert torch.equal(mirrored.holds, batch.holds)


def test_without_changes_only_the_scores_are_drawn() -> None:
    batch = batch_of(PHOTO, replace_size(PHOTO))
    same = RelationAugmentation(flip=0, jitter=0, shake=0, other_name=0, still=0)(
        batch, torch.Generator().manual_seed(0)
    )
    assert torch.equal(same.pairs.subject_boxes, batch.pairs.subject_boxes)
    assert torch.equal(same.pairs.object_names, batch.pairs.object_names)
    assert same.pairs.subject_scores.unique().numel() > 1


def replace_size(record: Record) -> Record:
    return record.model_copy(update={"width": None, "height": None})


def test_boxes_before_and_after_tremble_where_those_of_the_moment_stay() -> None:
    batch = batch_of(moment("v", 0, 10), moment("v", 0.5, 10), moment("v", 1, 10))
    augmentation = RelationAugmentation(flip=0, jitter=0, shake=0.1, other_name=0, still=0)
    shaken = augmentation(batch, torch.Generator().manual_seed(0)).pairs
    assert torch.equal(shaken.object_boxes, batch.pairs.object_boxes)
    for now, before in ((shaken.before, batch.pairs.before), (shaken.after, batch.pairs.after)):
        assert (now != before).all()
        assert (now[..., 1, :] - before[..., 1, :]).abs().max() < 3.1, "the cup is 10 wide"
