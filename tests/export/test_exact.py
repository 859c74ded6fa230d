"""A network's stages in float64, for every kind of network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.check import sample_frames
from export.exact import exact_stages
from models.engines import bundle_inputs, run_stages
from models.networks.checkpoint import NetworkConfig
from models.networks.oed import OedConfig
from tests.support.networks import RELATION_CONFIGS, make_lively, tiny, tiny_scored, tiny_two_stage

CONFIGS: dict[str, NetworkConfig] = {
    "arn": tiny(),
    "scored-sttran": tiny_scored(tiny_two_stage()),
    "oed": OedConfig(
        frame_height=64, frame_width=64, clip_length=3, backbone="resnet18", width=32, heads=2, feed_forward=32,
        encoder_layers=1, instance_layers=1, interaction_layers=1, queries=6, kept_pairs=(4, 2),
    ),
    **{name: tiny_two_stage(name) for name in RELATION_CONFIGS},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_stages_in_float64_give_the_same_but_for_rounding(name: str) -> None:
    network = make_lively(CONFIGS[name])  # type: ignore[call-overload]
    frames = sample_frames(np.random.default_rng(0), 1, 2, *network.frame_size)
    expected = run_stages(network.stages(), bundle_inputs(frames, np.arange(2) / 2))
    for stage, exact in zip(network.stages(), exact_stages(network), strict=True):
        for output, values in exact.run(expected).items():
            if expected[output].dtype == np.float32:
                assert values.dtype == np.float64, output
            scale = max(1.0, float(np.abs(expected[output]).max()))
            np.testing.assert_allclose(values / scale, expected[output] / scale, atol=1e-4, err_msg=output)
        assert stage.span == exact.span
    assert not any(weight.dtype == torch.float64 for weight in network.state_dict().values()), "the network stays"
