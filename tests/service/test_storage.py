from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from service.storage import Storage


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A folder, and something that is no disk of this machine."""
    yield Storage(str(tmp_path / "data") if request.param == "folder" else f"memory://{uuid.uuid4()}")
    fsspec.filesystem("memory").store.clear()


def test_an_upload_comes_back_as_a_local_file(storage: Storage) -> None:
    writer = storage.open_upload("a")
    writer.write(b"one ")
    writer.write(b"two")
    writer.close()
    assert (writer.size, writer.sha256) == (7, hashlib.sha256(b"one two").hexdigest())
    with storage.local_upload("a") as path:
        assert path.read_bytes() == b"one two"


def test_deleting_what_is_not_there_is_no_error(storage: Storage) -> None:
    storage.delete_upload("a")
    assert not storage.delete_result("a")


def test_a_result_is_the_graph_or_the_problem(storage: Storage) -> None:
    assert storage.read_result("a") is None
    storage.write_result("a", b"graph")
    storage.write_result("b", b"problem", failed=True)
    assert storage.read_result("a") == (b"graph", False)
    assert storage.read_result("b") == (b"problem", True)
    assert storage.delete_result("a")
    assert storage.delete_result("b")
    assert storage.read_result("a") is storage.read_result("b") is None


def test_what_a_dead_process_left_is_deleted_by_age(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for name in ("old", "new"):
        storage.open_upload(name).close()
        storage.write_result(name, b"graph")
    for area, name in (("uploads", "old"), ("results", "old.json")):
        os.utime(tmp_path / area / name, (time.time() - 100,) * 2)
    storage.delete_older_than(50)
    assert [path.name for path in sorted(tmp_path.rglob("*")) if path.is_file()] == ["new.json", "new"]
