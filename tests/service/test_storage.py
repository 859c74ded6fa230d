from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from service.errors import StorageFull, StorageUnavailable
from service.prompt import KeyFrame
from service.storage import Storage
from service.stored_files import MOST_KEPT_BYTES

OWNER = "me"


def made(url: str) -> Storage:
    storage = Storage(url)
    assert storage.mark() is None
    storage.make("mark")
    assert storage.mark() == "mark"
    return storage


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A folder, and a store that is no disk of this machine."""
    yield made(str(tmp_path / "data") if request.param == "folder" else f"memory://{uuid.uuid4()}")
    fsspec.filesystem("memory").store.clear()


def test_an_upload_comes_back_as_a_local_file(storage: Storage) -> None:
    writer = storage.open_upload("a")
    writer.write(b"one ")
    writer.write(b"two")
    writer.close()
    assert (writer.size, writer.sha256) == (7, hashlib.sha256(b"one two").hexdigest())
    with storage.local_upload("a") as path:
        assert path.read_bytes() == b"one two"


def test_deleting_a_missing_file_is_no_error(storage: Storage) -> None:
    storage.delete_upload("a")
    assert not storage.delete_result("a", OWNER)


def content_of(storage: Storage, video_id: str) -> tuple[bytes, bool] | None:
    """The stored content, and whether it is the problem of a failed job."""
    result = storage.result(video_id, OWNER)
    return None if result is None else (result.read(), result.failed)


def files(storage: Storage) -> list[str]:
    """The names of all results, finished or not."""
    return sorted(Path(path).name for path in storage._files.find(f"{storage._root}/results"))


def test_a_result_is_a_graph_or_a_problem(storage: Storage) -> None:
    assert storage.result("a", OWNER) is None
    storage.write_result("a", OWNER, b"graph")
    storage.write_result("b", OWNER, b"problem", failed=True)
    assert content_of(storage, "a") == (b"graph", False)
    assert content_of(storage, "b") == (b"problem", True)
    assert storage.delete_result("a", OWNER)
    assert storage.delete_result("b", OWNER)
    assert storage.result("a", OWNER) is storage.result("b", OWNER) is None


def test_a_result_is_written_and_read_in_blocks(storage: Storage) -> None:
    with storage.open_result("a", OWNER) as out:
        for number in range(10):
            out.write(bytes([number]) * 100_000)
    result = storage.result("a", OWNER)
    assert result is not None
    blocks = list(result.blocks())
    assert len(blocks) > 1
    assert len(b"".join(blocks)) == result.size == 1_000_000
    assert b"".join(blocks)[-1] == 9


def test_a_result_appears_whole_or_not_at_all(storage: Storage) -> None:
    with storage.open_result("a", OWNER) as out:
        out.write(b"half")
        assert storage.result("a", OWNER) is None
    assert content_of(storage, "a") == (b"half", False)

    def stopped() -> None:
        with storage.open_result("a", OWNER) as out:
            out.write(b"other")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert content_of(storage, "a") == (b"half", False)
    assert files(storage) == ["a.json"]


def test_two_workers_on_one_video_do_not_mix_their_results(storage: Storage) -> None:
    with storage.open_result("a", OWNER) as one:
        one.write(b"one ")
        with storage.open_result("a", OWNER) as other:
            other.write(b"other")
        one.write(b"one")
    assert content_of(storage, "a") == (b"one one", False)
    assert files(storage) == ["a.json"]


def test_a_result_that_is_deleted_while_it_is_read_can_be_read_to_its_end(tmp_path: Path) -> None:
    storage = made(str(tmp_path))
    storage.write_result("a", OWNER, b"graph" * 100_000)
    result = storage.result("a", OWNER)
    assert result is not None
    blocks = result.blocks()
    first = next(blocks)
    storage.delete_result("a", OWNER)
    assert first + b"".join(blocks) == b"graph" * 100_000
    with pytest.raises(FileNotFoundError):
        result.read()


def test_files_are_listed_with_age_and_video(tmp_path: Path) -> None:
    storage = made(str(tmp_path))
    storage.write_result("a" * 32, OWNER, b"graph")
    storage.write_result("b" * 32, OWNER, b"{}", failed=True)
    (tmp_path / "results" / OWNER / f"{'c' * 32}.json.0123.part").touch()
    os.utime(tmp_path / "results" / OWNER / f"{'a' * 32}.json", (time.time() - 100,) * 2)
    files = {file.video_id[0]: file for file in storage.files("results")}
    assert sorted(files) == ["a", "b", "c"]
    assert files["a"].age == pytest.approx(100, abs=50)
    assert [files[name].is_unfinished for name in "abc"] == [False, False, True]
    storage.delete(files["a"])
    storage.delete(files["a"])
    assert storage.result("a" * 32, OWNER) is None


def test_a_shared_graph_has_the_id_of_the_video_it_answers_for(storage: Storage) -> None:
    own, other = "a" * 32, "b" * 32
    storage.write_result(own, OWNER, f'{{"id":"{own}","prompt":"the id is not {own}"}}'.encode() + b" " * 600_000)
    assert storage.share(own, other, OWNER)
    for known in (own, None):  # the queue knows it, or has lost its data
        found = storage.result(other, OWNER, known)
        assert found is not None
        assert found.read() == f'{{"id":"{other}","prompt":"the id is not {own}"}}'.encode() + b" " * 600_000
        assert (found.id, found.graph_id) == (other, own)
    storage.write_result("c" * 32, OWNER, b"{}", failed=True)
    assert not storage.share("c" * 32, "d" * 32, OWNER), "a failure is tried again"
    assert not storage.share("e" * 32, "f" * 32, OWNER)
    assert files(storage) == [f"{own}.json", f"{other}.{own}.share", f"{'c' * 32}.problem.json"]


def test_a_share_takes_no_room(tmp_path: Path) -> None:
    storage = made(str(tmp_path))
    storage.write_result("a" * 32, OWNER, b"graph" * 100_000)
    for number in range(50):
        assert storage.share("a" * 32, f"{number:032x}", OWNER)
    assert sum(path.stat().st_size for path in (tmp_path / "results").rglob("*") if path.is_file()) == 500_000


def test_a_graph_that_is_left_to_others_answers_for_them_alone(storage: Storage) -> None:
    own, other, third = "a" * 32, "b" * 32, "c" * 32
    storage.write_result(own, OWNER, f'{{"id":"{own}"}}'.encode())
    assert storage.share(own, other, OWNER)
    assert storage.is_shared(own, OWNER, besides=own)
    storage.leave_to_others(own, OWNER)
    assert storage.result(own, OWNER) is None
    assert content_of(storage, other) == (f'{{"id":"{other}"}}'.encode(), False)
    assert storage.share(own, third, OWNER)
    storage.delete_share(other, OWNER, own)
    assert storage.result(other, OWNER) is None
    assert storage.is_shared(own, OWNER, besides=own)
    assert not storage.is_shared(own, OWNER, besides=third)
    storage.delete_share(third, OWNER, own)
    assert storage.delete_result(own, OWNER)
    assert files(storage) == []


def test_a_graph_that_is_left_to_others_after_it_was_found_is_read_all_the_same(storage: Storage) -> None:
    own, other = "a" * 32, "b" * 32
    storage.write_result(own, OWNER, f'{{"id":"{own}"}}'.encode())
    assert storage.share(own, other, OWNER)
    found, alone = storage.result(other, OWNER, own), storage.result(own, OWNER)
    assert found is not None
    assert alone is not None
    storage.leave_to_others(own, OWNER)
    assert found.read() == f'{{"id":"{other}"}}'.encode()
    with pytest.raises(FileNotFoundError):
        alone.read()


def test_an_upload_and_a_result_are_on_the_disk_before_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))
        sync(descriptor)

    storage = made(str(tmp_path))
    monkeypatch.setattr(os, "fsync", noted)
    upload = storage.open_upload("a" * 32)
    upload.write(b"video")
    assert not (tmp_path / "uploads" / ("a" * 32)).exists(), "it is not whole"
    upload.close()
    storage.write_result("a" * 32, OWNER, b"graph")
    for path in (tmp_path / "uploads" / ("a" * 32), tmp_path / "results" / OWNER / f"{'a' * 32}.json"):
        assert (path.stat().st_ino, 5) in synced
        assert path.parent.stat().st_ino in [inode for inode, _ in synced], "its name is, too"


def test_nobody_else_on_the_machine_may_look_into_the_folders(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        storage = made(str(tmp_path / "some" / "data"))
        storage.write_result("a", OWNER, b"graph")
    finally:
        os.umask(before)
    root = tmp_path / "some" / "data"
    folders = [root, root / "uploads", root / "results", root / "results" / OWNER]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 4
    assert stat.S_IMODE((tmp_path / "some").stat().st_mode) == 0o755, "that is not ours"


class StoreError(Exception):
    """An error of a store's own library."""


