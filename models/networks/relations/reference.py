"""Published weights into the relation networks that they were trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from models.errors import WeightsError

if TYPE_CHECKING:
    from models.networks.relations.sttran import Sttran

_WITH_BACKGROUND = ("obj_embed.weight", "obj_embed2.weight")
"""Published tables of words, whose first row is the background class that this vocabulary does not have."""


def load_sttran_checkpoint(network: Sttran, state: Mapping[str, Tensor]) -> list[str]:
    """Loads the state of a whole published STTran relation model, the `state_dict` of its checkpoint file.

    Returns the published names left unused, sorted: those of the object classifier, which is no part of it here.
    Raises WeightsError naming the first key that is missing or misshaped, or a layer that the network does not have.
    """
    if network.config.clip_features:
        raise WeightsError("the published STTran reads no CLIP features; load it into a network without clip_features")
    unused = load_published(network, state)
    for name in unused:
        if name.startswith("glocal_transformer."):
            raise WeightsError(f"the published key {name!r} has no place here; do the numbers of layers agree?")
    return unused


def load_published(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Loads a part of a network of the STTran family from published weights; returns the names left unused, sorted.

    Raises WeightsError naming the first key that is missing or misshaped; the module is then as it was.
    """
    loaded: dict[str, Tensor] = {}
    used = set()
    own = module.state_dict()
    for name, value in own.items():
        if name == "predicate_counts":  # of the training data, not a weight
            continue
        published = published_name(name)
        if published not in state:
            raise WeightsError(f"the published key {published!r}, which {name!r} needs, is missing")
        skipped = 1 if published in _WITH_BACKGROUND else 0
        wanted = (value.shape[0] + skipped, *value.shape[1:]) if skipped else tuple(value.shape)
        if tuple(state[published].shape) != wanted:
            raise WeightsError(
                f"the published key {published!r} has shape {tuple(state[published].shape)}, but {name!r} needs "
                f"{wanted}; give the network the widths that these weights were trained with"
            )
        loaded[name] = state[published][skipped:] if skipped else state[published]
        used.add(published)
    module.load_state_dict(own | loaded)
    return sorted(state.keys() - used)


def published_name(name: str) -> str:
    """The name in STTran's checkpoints of a weight of `Sttran`, or of a part of it."""
    name = name.replace("global_attention.position_embedding.", "position_embedding.")
    return name.removeprefix("representation.").removeprefix("union.")
