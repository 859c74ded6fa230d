"""OED's published files become networks that compute what its code does; other files are refused with what they are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.check import sample_frames
from models.engines import bundle_inputs, run_stages
from models.errors import WeightsError
from models.networks.boxes import to_corners
from models.networks.oed import Oed
from models.networks.published import import_oed
from tests.support.oed import State, expected_outputs, oed_state, write_oed

SIZE = (70, 100)
FRAMES = sample_frames(np.random.default_rng(0), 1, 7, *SIZE)[0]


def outputs(network: Oed) -> dict[str, torch.Tensor]:
    known = run_stages(network.stages(), bundle_inputs(FRAMES[None], np.arange(len(FRAMES))), clip_length=7)
    return {name: torch.from_numpy(values[0]) for name, values in known.items()}


@pytest.mark.parametrize("temporal", [False, True])
def test_a_published_file_computes_what_oed_does(tmp_path: Path, temporal: bool) -> None:
    state = oed_state(temporal=temporal)
    network = import_oed(write_oed(tmp_path / "checkpoint_3.pth", state), SIZE)
    assert len(network.state_dict()) == len(state)
    found, wanted = outputs(network), expected_outputs(state, FRAMES)
    for name in ("subject_boxes", "object_boxes"):
        wanted[name] = to_corners(wanted[name]).clamp(0, 1)
    for name, values in wanted.items():
        assert float((values - values[:1]).abs().max()) > 1e-3, f"{name} does not react to the frames"
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=0)
    assert found["pair_mask"].all()
    assert (found["subject_scores"] == 1).all()


def test_the_spatial_stage_runs_once_a_frame(tmp_path: Path) -> None:
    network = import_oed(write_oed(tmp_path / "temporal.pth", oed_state(temporal=True)), SIZE, clip_length=4)
    spatial, temporal = network.stages()
    assert (spatial.span, temporal.span) == ("frame", "clip")
    assert temporal.inputs == spatial.outputs


def test_a_file_without_a_command_line_is_taken_for_the_published_size(tmp_path: Path) -> None:
    torch.save({"model": oed_state(temporal=False)}, tmp_path / "bare.pth")
    with pytest.raises(WeightsError, match=r"bare\.pth lacks 'backbone\.0\.body\..*' and \d+ more, which OED needs"):
        import_oed(tmp_path / "bare.pth")


class _Runs:
    """Makes a folder when it is loaded as an ordinary pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    content = {"model": oed_state(temporal=False), "args": _Runs(tmp_path / "made")}
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"bad\.pth is not .* it asks to call \w+\.mkdir, and that was not done"):
        import_oed(tmp_path / "bad.pth")
    assert not (tmp_path / "made").exists()


def other_rows(name: str, rows: int) -> State:
    state = oed_state(temporal=False)
    return state | {f"{name}.weight": torch.zeros(rows, 32), f"{name}.bias": torch.zeros(rows)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"config": {}, "state": {}}, "it holds a checkpoint of this project; give a file that OED's code wrote"),
        ({"model": {"bbox_embed.layers.0.weight": torch.ones(2)}}, r"it holds DETR's weights \(`detr_weights`"),
        ({"model": {"RCNN_base.0.weight": torch.ones(2)}}, r"it holds the weights of STTran's detector \(`--detector`"),
        ({"state_dict": {"a_rel_compress.weight": torch.ones(2)}}, r"it holds STTran's weights \(`vsg import sttran`"),
        ({"model": {"layer4.0.conv1.weight": torch.ones(2)}}, "it holds a ResNet's weights"),
        ({"model": {"a": torch.ones(2), "b": torch.ones(2)}}, "it holds 2 entries such as 'a'; give"),
        (torch.ones(2), "it holds a Tensor instead of a table"),
        (
            {"model": other_rows("obj_class_embed", 83)},
            "knows 81 objects, but Action Genome has 36: it has anoth",
        ),
        ({"model": other_rows("contacting_class_embed", 3)}, "knows 3 contacting predicates, but Action Genome has 17"),
        (
            {"model": oed_state(temporal=False), "args": argparse.Namespace(dsgg_task="predcls")},
            "was trained with dsgg_task 'predcls': give weights of OED for SGDet",
        ),
        (
            {"model": oed_state(temporal=True), "args": argparse.Namespace(seq_sort=True)},
            "was trained with seq_sort True: .* trained with False",
        ),
        (
            {"model": oed_state(temporal=False), "args": argparse.Namespace(nheads=7)},
            "is of an OED that cannot be built: width is 256: give a multiple of 4 and of heads",
        ),
    ],
)
def test_a_file_of_something_else_says_what_it_is(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"odd\.pth.*{words}"):
        import_oed(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"transformer.temporal_encoder.linear1.bias": torch.ones(2)},
            "which OED has no place for: it is of a var",
        ),
        ({"input_proj.bias": torch.full((32,), torch.nan)}, "the tensor 'input_proj.bias' holds NaN"),
        ({"input_proj.bias": torch.ones(31)}, r"'input_proj.bias' has shape \(31,\), but OED needs \(32,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: State, words: str) -> None:
    path = write_oed(tmp_path / "odd.pth", oed_state(temporal=False) | change)
    with pytest.raises(WeightsError, match=rf"odd\.pth.*{words}"):
        import_oed(path)


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (lambda data: data[: len(data) // 2], "it is cut short or damaged; get it again"),
        (lambda data: b"", "it is empty"),
        (
            lambda data: b"<!DOCTYPE html><title>Google Drive can't scan this file</title>",
            "it is a page of",
        ),
        (lambda data: b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
    ],
    ids=["half", "empty", "page", "pointer"],
)
def test_what_a_download_left_says_what_it_is(tmp_path: Path, cut: Callable[[bytes], bytes], words: str) -> None:
    path = write_oed(tmp_path / "cut.pth", {"weight": torch.ones(3000)})
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(WeightsError, match=rf"cut\.pth is not a file of OED's weights: {words}"):
        import_oed(path)
