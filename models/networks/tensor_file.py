"""Reads files that torch wrote, without running code from them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import WeightsError

# Errors of torch's restricted unpickler for a file of another kind. Our message leaves out their text, which advises to
# load such a file without the restriction.
_DAMAGE = (RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)


def read_tensor_file(path: Path, kind: str) -> Any:
    """Reads what `torch.save` wrote, onto the CPU.

    Raises WeightsError where the file cannot be read or is not `kind`.

    kind: the expected content in words, such as `a checkpoint of this project`.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise WeightsError(f"{path} is not {kind}") from error


def require_finite(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Raises WeightsError, naming the tensor, where one holds NaN or infinity."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            wrong = "NaN" if tensor.isnan().any() else "infinity"
            raise WeightsError(f"{path}: the tensor {name!r} holds {wrong}: take one of a run that did not diverge")
