from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.parts import COMPOSE_FILES, ROOT, read_yaml

OURS = ("api", "worker")


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_is_valid_by_the_published_schema(path: Path) -> None:
    done = validate(path)
    assert done.returncode == 0, done.stdout


def test_the_schema_refuses_a_compose_file_that_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yml"
    wrong.write_text(COMPOSE_FILES[0].read_text().replace("read_only: true", "readonly: true"))
    assert validate(wrong).returncode == 1


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_files_that_a_compose_file_refers_to_exist(path: Path) -> None:
    model = read_yaml(path)
    base = read_yaml(COMPOSE_FILES[0])
    for service in model["services"].values():
        if "extends" in service:
            service = base["services"][service["extends"]["service"]]
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert set(service.get("depends_on", ())) <= set(model["services"])
        assert set(service.get("secrets", ())) <= set(model["secrets"])
        for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
            assert (ROOT / source).exists() if source.startswith(".") else source in model["volumes"]


def test_redis_writes_every_job_to_the_disk_and_evicts_none() -> None:
    redis = read_yaml(COMPOSE_FILES[0])["services"]["redis"]
    command = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert command == {"--appendonly": "yes", "--appendfsync": "always", "--maxmemory-policy": "noeviction"}
    assert redis["volumes"] == ["redis:/data"]


def test_only_the_file_for_gpus_reserves_one() -> None:
    with_gpu, without = (read_yaml(path)["services"]["worker"] for path in COMPOSE_FILES)
    (device,) = with_gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert "gpu" in device["capabilities"]
    assert "deploy" not in without
    assert "extends" not in without


def test_api_and_workers_share_queue_and_storage_on_both_kinds_of_machine() -> None:
    services = [read_yaml(path)["services"]["worker"] for path in COMPOSE_FILES]
    services.append(read_yaml(COMPOSE_FILES[0])["services"]["api"])
    assert (
        len({(service["environment"]["VSG_QUEUE_URL"], service["environment"]["VSG_DATA"]) for service in services})
        == 1
    )
    assert all("data:/data" in service["volumes"] for service in services)


def test_ports_are_published_on_localhost_unless_configured() -> None:
    for service in read_yaml(COMPOSE_FILES[0])["services"].values():
        for port in service.get("ports", ()):
            assert port.removeprefix("${API_ADDRESS:-").startswith("127.0.0.1:")


def test_a_service_gets_longer_to_stop_than_it_takes() -> None:
    for path in COMPOSE_FILES:
        for name in OURS:
            service = read_yaml(path)["services"][name]
            if "extends" not in service:
                grace = int(service["stop_grace_period"].removesuffix("s"))
                assert grace > int(service["environment"]["VSG_SHUTDOWN_SECONDS"])


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_every_service_has_a_limit_of_memory(path: Path) -> None:
    base = read_yaml(COMPOSE_FILES[0])["services"]
    for service in read_yaml(path)["services"].values():
        whole = base[service["extends"]["service"]] if "extends" in service else service
        assert int(whole["mem_limit"].removesuffix("g")) >= 1
