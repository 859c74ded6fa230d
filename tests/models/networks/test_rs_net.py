"""RS-Net's scorer against loops over frames and dense attention, and what a scorer of whole videos must hold."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.engines.onnxruntime import open_session
from models.errors import ConfigurationError
from models.networks.rs_net import RelationScorer, RsNetConfig, scoring_stages
from tests.support.networks import run_stage

INPUT, PAIRS = 24, 5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_scorer(**changes: Any) -> RelationScorer:
    """A scorer in evaluation mode whose weights react: no bias at 0, no norm at 1, no token near 0."""
    small = {"input_width": INPUT, "width": 16, "heads": 2, "feed_forward": 12, "temporal_layers": 2, "video_tokens": 3}
    scorer = RelationScorer(RsNetConfig(**(small | changes))).eval()
    for number, parameter in enumerate(scorer.parameters()):
        parameter.data = random(*parameter.shape, seed=number) * 0.4
    return scorer


def video(batch: int, time: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Representations with some pairs missing, and from three frames on one frame without any."""
    mask = torch.rand(batch, time, PAIRS, generator=torch.Generator().manual_seed(seed)) > 0.4
    mask[:, :, 0] = True
    if time > 2:
        mask[:, 1] = False
    return random(batch, time, PAIRS, INPUT, seed=seed + 1), mask


def dense_attention(inwards: nn.Linear, outwards: nn.Linear, heads: int, tokens: Tensor, sees: Tensor) -> Tensor:
    """torch's own attention of one sequence (L, W) where `sees` (L, L) says who sees whom."""
    theirs = nn.MultiheadAttention(tokens.shape[-1], heads, batch_first=True)
    theirs.load_state_dict(
        {"in_proj_weight": inwards.weight, "in_proj_bias": inwards.bias,
         "out_proj.weight": outwards.weight, "out_proj.bias": outwards.bias}
    )  # fmt: skip
    mixed, _ = theirs(tokens[None], tokens[None], tokens[None], attn_mask=~sees)
    return mixed[0]


def after_attention(layer: Any, tokens: Tensor, mixed: Tensor) -> Tensor:
    tokens = layer.norm1(tokens + mixed)
    feed_forward = getattr(layer, "feed_forward", layer)
    hidden = feed_forward.linear2(feed_forward.linear1(tokens).clamp(min=0))
    changed: Tensor = layer.norm2(tokens + hidden)
    return changed