class Store(MemoryFileSystem):  # type: ignore[misc]
    """A store far away, which fails while `failure` says how."""

    protocol = "far"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failure: ClassVar[Exception | None] = None

    def _fails(self) -> None:
        if self.failure is not None:
            raise self.failure

    def info(self, path: str, **rest: Any) -> Any:
        """Describes a file."""
        self._fails()
        return super().info(path, **rest)

    def cat_file(self, path: str, *rest: Any, **more: Any) -> Any:
        """Reads a file."""
        self._fails()
        return super().cat_file(path, *rest, **more)

    def _open(self, path: str, *rest: Any, **more: Any) -> Any:
        self._fails()
        return super()._open(path, *rest, **more)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (StoreError("no endpoint"), StorageUnavailable),
        (PermissionError("the key is wrong"), StorageUnavailable),
        (TimeoutError(), StorageUnavailable),
        (OSError(errno.EIO, "input/output error"), StorageUnavailable),
        (OSError(errno.ENOSPC, "no space left"), StorageFull),
        (OSError(errno.EDQUOT, "over quota"), StorageFull),
    ],
)
def test_whatever_a_store_raises_is_a_storage_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, expected: type[StorageUnavailable]
) -> None:
    fsspec.register_implementation("far", Store, clobber=True)
    Store.store.clear()
    storage = made("far://bucket/prefix")
    storage.write_result("a", OWNER, b"graph")
    upload = storage.open_upload("b")
    upload.write(b"video")
    upload.close()
    monkeypatch.setattr(Store, "failure", failure)
    for ask in (
        storage.check,
        lambda: storage.open_upload("c"),
        lambda: storage.result("a", OWNER),
        lambda: storage.result("x", OWNER),
        lambda: storage.write_result("c", OWNER, b"graph"),
        lambda: storage.share("a", "c", OWNER),
        lambda: storage.files("results"),
        lambda: storage.local_upload("b").__enter__(),
        storage.mark,
        lambda: storage.make("mark"),
    ):
        with pytest.raises(expected) as raised:
            ask()
        assert type(raised.value) is expected
        assert "bucket" not in raised.value.detail
    monkeypatch.setattr(Store, "failure", None)
    storage.check()
    assert content_of(storage, "a") == (b"graph", False)


