"""STTran's classifier of given boxes, against its rules written out in loops."""

from __future__ import annotations

import pytest
import torch

from models.networks.relations.sttran import SttranConfig
from models.networks.relations.sttran_classifier import SttranObjectClassifier, label
from tests.support.sttran import expected_labels


@pytest.mark.parametrize("seed", range(6))
def test_boxes_of_a_frame_are_labelled_by_the_published_rules(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 7, 36, generator=random)
    logits[:, :, [3, 9]] += 2 * torch.rand(4, 7, 2, generator=random) + 1.5  # so that boxes share a class
    logits[:, :, 0] += torch.rand(4, 7, generator=random) * 3
    probabilities = logits.softmax(-1)
    real = torch.ones(4, 7, dtype=torch.bool)
    real[1, 5:] = False
    found = label(probabilities, real)
    changed = 0
    for frame in range(4):
        count = int(real[frame].sum())
        person, wanted, labels = expected_labels(probabilities[frame, :count])
        assert int(found.subject[frame]) == person
        things = [number for number, each in enumerate(labels) if number != person and each != 0]
        assert found.things[frame].nonzero().flatten().tolist() == things
        torch.testing.assert_close(found.probabilities[frame, things][:, 1:], wanted[things][:, 1:])
        assert not found.probabilities[frame, things, 0].any()
        assert found.probabilities[frame].argmax(-1)[things].tolist() == [labels[number] for number in things]
        torch.testing.assert_close(found.probabilities[frame, person, 0], wanted[person, 0])
        changed += int((wanted == 0).any(1).sum())
    assert changed, "no box took another class, so this proves little"


def test_the_place_of_a_box_counts_its_last_pixel() -> None:
    classifier = SttranObjectClassifier(SttranConfig(visual_width=8, word_width=4, feature_width=6), 36).eval()
    seen: list[torch.Tensor] = []
    classifier.pos_embed[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    boxes = torch.tensor([[[10.0, 20.0, 29.0, 59.0]]])
    known = classifier(torch.rand(1, 1, 6), torch.rand(1, 1, 36), boxes)
    torch.testing.assert_close(seen[0], torch.tensor([[20.0, 40.0, 20.0, 40.0]]))
    assert known.shape == (1, 1, 36)
    torch.testing.assert_close(known.sum(), torch.tensor(1.0))
