"""Moves the weights of a published file into a network, and tells what a file of another network holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.errors import WeightsError
from models.networks.tensor_file import read_tensor_file, require_finite

_KNOWN: tuple[tuple[str, str], ...] = (
    ("transformer.interaction_decoder.norm.weight", "OED's weights (`vsg import oed`)"),
    ("bbox_embed.layers.0.weight", "DETR's weights (`detr_weights` of `vsg train`)"),
    ("a_rel_compress.weight", "STTran's weights (`vsg import sttran`)"),
    ("RCNN_base.0.weight", "the weights of STTran's detector (`--detector` of `vsg import sttran`)"),
    ("rpn.head.cls_logits.weight", "weights of torchvision's Faster R-CNN (`vsg import torchvision`)"),
    ("roi_heads.box_predictor.cls_score.weight", "weights of torchvision's Faster R-CNN (`vsg import torchvision`)"),
    ("head.classification_head.cls_logits.weight", "weights of torchvision's RetinaNet (`vsg import torchvision`)"),
    ("layer4.0.conv1.weight", "a ResNet's weights"),
)
"""Names of weights by which a network is known, with what holds them."""


def read_weights(
    path: Path, entry: str, mark: str, title: str, allowed: Sequence[type] = ()
) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Reads a published file {entry: weights by name, …}. Returns the whole content and the weights.

    Raises WeightsError where the file cannot be read, asks to run code, or holds something else.

    mark: name of a weight that only files of this network have.
    title: what the weights are of, in words.
    allowed: classes of plain values that the file may hold.
    """
    content = read_tensor_file(path, f"a file of {title}'s weights", allowed)
    state: Any = content.get(entry) if isinstance(content, Mapping) else None
    is_table = isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values())
    if not is_table or mark not in state:
        raise WeightsError(
            f"{path} is not a file of {title}'s weights: it holds {what_is_held(content)}; give a file that {title}'s "
            f"code wrote, a table with the entry {entry!r}"
        )
    return content, state


def fill_network(
    network: nn.Module, state: Mapping[str, Tensor], name_of: Callable[[str], str], source: Path, title: str
) -> list[str]:
    """Copies published weights into all weights of a network. Returns the published names that are left, sorted.

    Raises WeightsError where one is missing or has another shape, or holds NaN or infinity. The network then stays as
    it is.

    name_of: the network's name of a weight to the published one.
    source: the file, for errors.
    title: what the weights are of, in words.
    """
    own = network.state_dict()
    names = {name: name_of(name) for name in own}
    if missing := [theirs for theirs in names.values() if theirs not in state]:
        raise WeightsError(
            f"{source} lacks {missing[0]!r}{_and_others(missing)}, which {title} needs: give a whole file that "
            f"{title}'s code wrote"
        )
    for name, theirs in names.items():
        if state[theirs].shape != own[name].shape:
            raise WeightsError(
                f"{source}: {theirs!r} has shape {tuple(state[theirs].shape)}, but {title} needs "
                f"{tuple(own[name].shape)}; give a file that {title}'s code wrote"
            )
    used = {theirs: state[theirs] for theirs in names.values()}
    require_finite(used, source)
    network.load_state_dict({name: state[theirs] for name, theirs in names.items()})
    return sorted(state.keys() - used.keys())


def require_no_more(left: Iterable[str], source: Path, title: str) -> None:
    """Raises WeightsError where weights are left that the network has no place for, since it would compute something
    else without them.
    """
    if unknown := [*left]:
        raise WeightsError(
            f"{source} holds {unknown[0]!r}{_and_others(unknown)}, which {title} has no place for: it is of a variant "
            "that cannot be imported; give the weights of the published one"
        )


def require_rows(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[str, int, int]], source: Path) -> None:
    """Raises WeightsError where a weight has rows for another vocabulary than Action Genome's.

    wanted: name to what its rows are, their number in Action Genome, and how many more rows it has.
    """
    for name, (kind, count, more) in wanted.items():
        if name in state and len(state[name]) != count + more:
            raise WeightsError(
                f"{source} knows {len(state[name]) - more} {kind}, but Action Genome has {count}: it has another "
                "vocabulary; give weights that were trained on Action Genome"
            )


def what_is_held(content: Any) -> str:
    """Says in words what a file of torch holds."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__} instead of a table"
    if {"config", "state"} <= content.keys():
        return "a checkpoint of this project"
    for mark, title in _KNOWN:
        if any(mark in table for table in (content, *content.values()) if isinstance(table, Mapping)):
            return title
    inner = next((table for table in content.values() if isinstance(table, Mapping) and table), content)
    return f"{len(inner)} entries such as {next(iter(inner))!r}" if inner else "an empty table"


def _and_others(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
