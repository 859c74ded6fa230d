"""Delivers an imported network: as a checkpoint, or as the bundle that serves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from export.bundle import export_bundle
from export.check import check_bundle, doubts_of
from export.errors import DisagreementError, ExportError
from export.placing import written_whole
from models.networks.checkpoint import Complete, save_checkpoint

CHECKPOINT_SUFFIX = ".pt"
_FILES = (".pth", ".tar", ".ckpt", ".safetensors", ".onnx", ".zip")
"""Ends of names that nobody gives to a folder."""


def deliver(
    out: Path, network: Complete, origin: dict[str, Any], description: str, say: Callable[[str], None]
) -> list[str]:
    """Writes a checkpoint where `out` ends in `.pt`, or else a bundle that is proven against the network.

    Returns the files that were written. Raises WeightsError or ExportError where they cannot be written or `out` is
    named as another file, and DisagreementError where the bundle computes something else.

    origin: what is known of the weights, as `save_checkpoint` takes it.
    description: of the bundle, in a sentence.
    say: takes lines about the progress and what the comparison leaves open.
    """
    if out.suffix == CHECKPOINT_SUFFIX:
        save_checkpoint(out, network, origin)
        return [str(out)]
    if out.suffix in _FILES:
        raise ExportError(
            f"OUT is {out}: give a name that ends in {CHECKPOINT_SUFFIX} for a checkpoint, or that of a folder for a "
            "bundle"
        )
    with TemporaryDirectory() as folder, written_whole(out) as own:
        checkpoint = Path(folder, "imported.pt")
        save_checkpoint(checkpoint, network, origin)
        say("exporting: a large network takes minutes")
        bundle = export_bundle(checkpoint, own, name=out.name, version="1", description=description)
        # Two shapes are enough: the proof over all of them is `vsg check`, and takes minutes for a large network.
        try:
            say("comparing the bundle with the network")
            agreements = check_bundle(own, checkpoint, batches=(1, 2), times=(1, 3))
        except DisagreementError as error:
            raise DisagreementError(
                f"{error}; to have the bundle all the same, give OUT a name that ends in {CHECKPOINT_SUFFIX}, and "
                "export that with `vsg export --no-check`"
            ) from error
    for line in [*(str(each) for each in agreements if each.rounding), *doubts_of(agreements)]:
        say(line)
    return [str(out / file) for file in bundle.manifest.sha256]
