"""Batches of annotated relations: dense tensors, augmented as a detector would blur them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from models.networks.relations.layout import LayoutPairs
from training.data.relations.examples import Example


@dataclass(frozen=True)
class RelationBatch:
    """B sequences of T moments with P pairs each.

    pairs: what the network sees.
    names: (B, T, P, 2) int64, indices into the list of names: subject and object.
    annotated: (B, T, P) bool, whether a data set speaks of the pair.
    of_subject: (B, T, P) bool, whether the pair's subject is one of the vocabulary's.
    holds: (B, T, P, R) bool.
    weights: (B, T, P, R) float32, 0 where it is unknown whether the predicate holds.
    related: (B, T, P) float32, 1 or 0, and NaN where it is not known.
    """

    pairs: LayoutPairs
    names: Tensor
    annotated: Tensor
    of_subject: Tensor
    holds: Tensor
    weights: Tensor
    related: Tensor

    def to(self, device: torch.device | str) -> RelationBatch:
        """Returns the same batch on another device."""
        return self.each(lambda tensor: tensor.to(device))

    def each(self, change: Callable[[Tensor], Tensor]) -> RelationBatch:
        """Returns the batch with every tensor changed."""
        pairs = {field.name: change(getattr(self.pairs, field.name)) for field in fields(LayoutPairs)}
        rest = {field.name: change(getattr(self, field.name)) for field in fields(self) if field.name != "pairs"}
        return RelationBatch(pairs=LayoutPairs(**pairs), **rest)


def collate_sequences(sequences: Sequence[Sequence[Example]], embeddings: Tensor) -> RelationBatch:
    """Puts sequences side by side, padded to the longest and to the most pairs.

    embeddings: (names, N) float32, those of the names by number.
    """
    time = max(map(len, sequences))
    slots = max(len(example) for sequence in sequences for example in sequence)
    places = [(row, step, example) for row, sequence in enumerate(sequences) for step, example in enumerate(sequence)]

    def padded(name: str, fill: float = 0) -> Tensor:
        first = getattr(places[0][2], name)
        whole = np.full((len(sequences), time, slots, *first.shape[1:]), fill, first.dtype)
        for row, step, example in places:
            whole[row, step, : len(example)] = getattr(example, name)
        return torch.from_numpy(whole)

    mask = torch.zeros(len(sequences), time, slots, dtype=torch.bool)
    size = torch.zeros(len(sequences), time, 2)
    for row, step, example in places:
        mask[row, step, : len(example)] = True
        size[row, step] = torch.from_numpy(example.size)
    moments = padded("moments")
    moments[~mask] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    names = padded("names")
    certain = torch.ones(mask.shape)
    pairs = LayoutPairs(
        mask=mask, subject_boxes=moments[..., 1, 0, :], object_boxes=moments[..., 1, 1, :],
        before=moments[..., 0, :, :], after=moments[..., 2, :, :], seen=padded("seen"),
        subject_names=embeddings[names[..., 0]], object_names=embeddings[names[..., 1]],
        subject_scores=certain, object_scores=certain, size=size, size_known=(size > 0).all(-1, keepdim=True),
    )  # fmt: skip
    return RelationBatch(
        pairs,
        names,
        padded("annotated"),
        padded("of_subject"),
        padded("holds"),
        padded("weights"),
        padded("related", float("nan")),
    )


@dataclass(frozen=True)
class RelationAugmentation:
    """Changes that leave the labels true.

    flip: share of the batch's sequences that are mirrored.
    jitter: standard deviation by which edges of boxes move, as a share of the box's side.
    shake: the same for the boxes before and after alone, as a detector's boxes tremble where nothing moves.
    other_name: share of the pairs whose thing bears a name of another pair of the batch.
    still: share of the moments that lose their motion.
    """

    flip: float = 0.5
    jitter: float = 0.03
    shake: float = 0.03
    other_name: float = 0.05
    still: float = 0.2

    def __call__(self, batch: RelationBatch, generator: torch.Generator) -> RelationBatch:
        """Returns the batch, changed by the random numbers given. Annotations give no scores, so they are drawn too."""
        pairs = batch.pairs
        shape = pairs.mask.shape

        def drawn(share: float, *axes: int) -> Tensor:
            return torch.rand(*axes, generator=generator) < share

        # (B, T, P, 3, 2, 4): before, now and after; subject and object
        boxes = torch.stack((pairs.before, torch.stack((pairs.subject_boxes, pairs.object_boxes), -2), pairs.after), -3)
        sides = boxes[..., 2:] - boxes[..., :2]
        scale = torch.cat((sides, sides), -1)
        boxes = boxes + scale * self.jitter * _noise(*shape, 1, 2, 4, generator=generator)
        trembling = _noise(*shape, 3, 2, 4, generator=generator) * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
        boxes = boxes + scale * self.shake * trembling
        # Any width mirrors a picture whose size is unknown: its places are not read.
        width = torch.where(pairs.size_known, pairs.size[..., :1], 0.0)[..., None, None, None]  # (B, T, 1, 1, 1, 1)
        left, top, right, bottom = boxes.unbind(-1)
        mirrored = torch.stack((width[..., 0] - right, top, width[..., 0] - left, bottom), -1)
        boxes = torch.where(drawn(self.flip, shape[0], 1, 1, 1, 1, 1), mirrored, boxes)
        flat = pairs.object_names.flatten(0, 2)
        others = flat[pairs.mask.flatten()][
            torch.randint(int(pairs.mask.sum()), (len(flat),), generator=generator)
        ].view(pairs.object_names.shape)
        renamed = drawn(self.other_name, *shape, 1)
        changed = replace(
            pairs,
            subject_boxes=boxes[..., 1, 0, :],
            object_boxes=boxes[..., 1, 1, :],
            before=boxes[..., 0, :, :],
            after=boxes[..., 2, :, :],
            seen=pairs.seen & ~drawn(self.still, *shape[:2], 1, 1),
            object_names=torch.where(renamed, others, pairs.object_names),
            subject_scores=torch.rand(shape, generator=generator),
            object_scores=torch.rand(shape, generator=generator),
        )
        return replace(batch, pairs=changed)


def _noise(*shape: int, generator: torch.Generator) -> Tensor:
    """Returns normal noise without outliers."""
    return torch.randn(*shape, generator=generator).clamp(-3, 3)
