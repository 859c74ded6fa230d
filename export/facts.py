"""Compares a manifest with its files, and with the checkpoint, so that an edited one is noticed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from export.errors import DisagreementError
from export.onnx import describe_stage
from models.graph.bundle import FRAMES, PICTURE_SIZE, TIMESTAMPS, Bundle, FrameSize, Stage, Tensor
from models.networks.checkpoint import Complete, NetworkConfig, family_of
from models.networks.scored import Scored
from models.networks.stages import SceneGraphNetwork


def check_manifest(bundle: Bundle) -> None:
    """Raises DisagreementError, naming stage and tensor, where the manifest does not describe the ONNX files.

    Also where a stage reads a tensor that no stage before makes, or `frame_size` is not that of the frames.
    """
    known = {FRAMES, PICTURE_SIZE, TIMESTAMPS}
    size = bundle.manifest.frame_size
    for stage in bundle.manifest.stages:
        file = describe_stage(stage.name, stage.span, bundle.path_of(stage))
        for kind, said, real in (
            ("input", _shapes(stage.inputs), _shapes(file.inputs)),
            ("output", _shapes(stage.outputs), _shapes(file.outputs)),
        ):
            for name in sorted(said.keys() | real.keys()):
                if said.get(name) != real.get(name):
                    raise DisagreementError(
                        f"stage {stage.name!r}: the manifest describes {kind} {name!r} as {said.get(name)}, but "
                        f"{stage.file} has {real.get(name)}; export again"
                    )
        if missing := sorted({tensor.name for tensor in stage.inputs} - known):
            raise DisagreementError(f"stage {stage.name!r} reads {missing[0]!r}, which no stage before it makes")
        known |= {tensor.name for tensor in stage.outputs}
        for tensor in stage.inputs:
            if tensor.name == FRAMES and tensor.shape[2:4] != (size.height, size.width):
                raise DisagreementError(
                    f"frame_size is {size.width}x{size.height}, but stage {stage.name!r} takes frames of "
                    f"{tensor.shape[3]}x{tensor.shape[2]}; export again"
                )


def check_facts(bundle: Bundle, network: SceneGraphNetwork) -> None:
    """Raises DisagreementError, naming the field, where a manifest says other things of a network than it is."""
    manifest = bundle.manifest
    height, width = network.frame_size
    wanted: dict[str, Any] = {
        "family": family_of(network) if isinstance(network, Complete) else manifest.family,
        "frame_size": FrameSize(height=height, width=width),
        "clip_length": network.clip_length,
        "vocabulary": network.vocabulary,
        "relation_scoring": isinstance(network, Scored),
    }
    for field, value in wanted.items():
        if getattr(manifest, field) != value:
            raise DisagreementError(f"the manifest has another {field} than the checkpoint; export again")
    spans: list[tuple[str, str]] = [(stage.name, stage.span) for stage in network.stages()]
    if (said := _spans(manifest.stages)) != spans:
        raise DisagreementError(f"the manifest has the stages {said}, the checkpoint {spans}; export again")
    if not isinstance(network, Complete) or manifest.training.network is None:
        return
    if _config(manifest.training.network) != _config(asdict(network.config)):
        raise DisagreementError("the manifest has another training.network than the checkpoint; export again")


def _config(plain: dict[str, Any]) -> object:
    adapter: TypeAdapter[Any] = TypeAdapter(NetworkConfig)
    try:
        return adapter.validate_python(plain)
    except ValidationError:
        return None


def _spans(stages: list[Stage]) -> list[tuple[str, str]]:
    return [(stage.name, stage.span) for stage in stages]


def _shapes(tensors: list[Tensor]) -> dict[str, str]:
    """Describes each tensor by name; axes of batch and time are the same everywhere."""
    return {tensor.name: f"{tensor.dtype} {[*tensor.shape[2:]]}" for tensor in tensors}
