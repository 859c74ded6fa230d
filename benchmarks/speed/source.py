"""The network that is measured, as the bundle that each engine and precision takes."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from export.errors import ExportError
from models.engines import EngineName, EngineOptions, bundle_inputs, run_stages
from models.graph.bundle import (
    MANIFEST_FILE,
    Bundle,
    FrameSize,
    Manifest,
    Precision,
    Stage,
    Tensor,
    Thresholds,
    Training,
)
from models.graph.predictions import prediction_names
from models.networks.arn.config import arn_r50
from models.networks.checkpoint import (
    Complete,
    Incomplete,
    NetworkConfig,
    family_of,
    load_checkpoint,
    make_network,
    save_checkpoint,
)
from models.networks.scored import Scored
from models.networks.stages import SceneGraphNetwork

ARN_R50 = "arn-r50"
"""The paper's ARN with random weights; needs no file."""
_RANDOM_CLIPS = 2


class Source:
    """A network whose bundles are made when an engine first needs them.

    PyTorch needs no graphs, so nothing is exported where only its engines are measured.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        manifest: Manifest,
        network: Complete | None,
        *,
        checkpoint: Path | None = None,
        graphs: Bundle | None = None,
        calibration: Path | None = None,
    ) -> None:
        """Takes what is known of the network.

        folder: where bundles are written, and found again by a later run.
        network: None where a bundle does not say which network it holds.
        checkpoint: the weights, where there are any.
        graphs: the fp32 bundle, where there is one.
        calibration: data folder for int8; None for noise.
        """
        self.name = name
        self.manifest = manifest
        self.network = network
        self.checkpoint = checkpoint
        self._folder = folder
        self._calibration = calibration
        self._graphs: dict[Precision, Bundle] = {} if graphs is None else {"fp32": graphs}
        self._engines: dict[tuple[Precision, int], Bundle] = {}

    def bundle(self, engine: EngineName, precision: Precision, options: EngineOptions) -> Bundle:
        """Returns the bundle that the engine opens to compute in the precision.

        Raises ExportError or ModelError with the reason where it cannot be made here.
        """
        if engine in ("torch-cpu", "torch-cuda"):
            return Bundle(self._folder, self.manifest.model_copy(update={"precision": precision}))
        try:
            graphs = self._graphs_in(precision)
            return graphs if engine != "tensorrt" else self._build_engines(graphs, options)
        except ModuleNotFoundError as error:
            raise ExportError(
                f"its graphs in {precision} cannot be written without {error.name}, which is not installed; "
                "install it with: pip install 'video-scene-graph[training,cpu]'"
            ) from error

    def _graphs_in(self, precision: Precision) -> Bundle:
        """Returns graphs that this run or an earlier one with the same folder made; makes them where there are none."""
        if precision not in self._graphs:
            made = self._folder / precision
            if (made / MANIFEST_FILE).is_file():
                self._graphs[precision] = Bundle.load(made)
            else:
                self._graphs[precision] = self._export() if precision == "fp32" else self._convert(precision)
        return self._graphs[precision]

    def _export(self) -> Bundle:
        from export.bundle import export_bundle

        if self.checkpoint is None:
            raise RuntimeError("a source has graphs or a checkpoint")
        folder = self._folder / "fp32"
        return export_bundle(
            self.checkpoint, folder, name=self.manifest.name, version="1", description=self.manifest.description
        )

    def _convert(self, precision: Precision) -> Bundle:
        from export.precision import convert

        data = self._calibration or self._random_frames()
        return convert(self._graphs_in("fp32"), self._folder / precision, precision, data)

    def _random_frames(self) -> Path:
        """Writes a data folder of noise: the ranges of activations decide how exact int8 is, not how fast."""
        import cv2

        data = self._folder / "random-frames"
        size, random = self.manifest.frame_size, np.random.default_rng(0)
        for clip in range(_RANDOM_CLIPS):
            video = data / "frames" / f"{clip}.mp4"
            video.mkdir(parents=True, exist_ok=True)
            for place in range(min(2, self.manifest.clip_length)):
                image = random.integers(0, 256, (size.height, size.width, 3), np.uint8)
                cv2.imwrite(str(video / f"{place:06}.png"), image)
        return data

    def _build_engines(self, graphs: Bundle, options: EngineOptions) -> Bundle:
        """Copies the bundle and adds TensorRT engines beside its graphs, once for each largest batch."""
        from export.tensorrt import build_engines

        key = (graphs.manifest.precision, options.max_batch)
        if key not in self._engines:
            copied = shutil.copytree(graphs.folder, self._folder / f"tensorrt-{key[0]}-{key[1]}")
            self._engines[key] = build_engines(Bundle.load(copied), options)
        return self._engines[key]


def open_source(given: str, folder: Path, *, calibration: Path | None = None) -> Source:
    """Opens a bundle's folder, a checkpoint's file or `arn-r50`; what is made of it goes to `folder`.

    Raises ExportError where `given` is none of these or holds only a detector; BundleError or WeightsError where it
    cannot be read.
    """
    path = Path(given)
    if given == ARN_R50:
        return _of_checkpoint(ARN_R50, _save_arn_r50(folder), folder, calibration)
    if path.is_file():
        return _of_checkpoint(path.name, path, folder, calibration)
    if not path.is_dir():
        raise ExportError(
            f"{given} is neither a bundle's folder nor a checkpoint's file nor {ARN_R50!r}: name one of these"
        )
    bundle = Bundle.load(path)
    if bundle.manifest.precision != "fp32":
        raise ExportError(
            f"{given} is in {bundle.manifest.precision}; name the fp32 bundle, of which the other precisions are made"
        )
    network = _network_of(bundle)
    return Source(bundle.manifest.name, folder, bundle.manifest, network, graphs=bundle, calibration=calibration)


def _network_of(bundle: Bundle) -> Complete | None:
    """Returns None where the bundle does not say which network it holds; PyTorch's engines then give the reason."""
    adapter: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
    try:
        network = make_network(adapter.validate_python(bundle.manifest.training.network), bundle.manifest.vocabulary)
    except ValidationError:
        return None
    return None if isinstance(network, Incomplete) else network.eval()


