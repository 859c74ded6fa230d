"""Finds the bundles of models: by path, or by name among those that are installed.

Installed are the folders of `VSG_BUNDLES`, those in `./bundles`, and those in `bundles/` beside the packages, which is
where a checkout and the images have them. A wheel holds no models.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import service
from models.graph.bundle import MANIFEST_FILE
from service.errors import NoModels

WORKING_FOLDER = Path("bundles")
PACKAGED_FOLDER = Path(service.__file__).resolve().parents[1] / "bundles"


def installed_bundles() -> list[Path]:
    """The bundles in `./bundles`, or else those beside the packages, by name. Raises NoModels where there are none."""
    if found := _bundles_in(WORKING_FOLDER) or _bundles_in(PACKAGED_FOLDER):
        return found
    raise NoModels(
        f"there is no bundle in {WORKING_FOLDER.absolute()} or {PACKAGED_FOLDER}; name one with --bundle PATH, or "
        "VSG_BUNDLES, or write one with `vsg export`"
    )


def find_bundles(given: Path, known: Iterable[Path] = ()) -> list[Path]:
    """The bundles that a path or a name stands for.

    given: a bundle, a folder of bundles, or the name of a bundle that is `known` or installed.
    known: bundles whose names are looked at first.

    A folder without a bundle is returned as it is: loading it says what is missing. Raises NoModels, with the names of
    the bundles there are, where `given` is nothing of this.
    """
    if (given / MANIFEST_FILE).is_file():
        return [given]
    if inside := _bundles_in(given):
        return inside
    places = [*known, *_bundles_in(WORKING_FOLDER), *_bundles_in(PACKAGED_FOLDER)]
    for place in places:
        if str(given) == place.name:
            return [place]
    if given.is_dir():
        return [given]
    names = ", ".join(dict.fromkeys(place.name for place in places)) or "none"
    raise NoModels(
        f"there is no bundle {str(given)!r}: give the path of one, or the name of an installed one ({names}); "
        "VSG_BUNDLES names further ones"
    )


def _bundles_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST_FILE}"))
