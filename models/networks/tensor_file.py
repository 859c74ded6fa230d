"""Reads files that torch wrote, without running code from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from models.errors import WeightsError

# What torch's restricted unpickler raises on a file that is something else altogether. Its own words are left out of
# our message: they advise to load such a file without the restriction.
_DAMAGE = (RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)


def read_tensor_file(path: Path, kind: str) -> Any:
    """What `torch.save` wrote, on the CPU; raises WeightsError where the file cannot be read or is not `kind`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise WeightsError(f"{path} is not {kind}") from error
