"""Writes docker/requirements: what each image installs, with the sha256 of every file.

    .venv/bin/python docker/hashes.py [IMAGE ...]

An image installs with `pip --no-deps --require-hashes`, so it gets the files that were there when this ran, or none.
The lists name no address: whatever index pip is set up for must have the same files. Run it again after constraints.txt
or the dependencies in pyproject.toml have changed; `tests/docker/test_requirements.py` tells when.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = ROOT / "docker" / "requirements"
_PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_PROJECT = _PYPROJECT["project"]
_GLIBC = range(17, 40)  # wheels for these versions 2.N of the C library run in the images


@dataclass(frozen=True)
class Image:
    """An image: the extras that it installs, its Python, and the machines that it can be built for."""

    extras: tuple[str, ...]
    python: str
    machines: tuple[str, ...]


IMAGES = {
    "api": Image(("captions", "s3", "tracing"), "3.11", ("x86_64", "aarch64")),
    "worker-cpu": Image(("cpu", "s3", "tracing"), "3.11", ("x86_64", "aarch64")),
    "worker": Image(("gpu", "s3", "tracing"), "3.12", ("x86_64",)),
}


def requirements(extras: tuple[str, ...]) -> list[str]:
    """The project's dependencies with those of some extras, which may name each other."""
    found = list(_PROJECT["dependencies"])
    for extra in extras:
        for requirement in _PROJECT["optional-dependencies"][extra]:
            ours = re.fullmatch(rf"{_PROJECT['name']}\[([a-z0-9,]+)\]", requirement)
            found += requirements(tuple(ours[1].split(",")))[len(_PROJECT["dependencies"]) :] if ours else [requirement]
    return found


def resolved(image: Image, machine: str) -> dict[str, set[str]]:
    """The sha256 sums that pip would install on a machine, by `name==version`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--target", folder, "--only-binary", ":all:"]
        command += ["--python-version", image.python, "--constraint", str(ROOT / "constraints.txt")]
        for version in _GLIBC:
            command += ["--platform", f"manylinux_2_{version}_{machine}"]
        command += ["--platform", f"manylinux2014_{machine}", "--platform", f"linux_{machine}"]
        # What builds our own packages comes from the list too, and is uninstalled at the end.
        wanted = [*requirements(image.extras), *_PYPROJECT["build-system"]["requires"]]
        subprocess.run([*command, *wanted], check=True)
        installed = json.loads(report.read_text())["install"]
    return {
        f"{each['metadata']['name']}=={each['metadata']['version']}": {
            each["download_info"]["archive_info"]["hashes"]["sha256"]
        }
        for each in installed
    }


def write_list(name: str) -> None:
    """Writes the list of an image."""
    image = IMAGES[name]
    by_machine = {machine: resolved(image, machine) for machine in image.machines}
    lines = [f"# Written by docker/hashes.py for docker/{name}.Dockerfile."]
    for pin in sorted(set().union(*by_machine.values()), key=str.lower):
        machines = [machine for machine, pins in by_machine.items() if pin in pins]
        sums = sorted(set().union(*(by_machine[machine][pin] for machine in machines)))
        marker = "" if len(machines) == len(image.machines) else f" ; platform_machine == '{machines[0]}'"
        lines.append(" \\\n    ".join([pin + marker, *(f"--hash=sha256:{digest}" for digest in sums)]))
    LISTS.mkdir(exist_ok=True)
    (LISTS / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or IMAGES:
        write_list(wanted)
