"""CLIP's image tower on whole frames, with random weights: the published ones take a download."""

from __future__ import annotations

import open_clip
import pytest
import torch
from torch.nn import functional as F

from models.errors import WeightsError
from models.networks.clip.image import ClipImageEncoder
from models.networks.clip.text import CLIP_MODEL
from tests.support.clip import tiny_clip


@pytest.fixture
def whole() -> torch.nn.Module:
    return tiny_clip()


@pytest.fixture
def encoder(whole: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> ClipImageEncoder:
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: whole)
    return ClipImageEncoder()


def test_a_square_frame_is_embedded_as_open_clip_does(whole: torch.nn.Module, encoder: ClipImageEncoder) -> None:
    frame = torch.randint(256, (1, 1, 224, 224, 3), dtype=torch.uint8)
    to_input = open_clip.image_transform(224, is_train=False).transforms[-1]  # its normalisation alone
    expected = whole.encode_image(to_input(frame[0, 0].permute(2, 0, 1).float() / 255)[None])
    torch.testing.assert_close(encoder(frame)[0], expected.detach(), atol=1e-5, rtol=1e-5)


def test_frames_are_stretched_and_keep_their_places(encoder: ClipImageEncoder) -> None:
    frames = torch.randint(256, (2, 3, 20, 50, 3), dtype=torch.uint8)
    embedded = encoder(frames)
    assert (embedded.shape, embedded.dtype) == ((2, 3, 512), torch.float32)
    for clip in range(2):
        for time in range(3):
            alone = encoder(frames[clip, time][None, None])[0, 0]
            torch.testing.assert_close(embedded[clip, time], alone, atol=1e-5, rtol=1e-5)
    # The sides count: a centre crop of 50 x 20 would not see the first ten columns.
    darker = frames.clone()
    darker[..., :10, :] = 0
    assert (F.cosine_similarity(encoder(darker), embedded, dim=-1) < 0.999).all()


def test_the_tower_is_frozen_and_has_no_text_in_it(encoder: ClipImageEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any("token_embedding" in name for name in encoder.state_dict())


def test_a_tower_that_waits_for_a_checkpoint_is_built_as_open_clip_builds_it() -> None:
    with torch.device("meta"):  # shapes without weights
        waiting = ClipImageEncoder(pretrained=False).tower
        expected = open_clip.create_model(CLIP_MODEL, pretrained=None, device="meta").visual
    shapes = {name: value.shape for name, value in waiting.state_dict().items()}
    assert shapes == {name: value.shape for name, value in expected.state_dict().items()}
    assert str(waiting) == str(expected), "down to the activations"
    assert sum(parameter.numel() for parameter in waiting.parameters()) == 87_849_216


def test_without_weights_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(WeightsError, match=r"no route to host.*leave `model\.mimicry`"):
        ClipImageEncoder()
