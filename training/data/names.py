"""Makes tables of name embeddings with a sentence encoder on disk, such as all-MiniLM-L6-v2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.relations.layout import NAME_WIDTH
from models.networks.relations.names import SHIPPED_TABLE, plain_name
from training.errors import DataError

_AT_ONCE = 64


def extend_name_table(names: Sequence[str], encoder: Path, out: Path) -> int:
    """Writes the shipped table with further names, and returns the number of those that are new.

    encoder: folder of a sentence encoder as transformers saves it: the mean over its last hidden states is the
        embedding.

    Raises DataError where transformers is not installed, the encoder cannot be read or has another width.
    """
    with np.load(SHIPPED_TABLE, allow_pickle=False) as table:
        known, embeddings = table["names"].tolist(), table["embeddings"]
    parts = dict.fromkeys(plain_name(part) for name in names for part in name.split("/"))
    new = [part for part in parts if part and part not in set(known)]
    if new:
        embeddings = np.concatenate((embeddings, _encode(new, encoder).numpy().astype(embeddings.dtype)))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        np.savez_compressed(file, names=np.array([*known, *new]), embeddings=embeddings)
    return len(new)


@torch.inference_mode()
def _encode(names: Sequence[str], encoder: Path) -> Tensor:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise DataError("embedding names needs transformers: run `pip install transformers`") from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
        model: Any = AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise DataError(f"{encoder} cannot be read as a sentence encoder: {str(error).splitlines()[0]}") from error
    parts = []
    for first in range(0, len(names), _AT_ONCE):
        tokens = tokenizer(list(names[first : first + _AT_ONCE]), padding=True, return_tensors="pt")
        hidden, real = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None].float()
        parts.append(F.normalize((hidden * real).sum(1) / real.sum(1), dim=-1))
    found = torch.cat(parts)
    if found.shape[1] != NAME_WIDTH:
        raise DataError(f"{encoder} gives embeddings of width {found.shape[1]}: take one of {NAME_WIDTH}")
    return found
