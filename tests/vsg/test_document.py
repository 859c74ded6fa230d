"""docs/python.md: its programs run as they stand, and its tables list what there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import vsg
from tests.conftest import Server
from tests.support.bundles import make_tiny_bundle
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "python.md").read_text()


@pytest.mark.usefixtures("no_proxy")
def test_the_programs_run(server: Server, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSG_BUNDLES", str(make_tiny_bundle(tmp_path / "arn-compact")))
    shutil.copy(clip, "clip.mp4")
    names: dict[str, object] = {}
    programs = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(programs) > 5
    for program in programs:
        exec(program.replace("http://127.0.0.1:8000", server.url), names)
    assert isinstance(names["graph"], vsg.SceneGraph)


def test_every_error_every_method_and_every_option_is_listed() -> None:
    listed = set(re.findall(r"^\| `(\w+)", TEXT, re.MULTILINE))
    assert listed >= {name for name in vsg.__all__ if name.endswith("Error")}
    for client in (vsg.Client, vsg.AsyncClient):
        assert listed >= {name for name in vars(client) if not name.startswith("_") and name != "close"}
    for name in vsg.ClientOptions.__annotations__:
        assert f"`{name}`" in TEXT