def _save_arn_r50(folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make_network(arn_r50())
    save_checkpoint(folder / "checkpoint.pt", network, {"data": "none: random weights"})
    return folder / "checkpoint.pt"


def _of_checkpoint(name: str, checkpoint: Path, folder: Path, calibration: Path | None) -> Source:
    network, _ = load_checkpoint(checkpoint)
    if isinstance(network, Incomplete):
        raise ExportError(f"{checkpoint} holds a {network.config.network} alone; name a network that is built on it")
    return Source(name, folder, _outline(network), network, checkpoint=checkpoint, calibration=calibration)


def _outline(network: Complete) -> Manifest:
    """Returns the manifest that export would write; its files do not exist."""
    height, width = network.frame_size
    frame = np.zeros((1, 1, height, width, 3), np.uint8)
    arrays = run_stages(network.stages(), bundle_inputs(frame, np.zeros((1, 1))))

    def describe(names: tuple[str, ...]) -> list[Tensor]:
        return [
            Tensor.model_validate(
                {
                    "name": name,
                    "dtype": str(arrays[name].dtype),
                    "shape": ("batch", "time", *arrays[name].shape[2:]),
                }
            )
            for name in names
        ]

    stages = [
        Stage(
            name=stage.name,
            file=f"{stage.name}.onnx",
            inputs=describe(stage.inputs),
            outputs=describe(_needed(network, place)),
            span=stage.span,
        )
        for place, stage in enumerate(network.stages())
    ]
    return Manifest(
        name="measured",
        version="1",
        family=family_of(network),
        description="For measuring speed.",
        vocabulary=network.vocabulary,
        frame_size=FrameSize(height=height, width=width),
        clip_length=network.clip_length,
        stages=stages,
        thresholds=Thresholds(),
        relation_scoring=isinstance(network, Scored),
        training=Training(data="unknown", command="", network=asdict(network.config)),
        sha256={stage.file: "" for stage in stages},
    )


def _needed(network: SceneGraphNetwork, place: int) -> tuple[str, ...]:
    """Returns the outputs of a stage that a later stage or the service reads; export writes only these."""
    stages = network.stages()
    read = {name for later in stages[place + 1 :] for name in later.inputs}
    read |= prediction_names(network.vocabulary)
    return tuple(name for name in stages[place].outputs if name in read)
