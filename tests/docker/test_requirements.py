"""What the images install is pinned by hash, and is what constraints.txt and pyproject.toml say."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.parts import DOCKER, ROOT


def load_hashes() -> Any:
    """The program that writes the lists."""
    specification = importlib.util.spec_from_file_location("docker_hashes", DOCKER / "hashes.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


HASHES = load_hashes()
PINNED: dict[str, str] = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)===?(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def listed(image: str) -> dict[str, tuple[str, list[str]]]:
    """The version and the hashes of each package that an image installs."""
    text = (DOCKER / "requirements" / f"{image}.txt").read_text().replace(" \\\n", "")
    found: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines()[1:]:
        match = re.fullmatch(r"([\w.-]+)==([\w.+!-]+)(?: ; [^-]+)?((?:    --hash=sha256:[0-9a-f]{64})+)", line)
        assert match, line
        found[canonicalize_name(match[1])] = (match[2], match[3].split())
    return found


@pytest.mark.parametrize("image", HASHES.IMAGES)
def test_a_list_has_the_versions_of_the_constraints(image: str) -> None:
    found = listed(image)
    versions = {name: version for name, (version, _) in found.items() if name not in ("setuptools", "wheel")}
    assert {name: PINNED.get(name) for name in versions} == versions
    assert "setuptools" in found, "what builds our own packages is pinned too"


@pytest.mark.parametrize("image", HASHES.IMAGES)
def test_a_list_has_what_the_project_and_the_extras_of_the_image_need(image: str) -> None:
    found = listed(image)
    for text in HASHES.requirements(HASHES.IMAGES[image].extras):
        requirement = Requirement(text)
        version, hashes = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), "run docker/hashes.py again"
        assert hashes


@pytest.mark.parametrize("image", HASHES.IMAGES)
def test_an_image_installs_its_list_and_nothing_else(image: str) -> None:
    text = (DOCKER / f"{image}.Dockerfile").read_text()
    installs = re.findall(r"pip install (.*?)(?: \\)?\n", text)
    assert installs[0] == "--no-cache-dir --no-deps --only-binary :all: --require-hashes --requirement requirements.txt"
    assert "/opt/venv/bin/pip check\n" in text
    assert installs[-1] == "--no-cache-dir --no-build-isolation --no-deps --target /opt/vsg ."
    assert f"COPY docker/requirements/{image}.txt requirements.txt\n" in text
    assert len(installs) == 2 + text.count("tensorrt-cu13=="), "TensorRT comes from NVIDIA's own index"


def test_the_images_can_trace_and_write_archives_and_that_of_the_api_can_caption_and_serve_agents() -> None:
    assert {name: set(image.extras) for name, image in HASHES.IMAGES.items()} == {
        "api": {"agents", "archive", "captions", "s3", "tracing"},
        "worker-cpu": {"archive", "cpu", "s3", "tracing"},
        "worker": {"archive", "gpu", "s3", "tracing"},
    }


def test_the_lists_name_no_address() -> None:
    for path in (DOCKER / "requirements").iterdir():
        assert "://" not in path.read_text()
        assert "index" not in path.read_text()
