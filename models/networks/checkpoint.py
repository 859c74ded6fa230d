"""Checkpoints: a network's configuration, vocabulary and weights in one file that loads without running code."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError

from models.errors import ConfigurationError, WeightsError
from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.arn import Arn, ArnConfig
from models.networks.detectors import Detector, DetectorConfig
from models.networks.relations.layout import Layout, LayoutConfig
from models.networks.scored import Scored, ScoredConfig
from models.networks.tensor_file import read_tensor_file
from models.networks.two_stage import TwoStage, TwoStageConfig

NetworkPart = Detector | Layout
"""Networks that make no scene graphs of frames by themselves."""
Network = Arn | NetworkPart | TwoStage | Scored
NetworkConfig = Annotated[
    ArnConfig | DetectorConfig | LayoutConfig | TwoStageConfig | ScoredConfig, Field(discriminator="network")
]


def make_network(config: NetworkConfig, vocabulary: Vocabulary = ACTION_GENOME) -> Network:
    """Builds the network that a configuration describes, with fresh weights.

    Raises ConfigurationError where the configuration does not fit the vocabulary.
    """
    match config:
        case ArnConfig():
            return Arn(config, vocabulary)
        case DetectorConfig():
            return Detector(config, vocabulary)
        case LayoutConfig():
            return Layout(config, vocabulary)
        case TwoStageConfig():
            return TwoStage(config, vocabulary)
        case ScoredConfig():
            return Scored(config, vocabulary)


def save_checkpoint(path: Path, model: Network, training: dict[str, Any]) -> None:
    """Writes a network's configuration, vocabulary and weights to a file.

    training: origin of the weights (data, seed, command, figures), as plain values only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "config": asdict(model.config),
        "vocabulary": TypeAdapter(Vocabulary).dump_python(model.vocabulary, mode="json"),
        "state": model.state_dict(),
        "training": training,
    }
    temporary = path.with_suffix(".partial")
    torch.save(content, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """Returns the network in evaluation mode, and the origin of its weights as `save_checkpoint` takes it.

    A checkpoint without a vocabulary has Action Genome's. Raises WeightsError, naming the file, where it is not a
    checkpoint of this project or comes from another version.
    """
    content = read_tensor_file(path, "a checkpoint of this project")
    if not isinstance(content, dict) or "network" not in content.get("config", {}):
        raise WeightsError(f"{path} is not a checkpoint of this project: it does not say which network it holds")
    try:
        adapter: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
        stored = content.get("vocabulary")
        vocabulary = ACTION_GENOME if stored is None else TypeAdapter(Vocabulary).validate_python(stored)
        model = make_network(adapter.validate_python(content["config"]), vocabulary)
        model.load_state_dict(content["state"])
        return model.eval(), content["training"]
    except (KeyError, RuntimeError, ValidationError, ConfigurationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else error
        raise WeightsError(f"{path} was written by another version of this project, or altered: {reason}") from error


def load_matching_weights(model: Network, path: Path, only: tuple[str, ...] = ()) -> list[str]:
    """Copies from a checkpoint every weight whose name and shape fit the network.

    Returns the names of the weights that keep their own values, sorted. Raises WeightsError where none fits.

    only: beginnings of names. If given, other weights are not copied.
    """
    source, _ = load_checkpoint(path)
    known, own = source.state_dict(), model.state_dict()
    fitting = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
    fitting = {name: value for name, value in fitting.items() if not only or name.startswith(only)}
    if not fitting:
        raise WeightsError(
            f"{path}: none of its weights fits this network; check `initialise_from` in the configuration"
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())
