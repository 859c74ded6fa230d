"""Every engine gives the same numbers for the same bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from cuda.bindings import runtime as cuda
from torch import nn

from export.check import sample_frames
from models.engines import EngineName, EngineOptions, Tensors, open_stages, run_stages
from models.engines.torch_engine import Torch
from models.errors import EngineError
from models.graph.bundle import FRAMES, TIMESTAMPS, Bundle, FrameSize, Manifest, Stage, Tensor, Thresholds, Training
from models.networks.checkpoint import save_checkpoint
from models.networks.layers import Attention
from models.networks.scored import Scored
from models.networks.stages import NetworkStage
from tests.support.networks import make_lively, tiny_scored, tiny_two_stage
from tests.support.paths import ROOT

HAS_GPU = cuda.cudaGetDeviceCount()[0] == cuda.cudaError_t.cudaSuccess
DEMOS = ROOT / "bundles"
SHAPES = [(1, 4), (2, 3), (3, 1)]
ONE_THREAD = EngineOptions(threads=1)


def video(bundle: Bundle, batch: int, time: int) -> Tensors:
    """What a bundle reads; the last frame is black, so that nobody is in it."""
    size = bundle.manifest.frame_size
    frames = sample_frames(np.random.default_rng(7), batch, time, size.height, size.width)
    frames[-1, -1] = 0
    return {FRAMES: frames, TIMESTAMPS: np.arange(time, dtype=np.float32)[None].repeat(batch, 0) / 2}


def assert_alike(found: Tensors, wanted: Tensors, tolerance: float = 5e-5) -> None:
    """The same names, types and shapes, and values within a share of each tensor's range."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        one, other = found[name].astype(np.float64), array.astype(np.float64)
        assert np.abs(one - other).max() <= tolerance * max(np.ptp(other), 1.0 if np.ptp(other) < 1e-3 else 0), name


def assert_engine_agrees(bundle: Bundle, engine: EngineName, options: EngineOptions = ONE_THREAD) -> None:
    """Each stage by itself, on what ONNX Runtime gave for the stages before."""
    reference = open_stages(bundle, "onnxruntime-cpu", ONE_THREAD)
    asked = open_stages(bundle, engine, options)
    # An engine may be prepared for a full batch of frames and for one clip of full length, and run others otherwise.
    for batch, time in (*SHAPES, (options.max_batch, 1), (1, bundle.manifest.clip_length)):
        known = video(bundle, batch, time)
        for one, other in zip(reference, asked, strict=True):
            wanted = one.run(known)
            assert_alike(other.run(known), wanted)
            known |= wanted


@pytest.mark.parametrize("name", ["arn-compact", "sttran-rs-net-compact"])
def test_openvino_gives_what_onnx_runtime_gives_for_every_stage_of_the_demo_bundles(name: str) -> None:
    assert_engine_agrees(Bundle.load(DEMOS / name), "openvino")


@pytest.mark.parametrize("name", ["tiny_bundle", "video_bundle"])
def test_openvino_gives_what_onnx_runtime_gives_for_small_graphs(name: str, request: pytest.FixtureRequest) -> None:
    assert_engine_agrees(Bundle.load(request.getfixturevalue(name)), "openvino")


@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU here")
@pytest.mark.parametrize("max_batch", [2, 16])
@pytest.mark.parametrize("name", ["arn-compact", "sttran-rs-net-compact"])
def test_cuda_gives_what_the_cpu_gives_whatever_is_padded(name: str, max_batch: int) -> None:
    assert_engine_agrees(Bundle.load(DEMOS / name), "onnxruntime-cuda", EngineOptions(max_batch=max_batch))


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino"])
def test_a_later_run_does_not_change_earlier_outputs(tiny_bundle: Path, engine: EngineName) -> None:
    bundle = Bundle.load(tiny_bundle)
    first, _ = open_stages(bundle, engine, ONE_THREAD)
    dark, light = (np.full((1, 2, 32, 32, 3), value, np.uint8) for value in (51, 204))
    given = first.run({FRAMES: dark, "something else": light})["brightness"]
    first.run({FRAMES: light})
    np.testing.assert_allclose(given, 0.2, rtol=1e-5)


@pytest.fixture(scope="module")
def network() -> Scored:
    """A detector, a relation network and a scorer."""
    return make_lively(tiny_scored(tiny_two_stage()))


