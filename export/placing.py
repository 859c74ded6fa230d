"""Puts a finished bundle into its place; until then, whatever is there stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from export.errors import ExportError
from models.errors import BundleError
from models.graph.bundle import MANIFEST_FILE, Bundle


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Gives a new folder beside `folder` to write a bundle into, and puts it there when the block ends.

    A block that raises leaves nothing behind, and the bundle that was there before stays. Raises ExportError where
    `folder` holds anything but a bundle, or where the new one cannot be put there.
    """
    folder = folder.resolve()
    _require_replaceable(folder)
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    own = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = own.with_suffix(".old")
    try:
        own.mkdir(parents=True)
        yield own
        if folder.exists():
            folder.rename(old)
        own.rename(folder)
    except OSError as error:
        if old.exists():
            old.rename(folder)
        named = f" ({error.filename})" if error.filename else ""
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}{named}") from error
    finally:
        rmtree(own, ignore_errors=True)
        rmtree(old, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):  # it holds the bundle
                parent.rmdir()


def _require_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; name a new folder")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    try:
        ours = {MANIFEST_FILE, *Bundle.load(folder).manifest.sha256}
    except BundleError:
        ours = set()
    if others := sorted(found - ours):
        raise ExportError(f"{folder} holds {others[0]!r}, which is not of a bundle that is whole; name a new folder")
