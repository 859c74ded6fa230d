"""Writes a bundle from a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from export.detectors.sources import published_weights
from export.errors import ExportError
from export.onnx import export_network
from export.placing import written_whole
from models.graph.bundle import MANIFEST_FILE, Bundle, FrameSize, Manifest, Name, Thresholds, Training, sha256_of
from models.graph.validation import first_mistake, in_words
from models.networks.checkpoint import Incomplete, family_of, load_checkpoint, scoring_of
from models.networks.scored import Scored
from models.networks.two_stage import TwoStage


def export_bundle(
    checkpoint: Path,
    folder: Path,
    *,
    name: str,
    version: str,
    description: str,
    figures: dict[str, dict[str, dict[str, float]]] | None = None,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> Bundle:
    """Writes a bundle and loads it back, verified. It replaces one that is there, when it is whole.

    figures: the output of `vsg evaluate --json`, by the name of the data it was measured on.

    Raises WeightsError where the checkpoint cannot be read; ExportError where its network finds no boxes itself, where
    the folder holds other files, or naming the field that a manifest cannot hold.
    """
    network, provenance = load_checkpoint(checkpoint)
    if isinstance(network, Incomplete):
        raise ExportError(
            f"{checkpoint} holds a {network.config.network} alone; train a relation network on a detector, or join a "
            "detector and a layout network by `vsg join`"
        )
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        # Before the minute that exporting takes.
        raise ExportError(f"the manifest cannot hold name {name!r}: {first_mistake(error).reason}") from error
    host = network.host if isinstance(network, Scored) else network
    if isinstance(host, TwoStage) and host.config.task != "sgdet":
        raise ExportError(
            f"{checkpoint} was trained for {host.config.task}, on given boxes, but a bundle finds its own; "
            "train with task: sgdet"
        )
    settings = provenance.get("config", {})
    with written_whole(folder) as own:
        stages = export_network(network, own)
        try:
            manifest = Manifest(
                name=name,
                version=version,
                family=family_of(network),
                description=description,
                vocabulary=network.vocabulary,
                frame_size=FrameSize(height=network.frame_size[0], width=network.frame_size[1]),
                clip_length=network.clip_length,
                stages=stages,
                thresholds=thresholds,
                scoring=scoring_of(provenance),
                relation_scoring=isinstance(network, Scored),
                training=Training(
                    data=str(provenance.get("data", "unknown")),
                    command=str(provenance.get("command", "")),
                    seed=settings.get("seed"),
                    figures=figures or {},
                    network=asdict(network.config),
                ),
                weights=published_weights(provenance),
                sha256={stage.file: sha256_of(own / stage.file) for stage in stages},
            )
        except ValidationError as error:
            raise ExportError(f"the manifest cannot be written: {in_words(error, 'the manifest')}") from error
        write_bundle(own, manifest)
    return Bundle.load(folder)


def write_bundle(folder: Path, manifest: Manifest) -> Bundle:
    """Writes the manifest beside its files and loads the bundle back, verified."""
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
    return Bundle.load(folder)
