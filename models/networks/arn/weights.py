"""Loads weights of DETR, trained on COCO, into ARN, and reports every key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from models.errors import WeightsError
from models.networks.arn.network import Arn
from models.networks.tensor_file import read_tensor_file, require_finite

DETR_R50_URL = "https://dl.fbaipublicfiles.com/detr/detr-r50-e632da11.pth"
"""Facebook's published DETR with ResNet-50, 41 M parameters."""


@dataclass(frozen=True)
class WeightsReport:
    """Report of every key that was loaded or not.

    loaded: ARN's names to DETR's.
    unused: DETR's names that ARN has no place for.
    fresh: ARN's names that keep their initial values.
    """

    loaded: dict[str, str]
    unused: list[str]
    fresh: list[str]

    def __str__(self) -> str:
        lines = [
            f"{len(self.loaded)} weights loaded, {len(self.unused)} of DETR's unused, {len(self.fresh)} of ARN's new"
        ]
        lines += [f"  loaded  {own} <- {theirs}" for own, theirs in self.loaded.items()]
        lines += [f"  unused  {name}" for name in self.unused]
        lines += [f"  new     {name}" for name in self.fresh]
        return "\n".join(lines)


def load_detr_weights(model: Arn, source: str) -> WeightsReport:
    """Loads DETR's published weights from a file or an http(s) URL, which is downloaded once, into torch's cache.

    Backbone, projection and encoder go to their counterparts. DETR's first decoder layers go to the entity decoder and
    to the plain layers of each predicate branch, its norm behind the entity decoder, its query embeddings to e^s and
    e^o, and its box head to both box heads. Raises WeightsError where the source cannot be read, lacks a key that ARN
    needs, has another shape, or holds NaN or infinity.
    """
    state = _read(source)
    own = model.state_dict()
    loaded: dict[str, str] = {}
    for name in own:
        theirs = detr_name(name)
        if theirs is None:
            continue
        if theirs not in state:
            raise WeightsError(
                f"{source}: the key {theirs!r}, which {name!r} needs, is missing; is this a DETR ResNet-50 checkpoint?"
            )
        if state[theirs].shape != own[name].shape:
            raise WeightsError(
                f"{source}: {theirs!r} has shape {tuple(state[theirs].shape)}, but {name!r} needs "
                f"{tuple(own[name].shape)}; DETR weights fit the preset arn-r50"
            )
        loaded[name] = theirs
    require_finite({theirs: state[theirs] for theirs in loaded.values()}, source)
    model.load_state_dict({name: state[theirs] for name, theirs in loaded.items()}, strict=False)
    used = set(loaded.values())
    return WeightsReport(loaded, sorted(state.keys() - used), sorted(own.keys() - loaded.keys()))


def detr_name(name: str) -> str | None:
    """Returns DETR's name of the weight that ARN's weight `name` starts from, or None where DETR has none."""
    for pattern, replacement in _NAMES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name).replace("feed_forward.", "")
    return None


_NAMES = (
    (r"^backbone\.body\.", "backbone.0.body."),
    (r"^input_projection\.", "input_proj."),
    (r"^encoder\.", "transformer.encoder.layers."),
    (r"^entity_decoder\.layers\.", "transformer.decoder.layers."),
    (r"^entity_decoder\.norm\.", "transformer.decoder.norm."),
    (r"^predicate_decoder\.branches\.[^.]+\.layers\.", "transformer.decoder.layers."),
    (r"^entity_decoder\.(?:subject|object)_position$", "query_embed.weight"),
    (r"^entity_decoder\.(?:subject|object)_box\.", "bbox_embed."),
)


def _download(url: str) -> Path:
    """Downloads a file once into torch's cache; returns its path."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise WeightsError(f"{url} cannot be downloaded ({error}); give the path of a file instead") from error
    return path


def _read(source: str) -> Mapping[str, Tensor]:
    path = _download(source) if source.startswith(("https://", "http://")) else Path(source)
    content = read_tensor_file(path, "a file of DETR weights")
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{source} does not hold DETR weights: it must have named tensors, or an entry `model` of them"
        )
    return state
