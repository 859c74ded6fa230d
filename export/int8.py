"""Writes ONNX graphs in int8: static, calibrated, with QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.errors import ExportError
from models.engines import Tensors

_PRODUCTS = ("Conv", "MatMul", "Gemm")
_MOVES = {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Slice", "Split", "Expand"}
"""Operators that move values without changing them."""


def quantise(source: Path, target: Path, calibration: Sequence[Tensors]) -> None:
    """Writes a stage's graph with its convolutions and its products with weights in int8; the rest stays fp32.

    calibration: the stage's inputs for a few clips.

    Weights are symmetric with a scale for each channel; activations are uint8 with a zero point. Only this combination
    is fast in ONNX Runtime, and it is fast in OpenVINO too. The results of matrix products stay fp32, so that biases,
    residual sums and normalisation lose nothing. Scores, boxes and attention are not products with weights, so they
    stay fp32 too. Raises ExportError where nothing can be quantised.
    """
    with TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        # Folds split and transposed weights into constants, and batch norms into convolutions.
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        nodes = _quantisable(onnx.load(str(folded)).graph)
        if not nodes:
            raise ExportError(f"{source} has no product with weights that int8 would make faster; leave it in fp32")
        quantize_static(
            str(folded),
            str(target),
            _Clips(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
            op_types_to_quantize=list(_PRODUCTS),
            extra_options={"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
    model = onnx.load(str(target))
    # ONNX Runtime declares the operator sets it knows, whether the graph has such nodes or not.
    used = {node.domain for node in model.graph.node}
    kept = [declared for declared in model.opset_import if declared.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, str(target))


def _quantisable(graph: onnx.GraphProto) -> list[str]:
    """Returns the names of the nodes to quantise: all products with constant weights but two kinds.

    * The convolution that reads the frames. It is cheap, everything else depends on it, and in int8 ONNX Runtime would
      normalise pixels in a layout that costs more than the convolution saves.
    * Products of concatenated tokens. OpenVINO moves the zero point before the concatenation and fails (2026.4,
      `Broadcast` in `MatMulTransformation`).
    """
    constants = {constant.name: constant for constant in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}

    def maker(tensor: str) -> onnx.NodeProto | None:
        node = makers.get(tensor)
        while node is not None and node.op_type in _MOVES:
            node = makers.get(node.input[0])
        return node

    def worth_it(node: onnx.NodeProto) -> bool:
        if node.op_type not in _PRODUCTS or node.input[1] not in constants:
            return False
        if node.op_type == "Conv":
            channels = constants[node.input[1]].dims[1]
            return bool(channels > 3)
        source = maker(node.input[0])
        return source is None or source.op_type != "Concat"

    return [node.name for node in graph.node if worth_it(node)]


class _Clips(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, clips: Sequence[Tensors]) -> None:
        self._rest: Iterator[Tensors] = iter(clips)

    def get_next(self) -> Tensors | None:
        """Returns the next clip's arrays by name, None after the last."""
        return next(self._rest, None)
