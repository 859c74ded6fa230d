"""`vsg import sttran`: published files become a bundle that ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner

from export.check import sample_frames
from export.commands import export
from export.importing import import_
from models.engines import bundle_inputs, open_stages, run_stages
from models.graph.bundle import Bundle
from models.graph.predictions import prediction_names
from models.graph.vocabulary import ACTION_GENOME
from models.networks.published import import_sttran
from models.networks.relations.sttran import SttranConfig
from tests.support.sttran import detector_state, lively_state

SIZE = (64, 96)
PICTURE = (480, 320)


def test_sttran_becomes_a_bundle_that_gives_what_the_published_weights_give(tmp_path: Path) -> None:
    state = lively_state(SttranConfig(visual_width=8, word_width=4, feed_forward=16))
    files = tmp_path / "sttran_sgdet.tar", tmp_path / "faster_rcnn_ag.pth"
    torch.save({"state_dict": state}, files[0])
    images = torch.from_numpy(sample_frames(np.random.default_rng(1), 1, 2, *SIZE)[0]).permute(0, 3, 1, 2).float() - 110
    model = detector_state(images=images)
    torch.save({"session": 1, "epoch": 6, "model": model, "pooling_mode": "align"}, files[1])
    own = tmp_path / "sttran.pt"
    arguments = ["sttran", files[0], own, "--detector", files[1], "--frame-size", "96x64"]
    done = CliRunner().invoke(import_, [*map(str, arguments)])
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    done = CliRunner().invoke(export, [str(own), str(tmp_path / "sttran"), "--no-check"])  # compared below
    assert done.exit_code == 0, f"{done.output} {done.exception}"

    bundle = Bundle.load(tmp_path / "sttran")
    assert [(stage.name, stage.span) for stage in bundle.manifest.stages] == [
        ("detector", "frame"),
        ("relations", "clip"),
    ]
    frames = sample_frames(np.random.default_rng(5), 1, 3, *SIZE)
    given = bundle_inputs(frames, np.arange(3) / 2, PICTURE)
    found = run_stages(open_stages(bundle, "onnxruntime-cpu"), given, clip_length=3)
    expected = run_stages(import_sttran(*files, frame_size=SIZE)[0].stages(), given, clip_length=3)
    real = expected["pair_mask"]
    assert real.any()
    np.testing.assert_array_equal(found["pair_mask"], real)
    for name in prediction_names(ACTION_GENOME) & found.keys() - {"pair_mask"}:
        np.testing.assert_allclose(found[name][real], expected[name][real], atol=1e-4, err_msg=name)
