"""An engine that cannot run here says why before the first video; one that runs says what really runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import openvino
import psutil
import pytest
from cuda.bindings import runtime as cuda

from models.engines import EngineName, EngineOptions, open_stages
from models.engines.messages import native_messages, read_messages
from models.engines.onnxruntime import open_session
from models.engines.openvino import OpenVino
from models.errors import EngineError
from models.graph.bundle import Bundle, Precision

HAS_GPU = cuda.cudaGetDeviceCount()[0] == cuda.cudaError_t.cudaSuccess


def in_precision(folder: Path, precision: Precision) -> Bundle:
    """A bundle that says it is of another precision."""
    bundle = Bundle.load(folder)
    return Bundle(folder, bundle.manifest.model_copy(update={"precision": precision}))


@pytest.mark.parametrize(
    ("engine", "module", "runtime", "extra"),
    [
        ("onnxruntime-cpu", "onnxruntime", "onnxruntime", "cpu"),
        ("openvino", "openvino", "openvino", "openvino"),
        ("onnxruntime-cuda", "gpu", "cuda", "gpu"),
        ("torch-cpu", "torch_engine", "torch", "training"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named_with_what_installs_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName, module: str, runtime: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, f"models.engines.{module}", raising=False)
    monkeypatch.setitem(sys.modules, runtime, None)
    if runtime == "cuda":
        monkeypatch.delitem(sys.modules, "cuda.bindings", raising=False)
    with pytest.raises(EngineError, match=rf"{engine} needs {runtime}, which is not installed.*\[{extra}\]"):
        open_stages(Bundle.load(tiny_bundle), engine)


def test_an_unknown_engine_is_refused_with_those_there_are(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match="there is no engine 'onnx'; the engines are onnxruntime-cpu, "):
        open_stages(Bundle.load(tiny_bundle), "onnx")  # type: ignore[arg-type]


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("onnxruntime-cuda", "no usable NVIDIA GPU here: CUDA: .*river"),
        ("onnxruntime-tensorrt", "no usable NVIDIA GPU here: CUDA: .*river"),
        ("tensorrt", "TensorRT cannot be loaded|no usable NVIDIA GPU"),
        ("torch-cuda", "torch-cuda cannot run here: .+; choose a CPU engine"),
    ],
)
def test_gpu_engines_are_refused_without_a_gpu(tiny_bundle: Path, engine: EngineName, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        open_stages(Bundle.load(tiny_bundle), engine)


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU, which may take the session")
def test_a_provider_that_did_not_take_the_session_is_an_error_with_the_runtimes_own_words(tiny_bundle: Path) -> None:
    providers: list[Any] = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    words = "onnxruntime-cuda was asked for, but onnxruntime-cpu took .*pairs.onnx: .*CUDAExecutionProvider"
    with pytest.raises(EngineError, match=words):
        open_session(tiny_bundle / "pairs.onnx", providers=providers)


def test_a_graph_that_a_runtime_refuses_is_named(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    (tiny_bundle.parent / "damaged.onnx").write_bytes(b"no graph")
    stages = [bundle.manifest.stages[0].model_copy(update={"file": "../damaged.onnx"})]
    damaged = Bundle(tiny_bundle, bundle.manifest.model_copy(update={"stages": stages}))
    for engine in ("onnxruntime-cpu", "openvino"):
        with pytest.raises(EngineError, match=r"damaged\.onnx"):
            open_stages(damaged, engine)


def test_output_of_native_code_is_captured_only_inside_the_context(capfd: pytest.CaptureFixture[str]) -> None:
    with native_messages() as printed:
        os.write(2, b"\x1b[31mlibrary is missing\x1b[0m\n  so is its key\n")
        assert read_messages(printed) == "library is missing so is its key"
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino"])
def test_the_engine_that_runs_is_named(tiny_bundle: Path, engine: EngineName) -> None:
    assert [stage.name for stage in open_stages(Bundle.load(tiny_bundle), engine)] == [engine] * 2


def test_openvino_leaves_whole_videos_to_onnx_runtime(video_bundle: Path) -> None:
    names = [stage.name for stage in open_stages(Bundle.load(video_bundle), "openvino")]
    assert names == ["openvino"] * 3 + ["onnxruntime-cpu"]


def test_onnx_runtime_starts_no_more_threads_than_configured(tiny_bundle: Path) -> None:
    process, bundle = psutil.Process(), Bundle.load(tiny_bundle)
    kept = []
    for threads, more in ((1, 0), (3, 2)):
        before = process.num_threads()
        kept.append(open_stages(bundle, "onnxruntime-cpu", EngineOptions(threads=threads)))
        # Every stage has threads of its own beside the one that calls it.
        assert process.num_threads() - before == more * len(bundle.manifest.stages)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_computes_in_fp32_with_the_configured_threads(tiny_bundle: Path, precision: Precision) -> None:
    for stage in open_stages(in_precision(tiny_bundle, precision), "openvino", EngineOptions(threads=1)):
        assert isinstance(stage, OpenVino)
        assert stage.settings["INFERENCE_PRECISION_HINT"] == openvino.Type.f32
        assert (stage.settings["INFERENCE_NUM_THREADS"], stage.settings["NUM_STREAMS"]) == (1, 1)


def test_openvino_refuses_bf16_where_the_cpu_lacks_it(tiny_bundle: Path) -> None:
    flags = Path("/proc/cpuinfo").read_text()
    bundle = in_precision(tiny_bundle, "bf16")
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        (stage, _) = open_stages(bundle, "openvino")
        assert isinstance(stage, OpenVino)
        assert stage.settings["INFERENCE_PRECISION_HINT"] == openvino.Type.bf16
    else:
        with pytest.raises(EngineError, match=r"openvino does not compute in bf16 on this CPU, which offers .*FP32"):
            open_stages(bundle, "openvino")


@pytest.mark.parametrize(
    ("engine", "precision", "able"),
    [
        ("onnxruntime-cpu", "bf16", "onnxruntime-tensorrt, openvino, torch-cpu, torch-cuda do"),
        ("openvino", "fp16", "onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, torch-cuda do"),
        ("torch-cpu", "int8", "onnxruntime-cpu, openvino do"),
    ],
)
def test_a_precision_that_an_engine_does_not_compute_in_is_refused_with_those_that_do(
    tiny_bundle: Path, engine: EngineName, precision: Precision, able: str
) -> None:
    with pytest.raises(EngineError, match=rf"{engine} does not compute in {precision}, .*/tiny; {able}"):
        open_stages(in_precision(tiny_bundle, precision), engine)