def test_a_folder_that_is_away_is_told_from_a_file_that_is_gone(tmp_path: Path) -> None:
    storage = made(str(tmp_path / "data"))
    assert storage.result("a", OWNER) is None
    with pytest.raises(FileNotFoundError):
        storage.local_upload("a").__enter__()
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "uploads").mkdir(parents=True)
    for ask in (
        storage.check,
        lambda: storage.result("a", OWNER),
        lambda: storage.local_upload("a").__enter__(),
        lambda: storage.files("uploads"),
        lambda: storage.write_result("a", OWNER, b"graph"),
    ):
        with pytest.raises(StorageUnavailable):
            ask()
    assert not list((tmp_path / "data").rglob("*.*")), "nothing is written where the disk will be"


def test_kept_frames_come_back_in_order_and_go_with_their_result(storage: Storage) -> None:
    frames = {7: KeyFrame(3.5, b"seven"), 2: KeyFrame(1.0, b"two")}
    assert storage.keep_frames("a", OWNER, frames) == [2, 7]
    storage.write_result("a", OWNER, b'{"id":"a"}')
    assert storage.kept_frames("a", OWNER).frame(7) == KeyFrame(3.5, b"seven")
    assert storage.kept_frames("a", OWNER).frame(3) is None
    assert storage.kept_frames("a", "another").read() == {}
    assert {file.video_id for file in storage.files("results")} == {"a"}, "a sweep must know whose they are"
    assert storage.share("a", "b", OWNER)
    storage.leave_to_others("a", OWNER)
    assert storage.kept_frames("a", OWNER).read() == frames, "they stay as long as the graph answers for any video"
    assert storage.delete_result("a", OWNER)
    assert storage.kept_frames("a", OWNER).read() == {}


def test_of_large_frames_the_first_ones_are_kept(storage: Storage) -> None:
    large = bytes(MOST_KEPT_BYTES // 3)
    assert storage.keep_frames("a", OWNER, {index: KeyFrame(index, large) for index in (9, 4, 6, 1)}) == [4, 6, 9]
    assert storage.kept_frames("a", OWNER).read().keys() == {4, 6, 9}
