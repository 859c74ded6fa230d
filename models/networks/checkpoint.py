"""Checkpoints: a network's configuration, vocabulary and weights in one file that loads without running code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from models.errors import ConfigurationError, WeightsError
from models.graph.bundle import Scoring
from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.arn import Arn, ArnConfig
from models.networks.detectors import Detector, DetectorConfig
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig
from models.networks.detectors.ssdlite import SsdLite, SsdLiteConfig
from models.networks.detectors.torchvision_detectors import TorchvisionConfig, TorchvisionDetector
from models.networks.oed import Oed, OedConfig
from models.networks.pose import PoseConfig, PoseNetwork
from models.networks.relations.layout import Layout, LayoutConfig
from models.networks.scored import Scored, ScoredConfig
from models.networks.tensor_file import read_tensor_file, require_finite
from models.networks.two_stage import TwoStage, TwoStageConfig

Incomplete = Detector | Layout
"""Networks with a vocabulary that make no scene graph by themselves."""
Complete = Arn | Oed | TwoStage | Scored
"""Networks that make scene graphs of frames."""
Network = Complete | Incomplete
NetworkConfig = Annotated[
    ArnConfig | OedConfig | DetectorConfig | LayoutConfig | TwoStageConfig | ScoredConfig,
    Field(discriminator="network"),
]

Part = EfficientDet | SsdLite | TorchvisionDetector | PoseNetwork
"""Networks that make no scene graph by themselves and have no vocabulary: `vsg join` makes bundles with them."""
PartConfig = Annotated[
    EfficientDetConfig | SsdLiteConfig | TorchvisionConfig | PoseConfig, Field(discriminator="network")
]
_PARTS = ("efficientdet", "ssdlite", "torchvision", "pose")
_Model = TypeVar("_Model", bound=nn.Module)


def make_network(config: NetworkConfig, vocabulary: Vocabulary = ACTION_GENOME) -> Network:
    """Builds the network that a configuration describes, with fresh weights.

    Raises ConfigurationError where the configuration does not fit the vocabulary.
    """
    match config:
        case ArnConfig():
            return Arn(config, vocabulary)
        case OedConfig():
            return Oed(config, vocabulary)
        case DetectorConfig():
            return Detector(config, vocabulary)
        case LayoutConfig():
            return Layout(config, vocabulary)
        case TwoStageConfig():
            return TwoStage(config, vocabulary)
        case ScoredConfig():
            return Scored(config, vocabulary)


def family_of(network: Complete) -> Literal["one_stage", "two_stage"]:
    """Returns the family that a manifest names."""
    host = network.host if isinstance(network, Scored) else network
    return "one_stage" if isinstance(host, Arn | Oed) else "two_stage"


def make_part(config: PartConfig) -> Part:
    """Builds the part that a configuration describes, with fresh weights."""
    match config:
        case EfficientDetConfig():
            return EfficientDet(config)
        case SsdLiteConfig():
            return SsdLite(config)
        case TorchvisionConfig():
            return TorchvisionDetector(config)
        case PoseConfig():
            return PoseNetwork(config)


def save_checkpoint(path: Path, model: Network | Part, training: dict[str, Any]) -> None:
    """Writes a network's configuration, vocabulary and weights to a file.

    training: origin of the weights (data, seed, command, figures), as plain values only; see also `scoring_of`.

    Raises WeightsError where the file cannot be written; the one that was there before stays.
    """
    vocabulary = None if isinstance(model, Part) else model.vocabulary
    content = {
        "config": asdict(model.config),
        "vocabulary": vocabulary and TypeAdapter(Vocabulary).dump_python(vocabulary, mode="json"),
        "state": model.state_dict(),
        "training": training,
    }
    _write(path, content)


def store_scoring(path: Path, scoring: Scoring) -> None:
    """Writes into a checkpoint how the scores of its network's triplets join.

    Raises WeightsError where the file is no checkpoint of this project, or cannot be written.
    """
    content = _read(path)
    content["training"] = {**content["training"], "scoring": scoring.model_dump()}
    _write(path, content)


def scoring_of(training: dict[str, Any]) -> Scoring:
    """Returns the scoring that a checkpoint holds beside the origin of its weights; the plain product without one."""
    return Scoring(**training.get("scoring", {}))


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes a file whole, or leaves the one that was there. Raises WeightsError where it cannot be written."""
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
    checkpoint of this project, comes from another version, holds a part, or holds a weight that is no number.
    """
    content = _read(path)
    if (name := content["config"]["network"]) in _PARTS:
        raise WeightsError(f"{path} holds a part ({name}), which makes no scene graph by itself: use `vsg join`")

    def make() -> Network:
        stored = content.get("vocabulary")
        vocabulary = ACTION_GENOME if stored is None else TypeAdapter(Vocabulary).validate_python(stored)
        adapter: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
        return make_network(adapter.validate_python(content["config"]), vocabulary)

    return _fill(make, content, path)


def load_part(path: Path) -> tuple[Part, dict[str, Any]]:
    """Returns a part in evaluation mode, and the origin of its weights as `save_checkpoint` takes it.

    Raises WeightsError, naming the file, where it is not a checkpoint of this project, comes from another version, or
    holds no part.
    """
    content = _read(path)
    if (name := content["config"]["network"]) not in _PARTS:
        raise WeightsError(f"{path} holds a whole network ({name}), not a part: name a file of `vsg import`")

    def make() -> Part:
        adapter: TypeAdapter[PartConfig] = TypeAdapter(PartConfig)
        return make_part(adapter.validate_python(content["config"]))

    return _fill(make, content, path)


def _read(path: Path) -> dict[str, Any]:
    content: Any = read_tensor_file(path, "a checkpoint of this project")
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict) or "network" not in config:
        raise WeightsError(f"{path} is not a checkpoint of this project: it does not say which network it holds")
    read: dict[str, Any] = content
    return read


def _fill(make: Callable[[], _Model], content: dict[str, Any], path: Path) -> tuple[_Model, dict[str, Any]]:
    """Builds a network and gives it the weights of a checkpoint."""
    try:
        model = make()
        state, training = content["state"], content["training"]
        _require_fitting(model, state)
    except (KeyError, ValidationError, ConfigurationError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        reason = in_words(error) if isinstance(error, ValidationError) else reason
        raise WeightsError(f"{path} was written by another version of this project, or altered: {reason}") from error
    require_finite(state, path)
    model.load_state_dict(state)
    return model.eval(), training


def _require_fitting(model: nn.Module, state: object) -> None:
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

    From a host with a relation scorer, a network that is no such takes the host's weights. Returns the names of the
    weights that keep their own values, sorted. Raises WeightsError where none fits.

    only: beginnings of names. If given, other weights are not copied.
    """
    source, _ = load_checkpoint(path)
    if isinstance(source, Scored) and not isinstance(model, Scored):
        source = source.host
    known, own = source.state_dict(), model.state_dict()
    fitting = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
    fitting = {name: value for name, value in fitting.items() if not only or name.startswith(only)}
    if not fitting:
        raise WeightsError(
            f"{path}: none of its weights fits this network; check `initialise_from` in the configuration"
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())
