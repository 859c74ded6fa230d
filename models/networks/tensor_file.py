"""Reads files that torch wrote, without running code from them."""

from __future__ import annotations

import errno
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import WeightsError
from models.networks.file_kinds import ARCHIVE, kind_of

# Errors of torch's restricted unpickler for a file of another kind. Our message leaves out their text, which advises to
# load such a file without the restriction.
_DAMAGE = (RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)
_ZIP = b"PK\x03\x04"
_HEAD = 64


def read_tensor_file(path: Path, kind: str, allowed: Sequence[type] = ()) -> Any:
    """Reads what `torch.save` wrote, onto the CPU.

    Raises WeightsError where the file cannot be read or is not `kind`; it says what the file is, where that shows.

    kind: the expected content in words, such as `a checkpoint of this project`.
    allowed: classes of plain values that the file may hold beside tensors.
    """
    try:
        with torch.serialization.safe_globals([*allowed]), warnings.catch_warnings():
            # Of pickles that torch did not write, of which our message says enough.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (*_DAMAGE, OSError) as error:
        # Of an archive without its end torch reads before the beginning, which the system calls invalid.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
        raise WeightsError(f"{path} is not {kind}: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    """Says in words why torch refused a file."""
    if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"it asks to call {asked[1]}, and that was not done, because weights need no code; get the file from where "
            "its makers publish it, or save its tensors alone"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD)
    is_cut = head.startswith(_ZIP) and not zipfile.is_zipfile(path)
    if head and (is_cut or isinstance(error, EOFError) or "EOF" in str(error)):
        return "it is cut short or damaged; get it again"
    kind = ARCHIVE if zipfile.is_zipfile(path) else kind_of(head)
    return f"it is {kind}; give a file that torch wrote"


def require_finite(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Raises WeightsError, naming the tensor, where one holds NaN or infinity."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            wrong = "NaN" if tensor.isnan().any() else "infinity"
            raise WeightsError(f"{path}: the tensor {name!r} holds {wrong}: take one of a run that did not diverge")
