"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino

from models.engines.batches import exact_pieces, shape_of
from models.engines.engine import Arrays, EngineOptions, StageEngine, Tensors
from models.engines.onnxruntime import OnnxRuntimeCpu
from models.errors import EngineError
from models.graph.bundle import Bundle, Precision, Stage

# An int8 graph marks its int8 parts; the rest stays fp32.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_NEEDED = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}


def open_openvino(bundle: Bundle, options: EngineOptions) -> Sequence[StageEngine]:
    """Opens all stages; ONNX Runtime runs those that see whole videos.

    OpenVINO keeps about a megabyte for each shape for good, and every length of video is another shape. Raises
    EngineError where this CPU lacks the instructions for the precision, or OpenVINO refuses a stage.
    """
    core = openvino.Core()
    precision = bundle.manifest.precision
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _NEEDED[precision] not in able:
        raise EngineError(
            f"openvino does not compute in {precision} on this CPU, which offers {', '.join(able)}; "
            "serve the fp32 bundle, or use a CPU with the instructions"
        )
    return [
        OnnxRuntimeCpu(bundle, stage, options) if stage.span == "video" else OpenVino(core, bundle, stage, options)
        for stage in bundle.manifest.stages
    ]


class OpenVino:
    """One stage, compiled for any shape and, up to a quarter faster, for the most frequent one.

    The most frequent shape is a full batch of frames, or one clip of full length. Batches have bucket sizes, so that
    there are few shapes. fp32 stays fp32, although OpenVINO prefers bf16 on CPUs that have it.
    """

    def __init__(self, core: openvino.Core, bundle: Bundle, stage: Stage, options: EngineOptions) -> None:
        self.inputs = tuple(tensor.name for tensor in stage.inputs)
        self.span = stage.span
        self._outputs = [tensor.name for tensor in stage.outputs]
        self._buckets = options.buckets
        self._usual = (self._buckets[-1], 1) if stage.span == "frame" else (1, bundle.manifest.clip_length)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[bundle.manifest.precision],
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Stages and decoders share the cores: pinned threads would wait for each other.
            "ENABLE_CPU_PINNING": False,
        }
        path = bundle.path_of(stage)
        try:
            model = core.read_model(path)
            self._compiled = core.compile_model(model, "CPU", settings)
            model.reshape({tensor.name: shape_of(tensor, *self._usual) for tensor in stage.inputs})
            compiled_for_usual = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"openvino does not take {path}: {error}") from error
        self._request = self._compiled.create_infer_request()
        self._usual_request = compiled_for_usual.create_infer_request()

    @property
    def name(self) -> str:
        """The engine, and the device where that is not the CPU."""
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return "openvino" if devices == ["CPU"] else f"openvino-{'-'.join(devices).lower()}"

    @property
    def settings(self) -> dict[str, Any]:
        """The properties that the stage was really compiled with, by OpenVINO's names."""
        return {name: self._compiled.get_property(name) for name in self._compiled.get_property("SUPPORTED_PROPERTIES")}

    def run(self, tensors: Arrays) -> Tensors:
        """Returns the stage's outputs by name, (B, T, …) each."""
        batch = {name: tensors[name] for name in self.inputs}
        cut = exact_pieces(len(batch[self.inputs[0]]), self._buckets)
        parts = [self._infer({name: batch[name][each.start : each.stop] for name in batch}) for each in cut]
        if len(parts) == 1:
            return {name: parts[0][name] for name in self._outputs}
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _infer(self, piece: Arrays) -> Any:
        is_usual = piece[self.inputs[0]].shape[:2] == self._usual
        return (self._usual_request if is_usual else self._request).infer(piece)
