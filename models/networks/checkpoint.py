"""Checkpoints: a network's configuration, vocabulary and weights in one file that loads without running code."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from models.errors import ConfigurationError, WeightsError
from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.arn import Arn, ArnConfig
from models.networks.detectors import Detector, DetectorConfig
from models.networks.scored import Scored, ScoredConfig
from models.networks.tensor_file import read_tensor_file, require_finite
from models.networks.two_stage import TwoStage, TwoStageConfig

Network = Arn | Detector | TwoStage | Scored
NetworkConfig = Annotated[ArnConfig | DetectorConfig | TwoStageConfig | ScoredConfig, Field(discriminator="network")]


def make_network(config: NetworkConfig, vocabulary: Vocabulary = ACTION_GENOME) -> Network:
    """Builds the network that a configuration describes, with fresh weights.

    Raises ConfigurationError where the configuration does not fit the vocabulary.
    """
    match config:
        case ArnConfig():
            return Arn(config, vocabulary)
        case DetectorConfig():
            return Detector(config, vocabulary)
        case TwoStageConfig():
            return TwoStage(config, vocabulary)
        case ScoredConfig():
            return Scored(config, vocabulary)


def save_checkpoint(path: Path, model: Network, training: dict[str, Any]) -> None:
    """Writes a network's configuration, vocabulary and weights to a file.

    training: origin of the weights (data, seed, command, figures), as plain values only.

    Raises WeightsError where the file cannot be written; the one that was there before stays.
    """
    content = {
        "config": asdict(model.config),
        "vocabulary": TypeAdapter(Vocabulary).dump_python(model.vocabulary, mode="json"),
        "state": model.state_dict(),
        "training": training,
    }
    temporary = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        # torch raises an error of its own while it handles the system's.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = cause.strerror if isinstance(cause, OSError) else str(cause).partition("\n")[0]
        raise WeightsError(f"{path} cannot be written: {reason}") from error


def load_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """Returns the network in evaluation mode, and the origin of its weights as `save_checkpoint` takes it.

    A checkpoint without a vocabulary has Action Genome's. Raises WeightsError, naming the file, where it is not a
    checkpoint of this project, comes from another version, or holds a weight that is no number.
    """
    content = read_tensor_file(path, "a checkpoint of this project")
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict) or "network" not in config:
        raise WeightsError(f"{path} is not a checkpoint of this project: it does not say which network it holds")
    try:
        adapter: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
        stored = content.get("vocabulary")
        vocabulary = ACTION_GENOME if stored is None else TypeAdapter(Vocabulary).validate_python(stored)
        model = make_network(adapter.validate_python(config), vocabulary)
        state, training = content["state"], content["training"]
        _require_fitting(model, state)
    except (KeyError, ValidationError, ConfigurationError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        reason = in_words(error) if isinstance(error, ValidationError) else reason
        raise WeightsError(f"{path} was written by another version of this project, or altered: {reason}") from error
    require_finite(state, path)
    model.load_state_dict(state)
    return model.eval(), training


def _require_fitting(model: Network, state: object) -> None:
    """Raises ConfigurationError, naming the first weight, where a state is not one of this network."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigurationError("its state is not tensors by name")
    own = model.state_dict()
    for name in sorted(own.keys() ^ state.keys()):
        raise ConfigurationError(f"the weight {name!r} is {'missing' if name in own else 'not one of this network'}")
    for name, value in own.items():
        if state[name].shape != value.shape:
            raise ConfigurationError(
                f"the weight {name!r} has shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
            )


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
