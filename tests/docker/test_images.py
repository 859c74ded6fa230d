from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from models.engines.opening import PRECISIONS
from models.graph.bundle import MANIFEST_FILE, Manifest
from service.settings import Settings
from tests.docker.parts import COMPOSE_FILES, DOCKER, DOCKERFILES, MANIFESTS, ROOT, read_yaml, variables

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_passes_the_linter(path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_runs_unprivileged_and_has_a_health_check(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^ARG BASE=\S+:[\w.-]+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    last = text.split("\nFROM ")[-1]
    assert "\nUSER 10001\n" in last
    assert "\nHEALTHCHECK " in last


def test_every_image_of_others_is_pinned_by_digest() -> None:
    text = "".join(path.read_text() for path in (*COMPOSE_FILES, *MANIFESTS))
    images = [image for image in re.findall(r"\bimage: (\S+)", text) if not image.startswith("video-scene-graph-")]
    assert len(images) >= 4
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in images)


def test_our_images_are_tagged_with_the_version_of_the_project() -> None:
    compose = [
        service["image"]
        for path in COMPOSE_FILES
        for service in read_yaml(path)["services"].values()
        if "build" in service
    ]
    kustomizations = [read_yaml(path) for path in DOCKER.glob("kubernetes/**/kustomization.yaml")]
    kubernetes = [
        f"{image.get('newName', image['name'])}:{image['newTag']}" for one in kustomizations for image in one["images"]
    ]
    assert {image.rpartition(":")[2] for image in (*compose, *kubernetes)} == {PROJECT["version"]}
    assert set(kubernetes) == set(compose)


@pytest.mark.parametrize(
    "path", [*DOCKERFILES, ROOT / "README.md", ROOT / "docs" / "operations.md"], ids=lambda path: path.name
)
def test_commands_name_images_of_this_version(path: Path) -> None:
    tags = re.findall(r"\bvideo-scene-graph-[a-z-]+:([\w.]+)", path.read_text())
    assert set(tags) == {PROJECT["version"]}


@pytest.mark.parametrize("path", [*COMPOSE_FILES, *DOCKERFILES, *MANIFESTS], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    settings = {f"VSG_{name.upper()}" for name in Settings.model_fields}
    assert variables(path) <= settings


def test_the_bundles_of_the_gpu_worker_are_there_and_in_a_precision_that_its_engine_computes_in() -> None:
    text = (DOCKER / "worker.Dockerfile").read_text()
    (bundles,) = re.findall(r"VSG_BUNDLES=(\S+)", text)
    (engine,) = re.findall(r"VSG_ENGINE=(\S+)", text)
    for folder in bundles.split(":"):
        manifest = Manifest.model_validate_json((ROOT / folder / MANIFEST_FILE).read_bytes())
        assert manifest.precision in PRECISIONS[engine]


def test_the_api_starts_without_decoders_and_engines() -> None:
    missing = {"av", "decord", "scipy", "onnxruntime", "torch", "cuda", "openvino"}
    code = f"""
import sys
for name in {missing!r}:
    sys.modules[name] = None
from service.http import create_app
from service.commands import serve
from service.settings import load_settings
create_app(load_settings({{"queue_url": "redis://127.0.0.1:1/0", "data": "memory://fleet"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
