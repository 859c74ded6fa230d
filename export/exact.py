"""A network's stages in float64, against which the rounding of float32 shows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.engines import FunctionStage, Tensors
from models.engines.engine import Arrays
from models.networks.stages import NetworkStage, SceneGraphNetwork


def exact_stages(network: SceneGraphNetwork) -> Sequence[FunctionStage]:
    """Returns the stages of a copy of the network whose weights, inputs and arithmetic are in float64."""
    wide = cast(SceneGraphNetwork, copy.deepcopy(cast(nn.Module, network)).double())
    return [FunctionStage(stage.inputs, stage.span, partial(_run, stage)) for stage in wide.stages()]


def _run(stage: NetworkStage, arrays: Arrays) -> Tensors:
    given = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in arrays.items()}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64():
            return stage.run(given)
    finally:
        torch.set_default_dtype(before)


class _Float64(TorchFunctionMode):
    """Takes float64 wherever the code of a network names float32."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a function of torch."""
        if function is Tensor.float:
            function = Tensor.double
        named = {name: _widened(value) for name, value in (kwargs or {}).items()}
        return function(*map(_widened, args), **named)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
