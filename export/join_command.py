"""`vsg join`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.graph.fitting import FITS

if TYPE_CHECKING:
    from export.detectors.opening import Flags

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


class _Numbers(click.ParamType[Any]):
    """Numbers with a separator between them, such as 0.5,0.5,0.5.

    count: how many there must be; a single one stands for all where the separator is a comma.
    """

    def __init__(self, name: str, kind: type[int] | type[float], separator: str, count: int) -> None:
        self.name = name
        self.kind = kind
        self.separator = separator
        self.count = count

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        try:
            numbers = tuple(self.kind(part) for part in str(value).split(self.separator))
        except ValueError:
            numbers = ()
        if len(numbers) == 1 and self.separator == ",":
            numbers = numbers * self.count
        if len(numbers) != self.count or not all(abs(number) < 1e6 for number in numbers):
            self.fail(f"{value!r} is not of the form {self.name}")
        return numbers


@click.command(short_help="Write a bundle from any object detector and a relation network.")
@click.argument("detector")
@click.argument("relations", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default=None, help="Name of the model; the name of the folder OUT by default.")
@click.option("--version", default="1", show_default=True)
@click.option("--description", default="", help="One sentence for `GET /models`.")
@click.option("--origin", default="unknown", show_default=True, help="Place the detector's weights come from.")
@click.option("--licence", default="unknown", show_default=True, help="Licence of the detector's weights.")
@click.option(
    "--classes",
    metavar="FILE",
    help="Names of the detector's classes, one a line, or coco-80, coco-90, coco-91; else those of its metadata.",
)
@click.option(
    "--table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON object from class to object of the vocabulary, or to null. Names and synonyms decide the rest.",
)
@click.option("--keep-classes", is_flag=True, help="Make the classes the vocabulary's objects, as they are.")
@click.option("--subject", "subjects", multiple=True, help="With --keep-classes, a class that acts, such as person.")
@click.option(
    "--name-table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --keep-classes, embeddings of names (`vsg data names`); those that are shipped by default.",
)
@click.option(
    "--second",
    metavar="DETECTOR",
    help="A second detector of the same classes and frames, no .onnx file; boxes that both find count more.",
)
@click.option(
    "--pose",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of a pose network (`vsg import pose`); what it sees of persons then shifts scores.",
)
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file of fit, fusing, choosing, thresholds, scoring, statements, prior_shifts, never_said and figures.",
)
@click.option("--contract", type=click.Choice(["rows", "queries", "grid"]), help="Contract of an ONNX detector.")
@click.option(
    "--input-size", type=_Numbers("WIDTHxHEIGHT", int, "x", 2), help="Input in pixels, where the file leaves it open."
)
@click.option("--scale", type=click.FloatRange(0, min_open=True), help="Value of white in the input: 1 or 255.")
@click.option("--mean", type=_Numbers("R,G,B", float, ",", 3), help="Subtracted from each channel of the input.")
@click.option("--std", type=_Numbers("R,G,B", float, ",", 3), help="Each channel is then divided by it.")
@click.option("--bgr/--rgb", default=None, help="Order of the channels.")
@click.option("--box-format", type=click.Choice(["xyxy", "yxyx", "xywh", "cxcywh"]), help="Numbers of a box.")
@click.option("--box-unit", type=click.Choice(["pixel", "fraction"]), help="Unit of boxes.")
@click.option("--activation", type=click.Choice(["none", "sigmoid", "softmax"]), help="Makes scores of outputs.")
@click.option("--decoded/--undecoded", default=None, help="Whether the boxes of a grid are pixels already.")
@click.option("--columns", metavar="LIST", help="Columns of a single output, such as box,box,box,box,score,label.")
@click.option("--first-label", type=int, default=0, show_default=True, help="Number of the first class, for rows.")
@click.option("--one-by-one", is_flag=True, help="Run the detector on one frame at a time.")
@click.option("--fit", type=click.Choice(FITS), help="How pictures fill an input of another shape.  [default: stretch]")
@click.option("--pairs", type=click.IntRange(1), help="Pairs of a frame.")
@click.option("--persons", type=click.IntRange(1), help="Most subjects of a frame.")
@click.option("--things", type=click.IntRange(1), help="Most things of a frame.")
@click.option("--least-score", type=_SHARE, help="Score below which what is found is dropped.")
@click.option("--object-iou", type=_SHARE, help="IoU over which a box is dropped beside a better one of its class.")
@click.option("--object-score", type=click.FloatRange(0, 1), help="Least score of a pair that the service shows.")
@click.option("--predicate-score", type=click.FloatRange(0, 1), help="Least score of a predicate that it shows.")
@click.option("--relation-score", type=click.FloatRange(0, 1), help="Least relation score of a pair that it shows.")
def join(detector: str, relations: Path, out: Path, **options: Any) -> None:
    """Write the bundle OUT from any object DETECTOR and the checkpoint RELATIONS of a network that needs no pixels.

    DETECTOR is an .onnx file of any origin, `torchvision:NAME` or `torchvision:NAME=FILE` with weights from FILE, or a
    checkpoint of this project that holds a detector. The outputs of an .onnx file must keep one of three contracts:
    rows (boxes, scores, labels), queries (DETR's boxes and logits) or grid (YOLOX's). What is found out about the file
    is printed; the options correct it.
    """
    from export.detectors.classes import read_class_names, read_table
    from export.detectors.sources import open_source, published_weights
    from export.errors import ExportError
    from export.join import ClassOptions, fuse, join, match_detector, read_pose, read_relations
    from export.join_settings import read_settings
    from models.errors import ModelError
    from models.graph.bundle import Training

    def given(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if options[name] is not None}

    try:
        settings = read_settings(
            options["settings"],
            choosing=given("pairs", "persons", "things", "least_score", "object_iou"),
            thresholds=given("object_score", "predicate_score", "relation_score"),
        ).model_copy(update=given("fit"))
        names = None if options["classes"] is None else read_class_names(options["classes"])
        opened = open_source(detector, names, _flags(options), options["origin"], options["licence"])
        for line in opened.said:
            click.echo(line)
        if options["second"] is not None:
            opened = fuse(opened, options["second"], settings.fusing)
        network, provenance = read_relations(relations)
        pose, source = (None, {}) if options["pose"] is None else read_pose(options["pose"])
        table = None if options["table"] is None else read_table(options["table"])
        classes = ClassOptions(
            table, options["keep_classes"], options["subjects"], settings.further_objects, **given("name_table")
        )
        matched = match_detector(opened.detector.names, network, classes)
        click.echo("classes: " + ", ".join(_meant(name, label) for name, label in matched.table.items()))
        if matched.dropped:
            click.echo("left out, because the vocabulary has no word for them: " + ", ".join(matched.dropped))
        data = f"relations: {provenance.get('data', 'unknown')}; detector: {opened.data}"
        bundle = join(
            opened.detector,
            matched,
            out,
            name=options["name"] or out.name,
            version=options["version"],
            description=options["description"],
            training=Training(data=data, command=" ".join(["vsg", *sys.argv[1:]]), figures=settings.figures),
            settings=settings,
            weights=[*opened.weights, *published_weights(source)],
            pose=pose,
        )
        for file in bundle.manifest.sha256:
            click.echo(f"wrote {bundle.folder / file} ({(bundle.folder / file).stat().st_size / 1e6:.1f} MB)")
    except (ExportError, ModelError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _flags(options: dict[str, Any]) -> Flags:
    """Returns what the options say of an ONNX detector."""
    from export.detectors.contracts import BOX, LABEL, OTHER, SCORE
    from export.detectors.opening import Flags

    columns = tuple(options["columns"].split(",")) if options["columns"] else ()
    kinds = [columns.count(kind) for kind in (BOX, SCORE, LABEL)]
    if columns and (kinds != [4, 1, 1] or len(columns) != 6 + columns.count(OTHER)):
        raise click.UsageError(
            f"--columns is {options['columns']!r}: name {BOX} four times, {SCORE} and {LABEL} once each, and {OTHER} "
            "for all others"
        )
    size = options["input_size"]
    if size is not None and not all(16 <= side <= 8192 for side in size):
        raise click.UsageError(f"--input-size is {size[0]}x{size[1]}: give 16 to 8192 pixels")
    return Flags(
        contract=options["contract"],
        input_size=None if size is None else (size[1], size[0]),
        scale=options["scale"],
        mean=options["mean"] or (),
        std=options["std"] or (),
        bgr=options["bgr"],
        box_format=options["box_format"],
        box_unit=options["box_unit"],
        activation=options["activation"],
        decoded=options["decoded"],
        columns=columns,
        first_label=options["first_label"],
        one_by_one=options["one_by_one"],
    )


def _meant(name: str, label: str) -> str:
    return name if name == label else f"{name} is {label}"
