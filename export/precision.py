"""Writes a bundle in another precision than fp32 and measures what that costs."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from export.bundle import write_bundle
from export.calibration import tensors_of_stages
from export.errors import ExportError
from export.fp16 import to_half
from export.int8 import quantise
from models.engines import EngineName
from models.errors import ModelError
from models.graph.bundle import Bundle, Precision, PrecisionCost, sha256_of
from training.errors import TrainingError
from training.prediction import evaluate_model

_ENGINES: dict[Precision, EngineName] = {"fp16": "onnxruntime-cpu", "bf16": "openvino", "int8": "onnxruntime-cpu"}
"""The engine that measures a precision by default."""


def change_precision(
    original: Bundle,
    folder: Path,
    precision: Precision,
    data: Path,
    *,
    engine: EngineName | None,
    most_recall_loss: float,
) -> Bundle:
    """Writes an fp32 bundle in another precision and measures both on the test split of a data folder.

    engine: runs both bundles; by default one for CPUs.
    most_recall_loss: largest fall of SGDet R@20 without constraint that is allowed.

    int8 is calibrated on the folder's frames. Raises ExportError, and writes nothing, where the recall falls by more or
    cannot be measured.
    """
    engine = engine or _ENGINES[precision]
    with TemporaryDirectory() as temporary:
        converted = convert(original, Path(temporary) / "bundle", precision, data)
        # The converted bundle comes first: an engine may refuse it.
        recall = measure_recall(converted, data, engine)
        before = measure_recall(original, data, engine)
        if before - recall > most_recall_loss:
            raise ExportError(
                f"{precision} costs too much: SGDet R@20 on {data} with {engine} is {recall:.4f} instead of "
                f"{before:.4f}, {before - recall:.4f} less; at most {most_recall_loss:g} is allowed (--max-recall-loss)"
            )
        cost = PrecisionCost(data=data.name, engine=engine, recall=recall, fp32_recall=before)
        write_bundle(converted.folder, converted.manifest.model_copy(update={"precision_cost": cost}))
        shutil.copytree(converted.folder, folder, dirs_exist_ok=True)
    return Bundle.load(folder)


def measure_recall(bundle: Bundle, data: Path, engine: EngineName) -> float:
    """Returns SGDet R@20 without constraint on the test split of a data folder.

    Raises ExportError with the reason where the data cannot be read or the engine does not run here.
    """
    try:
        figures = evaluate_model(data, bundle.folder, engine=engine)
    except (ModelError, TrainingError) as error:
        raise ExportError(f"{bundle.manifest.precision} cannot be measured here: {error}") from error
    return figures["no"]["R@20"]


def convert(original: Bundle, folder: Path, precision: Precision, data: Path) -> Bundle:
    """Writes the bundle in the precision, without the figures of its cost."""
    folder.mkdir()
    clips = tensors_of_stages(original, data) if precision == "int8" else {}
    for stage in original.manifest.stages:
        source, target = original.path_of(stage), folder / stage.file
        if precision == "fp16":
            to_half(source, target)
        elif clips.get(stage.name):
            quantise(source, target, clips[stage.name])
        else:
            shutil.copy(source, target)
    hashes = {stage.file: sha256_of(folder / stage.file) for stage in original.manifest.stages}
    return write_bundle(folder, original.manifest.model_copy(update={"precision": precision, "sha256": hashes}))
