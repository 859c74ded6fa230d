"""`vsg export` and `vsg check`."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, get_args

import click

from models.engines import ENGINES, EngineName
from models.graph.bundle import Precision

if TYPE_CHECKING:
    from export.check import Agreement


@click.command(short_help="Write a bundle from a checkpoint.")
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default=None, help="Name of the model; the name of the folder OUT by default.")
@click.option("--version", default="1", show_default=True)
@click.option("--description", default="", help="One sentence for `GET /models`.")
@click.option(
    "--figures",
    multiple=True,
    metavar="WORLD=FILE",
    help="What `vsg evaluate --json` printed for a world; goes into the manifest.",
)
@click.option("--object-score", type=click.FloatRange(0, 1), help="Least score of a pair that the service shows.")
@click.option("--predicate-score", type=click.FloatRange(0, 1), help="Least score of a predicate that it shows.")
@click.option("--relation-score", type=click.FloatRange(0, 1), help="Least relation score of a pair that it shows.")
@click.option("--check/--no-check", default=True, show_default=True, help="Compare both afterwards, in fp32.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="fp32", show_default=True)
@click.option(
    "--calibration",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Data folder that int8 is calibrated on and whose test split any precision but fp32 is measured on.",
)
@click.option("--engine", type=click.Choice(ENGINES), help="What measures the precision; by default a CPU engine.")
@click.option(
    "--max-recall-loss",
    type=float,
    default=0.01,
    show_default=True,
    help="Most that SGDet R@20 may fall by; a precision that costs more is refused.",
)
@click.option("--tensorrt", is_flag=True, help="Build TensorRT engines as well, for the GPU of this machine.")
def export(
    checkpoint: Path,
    out: Path,
    name: str | None,
    version: str,
    description: str,
    figures: tuple[str, ...],
    object_score: float | None,
    predicate_score: float | None,
    relation_score: float | None,
    check: bool,
    precision: Precision,
    calibration: Path | None,
    engine: EngineName | None,
    max_recall_loss: float,
    tensorrt: bool,
) -> None:
    """Write the bundle OUT (manifest and ONNX) from CHECKPOINT.

    Any precision but fp32 needs --calibration: what it costs is measured there by `vsg evaluate`, goes into the
    manifest, and decides whether OUT is written at all.
    """
    from export.bundle import export_bundle
    from export.check import check_bundle
    from export.errors import ExportError
    from export.placing import written_whole
    from models.errors import ModelError
    from models.graph.bundle import Thresholds

    if precision != "fp32" and calibration is None:
        raise click.UsageError(f"--precision {precision} needs --calibration, a data folder to measure its cost on")
    try:
        pairs = [item.partition("=") for item in figures]
        if wrong := [world for world, _, file in pairs if not (world and file)]:
            raise click.UsageError(f"--figures {wrong[0]!r} is not WORLD=FILE; write --figures demanding=figures.json")
        measured = {world: json.loads(Path(file).read_text()) for world, _, file in pairs}
        given = {
            "object_score": object_score,
            "predicate_score": predicate_score,
            "relation_score": relation_score,
        }
        with TemporaryDirectory() as temporary, written_whole(out) as own:
            bundle = export_bundle(
                checkpoint,
                own if calibration is None or precision == "fp32" else Path(temporary),
                name=name or out.name,
                version=version,
                description=description,
                figures=measured,
                thresholds=Thresholds.model_validate(
                    {name: value for name, value in given.items() if value is not None}
                ),
            )
            if check:
                _print(check_bundle(bundle.folder, checkpoint))
            if calibration is not None and precision != "fp32":
                from export.precision import change_precision

                bundle = change_precision(
                    bundle, own, precision, calibration, engine=engine, most_recall_loss=max_recall_loss
                )
                if (cost := bundle.manifest.precision_cost) is not None:
                    click.echo(
                        f"{precision} on {cost.engine}: SGDet R@20 {cost.recall:.4f}, fp32 {cost.fp32_recall:.4f}"
                    )
            if tensorrt:
                from export.tensorrt import build_engines

                bundle = build_engines(bundle)
        for file in bundle.manifest.sha256:
            click.echo(f"wrote {out / file} ({(out / file).stat().st_size / 1e6:.1f} MB)")
    except (ExportError, ModelError, OSError, json.JSONDecodeError) as error:
        raise click.ClickException(str(error)) from error


@click.command(short_help="Prove a bundle against its checkpoint.")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare the outputs with this checkpoint's.",
)
def check(bundle: Path, checkpoint: Path | None) -> None:
    """Verify the files of BUNDLE and, with --checkpoint, that both give the same for several shapes of input."""
    from export.check import check_bundle
    from export.errors import ExportError
    from export.facts import check_manifest
    from models.errors import ModelError
    from models.graph.bundle import Bundle

    try:
        loaded = Bundle.load(bundle)
        manifest = loaded.manifest
        check_manifest(loaded)
        click.echo(f"{manifest.name} {manifest.version}: manifest and files are whole")
        if checkpoint is not None:
            _print(check_bundle(bundle, checkpoint))
    except (ExportError, ModelError) as error:
        raise click.ClickException(str(error)) from error


def _print(agreements: list[Agreement]) -> None:
    from export.check import doubts_of

    for agreement in agreements:
        click.echo(f"  {agreement}")
    for doubt in doubts_of(agreements):
        click.echo(f"Warning: {doubt}", err=True)