@pytest.fixture(scope="module")
def checkpoint(network: Scored, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    save_checkpoint(path, network, {})
    return path


@pytest.fixture(scope="module")
def described(network: Scored) -> Bundle:
    """The bundle of `network` without its graphs, and, as export has it, without inputs that nothing depends on."""
    height, width = network.frame_size
    frame: Tensors = {FRAMES: np.zeros((1, 1, height, width, 3), np.uint8), TIMESTAMPS: np.zeros((1, 1), np.float32)}
    known = run_stages(network.stages(), frame)

    def describe(name: str) -> Tensor:
        array = known[name]
        return Tensor(name=name, dtype=str(array.dtype), shape=("batch", "time", *array.shape[2:]))  # type: ignore[arg-type]

    stages = []
    for stage in network.stages():
        read = [name for name in stage.inputs if name not in (TIMESTAMPS, "subject_scores")]
        inputs, outputs = [describe(name) for name in read], [describe(name) for name in stage.outputs]
        stages.append(Stage(name=stage.name, file="none", inputs=inputs, outputs=outputs, span=stage.span))
    scorer = stages[2]
    stages[2] = scorer.model_copy(update={"inputs": [*scorer.inputs, describe("subject_scores")]})
    manifest = Manifest(
        name="lively", version="1", family="two_stage", description="for tests",
        frame_size=FrameSize(height=height, width=width), clip_length=network.clip_length, stages=stages,
        thresholds=Thresholds(), relation_scoring=True, training=Training(data="none", command="none"),
        sha256={"none": ""},
    )  # fmt: skip
    return Bundle(Path("nowhere"), manifest)


def test_torch_runs_the_stages_of_a_checkpoint(network: Scored, checkpoint: Path, described: Bundle) -> None:
    opened = open_stages(described, "torch-cpu", EngineOptions(threads=torch.get_num_threads(), checkpoint=checkpoint))
    assert [stage.name for stage in opened] == ["torch-cpu"] * 4
    for batch, time in SHAPES:
        known = video(described, batch, time)
        for written, stage, engine in zip(described.manifest.stages, network.stages(), opened, strict=True):
            wanted = stage.run(known)
            read = {tensor.name for tensor in written.inputs}
            assert_alike(engine.run({name: array for name, array in known.items() if name in read}), wanted, 1e-6)
            known |= wanted


def test_torch_in_bf16_is_near_fp32_but_not_equal(network: Scored, checkpoint: Path, described: Bundle) -> None:
    manifest = described.manifest.model_copy(update={"precision": "bf16"})
    options = EngineOptions(checkpoint=checkpoint)
    exact, _, *_ = open_stages(described, "torch-cpu", options)
    rough, _, *_ = open_stages(Bundle(described.folder, manifest), "torch-cpu", options)
    wanted, found = (stage.run(video(described, 1, 3))["object_scores"] for stage in (exact, rough))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).mean() < 0.1  # type: ignore[operator]


class SelfAttention(nn.Module):
    """Attention in the shape that ARN gives it: (B, T, groups, tokens, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(8, 2)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.attention(tokens, tokens, tokens),)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_torch_compiles_attention_over_five_axes_in_bf16(described: Bundle) -> None:
    """Inductor's pattern for attention in half precision would permute four axes here and fail."""
    values = Tensor(name="tokens", dtype="float32", shape=("batch", "time", 2, 3, 8))
    stage = Stage(name="attention", file="none", inputs=[values], outputs=[values.model_copy(update={"name": "mixed"})])
    source = NetworkStage("attention", SelfAttention().eval(), ("tokens",), ("mixed",))
    bundle = Bundle(described.folder, described.manifest.model_copy(update={"precision": "bf16"}))
    blanks = {FRAMES: torch.zeros(1)}
    compiled, eager = (
        Torch("torch-cpu", bundle, stage, source, blanks, EngineOptions(graphs=graphs)) for graphs in GRAPHS
    )
    tokens = {"tokens": np.random.default_rng(0).standard_normal((1, 2, 2, 3, 8), np.float32)}
    assert_alike(compiled.run(tokens), eager.run(tokens), 0.03)


GRAPHS: tuple[Literal["compile", "none"], ...] = ("compile", "none")


@pytest.mark.parametrize("name", ["arn-compact", "sttran-rs-net-compact"])
def test_the_demo_bundles_say_how_to_build_their_network_for_measuring_speed(name: str) -> None:
    bundle = Bundle.load(DEMOS / name)
    known = video(bundle, 1, 2)
    for written, stage in zip(bundle.manifest.stages, open_stages(bundle, "torch-cpu"), strict=True):
        outputs = stage.run(known)
        wanted = {tensor.name: (tensor.dtype, 1, 2, *tensor.shape[2:]) for tensor in written.outputs}
        found = {name: (str(array.dtype), *array.shape) for name, array in outputs.items()}
        # The bundles were written when a frame had one subject, whose features stood there once.
        assert {name for name in wanted if wanted[name] != found[name]} <= {"subject_features"}
        assert found.keys() == wanted.keys()
        known |= outputs


def test_torch_names_what_is_missing_to_build_the_network(described: Bundle, checkpoint: Path) -> None:
    with pytest.raises(EngineError, match="does not say which network it holds; name its checkpoint"):
        open_stages(described, "torch-cpu")
    with pytest.raises(EngineError, match="torch-cpu has no CUDA graphs"):
        open_stages(described, "torch-cpu", EngineOptions(checkpoint=checkpoint, graphs="cuda-graphs"))
    with pytest.raises(EngineError, match=r"the stages detector, relations, .*, which are not those of .*arn-compact"):
        open_stages(Bundle.load(DEMOS / "arn-compact"), "torch-cpu", EngineOptions(checkpoint=checkpoint))


@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU here")
@pytest.mark.parametrize("graphs", ["none", "compile", "cuda-graphs"])
def test_torch_on_a_gpu_gives_what_it_gives_on_the_cpu(graphs: str) -> None:
    bundle = Bundle.load(DEMOS / "arn-compact")
    (wanted,) = open_stages(bundle, "torch-cpu")
    (found,) = open_stages(bundle, "torch-cuda", EngineOptions(graphs=graphs))  # type: ignore[arg-type]
    for batch, time in SHAPES:
        frames = video(bundle, batch, time)
        assert_alike(found.run(frames), wanted.run(frames), 1e-3)
