"""A relation scorer that reads the boxes of its pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.networks.relations.layout import LayoutConfig
from models.networks.rs_net import RelationScorer
from models.networks.scored import Scored, ScoredConfig
from tests.support.networks import tiny_scorer


def scorer() -> RelationScorer:
    torch.manual_seed(0)
    return RelationScorer(tiny_scorer(reads_boxes=True)).eval()


def twins(scorer: RelationScorer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two frames with three slots: two things that look the same on either side of a person, and no pair."""
    torch.manual_seed(1)
    looks = torch.randn(1, 2, 1, scorer.config.input_width).repeat(1, 1, 3, 1)
    mask = torch.tensor([True, True, False]).expand(1, 2, 3)
    boxes = torch.zeros(1, 2, 3, 2, 4)
    boxes[:, :, :2, 0] = torch.tensor([0.4, 0.2, 0.6, 0.9])
    boxes[:, :, 0, 1] = torch.tensor([0.1, 0.5, 0.2, 0.6])
    boxes[:, :, 1, 1] = torch.tensor([0.8, 0.5, 0.9, 0.6])
    return looks, torch.full((1, 2, 3, 2), 0.9), mask, boxes


def test_boxes_tell_a_thing_from_one_that_looks_the_same() -> None:
    reading = scorer()
    looks, confidence, mask, boxes = twins(reading)
    logits = reading(looks, confidence, mask, boxes)
    assert (logits[:, :, 0] - logits[:, :, 1]).abs().min() > 1e-4
    blind = RelationScorer(tiny_scorer()).eval()
    logits = blind(looks, confidence, mask, boxes)
    torch.testing.assert_close(logits[:, :, 0], logits[:, :, 1])


def test_slots_without_a_pair_leave_every_gradient_a_number() -> None:
    reading = scorer().train()
    looks, confidence, mask, boxes = twins(reading)
    reading(looks, confidence, mask, boxes)[mask].square().sum().backward()
    for name, parameter in reading.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_layout_network_needs_no_boxes_twice() -> None:
    host = LayoutConfig(width=16, name_width=8, heads=2, feed_forward=16, layers=1)
    with pytest.raises(ConfigurationError, match=r"leave out scorer\.reads_boxes"):
        Scored(ScoredConfig(host, tiny_scorer(reads_boxes=True, input_width=16)))
