"""OED from its published files: `{model, optimizer, lr_scheduler, epoch, args}` with an `argparse.Namespace`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from models.errors import ConfigurationError, WeightsError
from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.oed import Oed, OedConfig
from models.networks.published.transfer import fill_network, read_weights, require_no_more, require_rows

TITLE = "OED"
ORIGIN = "https://github.com/guanw-pku/OED"
LICENCE = "Apache-2.0 (guanw-pku/OED); trained on Action Genome"
KEPT_PAIRS = (80, 50, 30)
"""Pairs of each layer of the temporal module, which the official code has as constants."""

_MARK = "transformer.interaction_decoder.norm.weight"
_PREDICATE_HEADS = {"attention": "attn", "spatial": "spatial", "contacting": "contacting"}
_NAMES = (
    ("backbone.body.", "backbone.0.body."),
    ("input_projection.", "input_proj."),
    ("encoder.", "transformer.encoder.layers."),
    ("instance_position", "query_embed.weight"),
    ("instance_decoder.", "transformer.decoder."),
    ("interaction_decoder.", "transformer.interaction_decoder."),
    *((f"refinement.layers.{number}.", f"transformer.temporal_query_layer{number + 1}.") for number in range(3)),
    *(
        (f"{own}.{head}.", f"{theirs}{published}.")
        for own, theirs in (("heads", ""), ("refined_heads", "temporal_"))
        for head, published in (
            ("objects", "obj_class_embed"),
            ("subject_box", "sub_bbox_embed"),
            ("object_box", "obj_bbox_embed"),
            *((f"predicates.{group}", f"{short}_class_embed") for group, short in _PREDICATE_HEADS.items()),
        )
    ),
)
"""Beginnings of our names and of the published ones."""
OPTION_OF_FIELD = {
    "backbone": "backbone",
    "width": "hidden_dim",
    "heads": "nheads",
    "feed_forward": "dim_feedforward",
    "encoder_layers": "enc_layers",
    "instance_layers": "dec_layers_hopd",
    "interaction_layers": "dec_layers_interaction",
    "queries": "num_queries",
    "reference_frames": "num_ref_frames",
    "reference_distance": "interval2",
}
"""Fields of `OedConfig` to the options of the official code that a file names."""
_OPTIONS: dict[str, Any] = {
    "dsgg_task": "sgdet",
    "position_embedding": "sine",
    "dilation": False,
    "pre_norm": False,
    "masks": False,
    "dec_layers_temporal": 1,
    "seq_sort": False,
    "one_temp": False,
    "one_dec": False,
    "method2": False,
    "fuse_semantic_pos": False,
    "use_matched_query": False,
}
"""Options of the official code that change what it computes, with the values of the published SGDet networks."""


def import_oed(path: Path, frame_size: tuple[int, int] = (600, 800), clip_length: int = 32) -> Oed:
    """Builds OED, spatial or temporal, from a published file, in evaluation mode.

    Raises WeightsError where the file cannot be read, asks to run code, is of another network or a variant that
    computes something else, or has another vocabulary than Action Genome's.

    frame_size: height and width that frames are stretched to.
    """
    content, state = read_weights(path, "model", _MARK, TITLE, [argparse.Namespace])
    given = content.get("args")
    options = vars(given) if isinstance(given, argparse.Namespace) else {}
    for option, value in _OPTIONS.items():
        if options.get(option, value) != value:
            raise WeightsError(
                f"{path} was trained with {option} {options[option]!r}: give weights of OED for SGDet, which were "
                f"trained with {value!r}"
            )
    _require_vocabulary(state, ACTION_GENOME, path)
    try:
        network = Oed(_config(options, state, frame_size, clip_length))
    except (ConfigurationError, ValidationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else error
        raise WeightsError(f"{path} is of an OED that cannot be built: {reason}") from error
    require_no_more(fill_network(network, state, published_name, path, TITLE), path, TITLE)
    return network.eval()


def published_name(name: str) -> str:
    """Returns the name that OED's files give to a weight of `Oed`."""
    own, theirs = next((own, theirs) for own, theirs in _NAMES if name.startswith(own))
    return theirs + name.removeprefix(own).replace("feed_forward.", "")


def _config(
    options: Mapping[str, Any], state: Mapping[str, Tensor], frame_size: tuple[int, int], clip_length: int
) -> OedConfig:
    known = {field: options[option] for field, option in OPTION_OF_FIELD.items() if option in options}
    is_temporal = any(name.startswith("transformer.temporal_query_layer") for name in state)
    return OedConfig(
        frame_height=frame_size[0],
        frame_width=frame_size[1],
        clip_length=clip_length,
        kept_pairs=KEPT_PAIRS if is_temporal else (),
        **known,
    )


def _require_vocabulary(state: Mapping[str, Tensor], vocabulary: Vocabulary, path: Path) -> None:
    """Raises WeightsError where a head has other classes than the vocabulary."""
    wanted = {"obj_class_embed.weight": ("objects", len(vocabulary.objects), 2)}
    for group in vocabulary.groups:
        name = f"{_PREDICATE_HEADS[group.name]}_class_embed.weight"
        wanted[name] = (f"{group.name} predicates", len(group.predicates), int(group.exclusive))
    require_rows(state, wanted, path)
