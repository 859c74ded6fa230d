"""Loads published weights into parts of the STTran family."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from models.errors import WeightsError

_WITH_BACKGROUND = ("obj_embed.weight", "obj_embed2.weight")
"""Published word embeddings. Their first row is the background class, which vocabularies do not have."""


def load_published(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Loads published weights into a network of the STTran family or a part of it. Returns the unused names, sorted.

    Raises WeightsError, naming the first key that is missing or misshaped. The module then stays as it is.
    """
    loaded: dict[str, Tensor] = {}
    used = set()
    own = module.state_dict()
    for name, value in own.items():
        if name == "predicate_counts":  # counts of the training data, not a weight
            continue
        published = published_name(name)
        if published not in state:
            raise WeightsError(
                f"the published key {published!r}, which {name!r} needs, is missing: give weights of STTran, with as "
                "many layers as the network"
            )
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
    """Returns the name that STTran's checkpoints give to a weight of `Sttran` or of a part of it."""
    name = name.replace("global_attention.position_embedding.", "position_embedding.")
    return name.removeprefix("representation.").removeprefix("union.")
