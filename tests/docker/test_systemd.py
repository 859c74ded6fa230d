"""The files for a fleet without containers."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.settings import Settings
from tests.docker.parts import COMPOSE_FILES, DOCKER, ROOT, read_yaml, variables

FOLDER = DOCKER / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


def entries(path: Path, key: str) -> list[str]:
    """The values of a key that a unit may have several times."""
    return re.findall(rf"^{key}=(.*)$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", [*UNITS, FOLDER / "fleet.env"], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    assert variables(path) <= {f"VSG_{name.upper()}" for name in Settings.model_fields}
    assert variables(path)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_unprivileged_starts_again_and_gets_longer_to_stop_than_it_takes(path: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    unit = parser["Service"]
    assert (unit["User"], unit["NoNewPrivileges"], unit["Restart"], unit["UMask"]) == ("vsg", "yes", "always", "0077")
    assert (unit["StateDirectoryMode"], unit["ProtectSystem"]) == ("0700", "strict")
    environment = dict(entry.split("=", 1) for entry in entries(path, "Environment"))
    assert int(unit["TimeoutStopSec"]) > int(environment["VSG_SHUTDOWN_SECONDS"])
    assert "%i" in environment.values(), "its name is its port"
    # Decoders use namespaces to isolate themselves.
    assert ("RestrictNamespaces" in unit) is ("api" in path.name)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_a_unit(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # The program and the user are there on the machine that runs it only.
    text = path.read_text().replace("/opt/vsg/bin/vsg", "/bin/true").replace("User=vsg", "User=root")
    unit = tmp_path / path.name.replace("@", "@9101")
    unit.write_text(re.sub(r"EnvironmentFile=/\S+", "EnvironmentFile=-/dev/null", text))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=120, check=False)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert complaints == []


def test_redis_writes_every_job_to_the_disk_as_in_the_compose_file() -> None:
    lines = [line for line in (FOLDER / "redis.conf").read_text().splitlines() if line[:1].isalpha()]
    command = read_yaml(COMPOSE_FILES[0])["services"]["redis"]["command"]
    flags = dict(zip(command[1::2], command[2::2], strict=True))
    assert {f"{name.removeprefix('--')} {value}" for name, value in flags.items()} <= set(lines)
    text = (ROOT / "docs" / "systemd.md").read_text()
    assert all(f"{name} {value}" in text for name, value in flags.items())


def test_the_proxy_takes_no_api_out_and_holds_up_nothing() -> None:
    text = (FOLDER / "nginx.conf").read_text()
    servers = re.findall(r"^\s+server (\S+)(.*);$", text, re.MULTILINE)
    assert len(servers) == 2
    assert all("max_fails=0" in options for _, options in servers)
    assert "proxy_request_buffering off;" in text
    assert "proxy_buffering off;" in text
    settings = Settings()
    assert f"client_max_body_size {settings.max_body_bytes // 2**20}m;" in text
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(seconds) > settings.max_wait
    assert text.count("{") == text.count("}")