def loop_over_frames(scorer: RelationScorer, representation: Tensor, mask: Tensor) -> list[list[float]]:
    """P(related) of the real pairs of each frame of one video, (T, P, D) and (T, P), without any padding."""
    config, pairs_of_frame, frame_tokens = scorer.config, [], []
    for time in range(len(mask)):
        real = representation[time, mask[time]]  # (pairs, D)
        centred = real - real.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        pairs = scorer.input_projection(normal * scorer.input_norm.weight + scorer.input_norm.bias)
        # The log-odds of a sigmoid are what went into it.
        pairs = pairs + scorer.confidence_projection(real[:, :2].clamp(-6.906755, 6.906755) / 3)
        tokens = torch.cat((scorer.spatial_token[None], pairs))
        everyone = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
        for layer in scorer.spatial_encoder.layers:
            attention: Any = layer.self_attn
            inwards = nn.Linear(config.width, 3 * config.width)
            inwards.weight, inwards.bias = attention.in_proj_weight, attention.in_proj_bias
            mixed = dense_attention(inwards, attention.out_proj, config.heads, tokens, everyone)
            tokens = after_attention(layer, tokens, mixed)
        angles = torch.tensor([time / 10000 ** (2 * step / config.width) for step in range(config.width // 2)])
        code = torch.stack((angles.sin(), angles.cos()), -1).flatten()
        pairs_of_frame.append(tokens[1:])
        frame_tokens.append(tokens[0] + code)
    count = config.video_tokens
    tokens = torch.cat((scorer.video_tokens, torch.stack(frame_tokens)))
    sees = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    for row in range(len(tokens)):
        for column in range(len(tokens)):
            near = row < count or abs(row - column) <= 1
            sees[row, column] = column < count or (near and bool(mask[column - count].any()))
    for layer in scorer.temporal_encoder:
        mixed = dense_attention(layer.self_attn.in_proj, layer.self_attn.out_proj, config.heads, tokens, sees)
        tokens = after_attention(layer, tokens, mixed)
    weight = torch.cat(
        (scorer.pair_projection.weight, scorer.frame_projection.weight, scorer.video_projection.weight), 1
    )
    scores = []
    for time, pairs in enumerate(pairs_of_frame):
        of_frame = []
        for pair in pairs:
            hidden = weight @ torch.cat((pair, tokens[count + time], tokens[0])) + scorer.pair_projection.bias
            related, unrelated = scorer.classifier(hidden.clamp(min=0)).flip(0).exp()
            of_frame.append(float(related / (related + unrelated)))
        scores.append(of_frame)
    return scores


def confidence_of(representation: Tensor) -> Tensor:
    """Confidences that belong to the representations."""
    return representation[..., :2].sigmoid()


def logits_of(scorer: RelationScorer, representation: Tensor, mask: Tensor) -> Tensor:
    logits: Tensor = scorer(representation, confidence_of(representation), mask)
    return logits


def score(scorer: RelationScorer, representation: Tensor, mask: Tensor) -> Tensor:
    with torch.inference_mode():
        return scorer.scores(logits_of(scorer, representation, mask))


@pytest.mark.parametrize("time", [1, 2, 7])
@torch.inference_mode()
def test_scores_equal_loops_over_frames_with_dense_attention(time: int) -> None:
    scorer = make_scorer(spatial_layers=2)
    representation, mask = video(2, time)
    found = score(scorer, representation, mask)
    for index in range(2):
        wanted = loop_over_frames(scorer, representation[index], mask[index])
        for frame in range(time):
            assert found[index, frame, mask[index, frame]].tolist() == pytest.approx(wanted[frame], abs=1e-5)
    assert found[mask].std() > 1e-3


def test_scores_are_probabilities_and_zero_where_there_is_no_pair() -> None:
    scorer = make_scorer()
    representation, mask = video(2, 4)
    logits = logits_of(scorer, representation, mask)
    assert logits.shape == (2, 4, PAIRS, 2)
    found = scorer.scores(logits)
    torch.testing.assert_close(found[mask], logits[mask].softmax(-1)[:, 1])
    assert (found[~mask] == 0).all()


@pytest.mark.parametrize("leftover", [1e3, float("nan")])
def test_what_lies_in_slots_without_a_pair_changes_nothing(leftover: float) -> None:
    scorer = make_scorer()
    representation, mask = video(2, 6)
    spoiled = representation.masked_fill(~mask[..., None], leftover)
    torch.testing.assert_close(score(scorer, spoiled, mask), score(scorer, representation, mask))


@pytest.mark.parametrize("time", [1, 5])
def test_a_video_without_pairs_has_finite_logits_and_no_scores(time: int) -> None:
    scorer = make_scorer()
    representation, mask = random(1, time, PAIRS, INPUT), torch.zeros(1, time, PAIRS, dtype=torch.bool)
    assert torch.isfinite(logits_of(scorer, representation, mask)).all()
    assert (score(scorer, representation, mask) == 0).all()


def test_the_order_of_slots_does_not_matter() -> None:
    scorer = make_scorer()
    representation, mask = video(2, 4)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = score(scorer, representation[:, :, order], mask[:, :, order])
    torch.testing.assert_close(shuffled, score(scorer, representation, mask)[:, :, order])


def test_a_far_away_frame_changes_the_scores_of_the_first() -> None:
    scorer = make_scorer(temporal_layers=1)
    representation, mask = video(1, 12)
    changed = representation.clone()
    changed[:, 10] *= -1
    difference = score(scorer, changed, mask)[:, 0] - score(scorer, representation, mask)[:, 0]
    assert difference[mask[:, 0]].abs().max() > 1e-4


def test_videos_of_a_batch_do_not_see_each_other() -> None:
    scorer = make_scorer()
    representation, mask = video(3, 4)
    alone = score(scorer, representation[1:2], mask[1:2])
    torch.testing.assert_close(score(scorer, representation, mask)[1:2], alone)


def test_the_order_of_frames_matters() -> None:
    scorer = make_scorer()
    representation, mask = random(1, 6, PAIRS, INPUT), torch.ones(1, 6, PAIRS, dtype=torch.bool)
    backwards = score(scorer, representation.flip(1), mask).flip(1)
    assert (backwards - score(scorer, representation, mask)).abs().max() > 1e-3


def test_hosts_of_any_scale_score_alike() -> None:
    scorer = make_scorer()
    representation, mask = video(1, 4)
    confidence = confidence_of(representation)
    found, wanted = (
        scorer.scores(scorer(each, confidence, mask)) for each in (50 * representation + 3, representation)
    )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


def test_a_surer_detection_changes_the_score() -> None:
    scorer = make_scorer()
    representation, mask = video(1, 3)
    confidence = confidence_of(representation)
    surer = confidence.clone()
    surer[0, 0, 0, 1] = 0.999
    difference = scorer.scores(scorer(representation, surer, mask)) - scorer.scores(
        scorer(representation, confidence, mask)
    )
    assert difference[0, 0, 0].abs() > 1e-4


def test_every_weight_learns_and_no_gradient_is_lost_to_empty_frames() -> None:
    scorer = make_scorer().train()
    representation, mask = video(2, 5)
    logits = logits_of(scorer, representation, mask)[mask]
    nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 2).backward()
    for name, parameter in scorer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_as_stages_it_sees_frames_clip_by_clip_and_then_the_whole_video() -> None:
    scorer = make_scorer()
    frames, scores = scoring_stages(scorer)
    assert [(each.name, each.span) for each in (frames, scores)] == [
        ("spatial_context", "clip"),
        ("relation_scores", "video"),
    ]
    representation, mask = video(2, 4)
    tensors = stage_inputs(representation, mask)
    parts = [run_stage(frames, {name: each[:, half] for name, each in tensors.items()}) for half in HALVES]
    joined = {name: torch.cat([part[name] for part in parts], 1) for name in frames.outputs}
    outputs = run_stage(scores, joined | {"pair_mask": mask})
    torch.testing.assert_close(outputs["relation_scores"], score(scorer, representation, mask))


HALVES = (slice(None, 2), slice(2, None))


def stage_inputs(representation: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What the first stage takes, such that the confidences are those of `confidence_of`."""
    confidence = confidence_of(representation)
    object_scores = confidence[..., 1:] * torch.linspace(0, 1, 36)
    return {
        "representation": representation,
        "subject_scores": confidence[..., 0],
        "object_scores": object_scores,
        "pair_mask": mask,
    }


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"width": 30, "heads": 4}, ConfigurationError, r"width is 30: give an even multiple of heads \(4\)"),
        ({"width": 15, "heads": 3}, ConfigurationError, "width is 15: give an even multiple"),
        ({"temporal_layers": 0}, ValidationError, "temporal_layers"),
        ({"dropout": 1.0}, ValidationError, "dropout"),
        ({"windows": 2}, ValidationError, "windows"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RsNetConfig(**{"input_width": INPUT, **changes})


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor of a computation has."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@torch.inference_mode()
def test_no_tensor_grows_faster_than_the_video() -> None:
    scorer = make_scorer()
    sizes = []
    for time in (1000, 2000):
        with Largest() as largest:
            logits_of(scorer, random(1, time, 1, INPUT), torch.ones(1, time, 1, dtype=torch.bool))
        sizes.append(largest.elements)
    assert sizes[1] <= 2.01 * sizes[0]


class Both(nn.Module):
    """Both stages as one graph, which is what memory and numbers of the whole are measured on."""

    def __init__(self, scorer: RelationScorer) -> None:
        super().__init__()
        self.frames, self.scores = (stage.module for stage in scoring_stages(scorer))

    def forward(self, representation: Tensor, subject_scores: Tensor, object_scores: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.scores(*self.frames(representation, subject_scores, object_scores, mask), mask)[0]
        return scores


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rs_net") / "relation_scorer.onnx"
    axes = {0: torch.export.Dim("batch", min=1, max=1024), 1: torch.export.Dim("time", min=1)}
    tensors = stage_inputs(*video(2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own dependencies' deprecations
        program = torch.onnx.export(
            Both(make_scorer(temporal_layers=1)).eval(),
            tuple(tensors.values()),
            dynamic_shapes=[axes] * len(tensors),
            input_names=list(tensors),
            output_names=["relation_scores"],
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    return path


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (3, 7), (1, 40), (1, 2500)])
def test_the_exported_scorer_agrees_for_any_batch_and_length(exported: Path, batch: int, time: int) -> None:
    representation, mask = video(batch, time)
    feed = {name: tensor.numpy() for name, tensor in stage_inputs(representation, mask).items()}
    (found,) = open_session(exported).run(None, feed)
    wanted = score(make_scorer(temporal_layers=1), representation, mask).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert wanted[mask.numpy()].std() > 2e-4


def test_memory_of_onnx_runtime_grows_linearly_with_the_video(exported: Path) -> None:
    # A process of its own for each length; VmHWM, because ru_maxrss counts the parent's size at the start.
    code = """
import sys
from pathlib import Path
import numpy as np
from models.engines.onnxruntime import open_session
path, time, pairs, width = Path(sys.argv[1]), *map(int, sys.argv[2:])
session = open_session(path, 1)
ones = lambda *shape: np.ones((1, time, pairs, *shape), np.float32)
feed = {"representation": ones(width), "subject_scores": ones(), "object_scores": ones(36), "pair_mask": ones() > 0}
session.run(None, feed)
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""

    def peak(time: int) -> int:
        arguments = [str(exported), str(time), str(PAIRS), str(INPUT)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120
        )
        return int(done.stdout)

    baseline, once, twice = peak(1), peak(10_000), peak(20_000)
    assert once - baseline > 10_000  # KiB: well above what a process varies by
    assert twice - baseline < 2.3 * (once - baseline)
