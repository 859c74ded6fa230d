"""Reads the files that deploy the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT

DOCKER = ROOT / "docker"
COMPOSE_FILES = (ROOT / "docker-compose.yml", ROOT / "docker-compose.cpu.yml")
DOCKERFILES = tuple(sorted(DOCKER.glob("*.Dockerfile")))
MANIFESTS = tuple(sorted(path for path in (DOCKER / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"))


def read_yaml(path: Path) -> Any:
    """Reads a YAML file of one document."""
    return yaml.safe_load(path.read_text())


def resources() -> list[Any]:
    """Every resource of the Kubernetes manifests."""
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def resource(kind: str, name: str) -> Any:
    """One resource of the manifests."""
    (found,) = [found for found in resources() if (found["kind"], found["metadata"]["name"]) == (kind, name)]
    return found


def pod(kind: str, name: str) -> Any:
    """The specification of a workload's pods."""
    return resource(kind, name)["spec"]["template"]["spec"]


def variables(path: Path) -> set[str]:
    """The `VSG_*` environment variables that a file names."""
    return set(re.findall(r"\bVSG_[A-Z_]+\b", re.sub(r"(?m)^\s*#.*", "", path.read_text())))
