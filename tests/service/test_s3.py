"""Storage in S3, with a real server of it on this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.commands.starting import check_start
from service.errors import SettingsError, Unavailable
from service.settings import load_settings
from service.storage import Storage
from tests.support.ports import unused_port
from tests.support.waiting import until

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
pytest.importorskip("moto.server", reason="moto[server] is not installed")

OWNER = "me"
DATA = "s3://videos/prefix"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of S3."""
    import httpx

    port = unused_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                try:
                    return httpx.get(url, trust_env=False).status_code < 500
                except httpx.HTTPError:
                    return False

            until(answers, 240)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def files(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bucket `videos`, empty, as s3fs sees it."""
    import s3fs  # type: ignore[import-not-found,import-untyped,unused-ignore]

    for name, value in {
        "FSSPEC_S3_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    found = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True)
    if found.exists("videos"):
        found.rm("videos", recursive=True)
    found.mkdir("videos")
    return found


@pytest.fixture
def storage(files: Any) -> Storage:
    made = Storage(DATA)
    made.make("mark")
    return made


def test_uploads_and_results_come_back(storage: Storage) -> None:
    upload = storage.open_upload("a" * 32)
    upload.write(bytes(3 << 20))
    upload.write(bytes(4 << 20))
    upload.close()
    with storage.local_upload("a" * 32) as path:
        assert path.stat().st_size == 7 << 20
    assert storage.result("a" * 32, OWNER) is None
    storage.write_result("a" * 32, OWNER, b"graph")
    result = storage.result("a" * 32, OWNER)
    assert result is not None
    assert result.read() == b"graph"
    assert abs(result.age) < 60
    assert [file.video_id for file in storage.files("results")] == ["a" * 32]
    storage.check()


async def test_a_bucket_that_is_not_there_is_refused_and_not_made(files: Any) -> None:
    with pytest.raises(SettingsError, match="VSG_DATA is 's3://vidoes/prefix': it is not there"):
        await check_start(load_settings({"data": "s3://vidoes/prefix"}), waits=False)
    assert not files.exists("vidoes")


async def test_an_endpoint_that_is_dead_is_refused(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = f"http://127.0.0.1:{unused_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", dead)
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", dead)
    with pytest.raises(SettingsError, match="VSG_DATA is 's3://videos/prefix': it does not answer"):
        await check_start(load_settings({"data": DATA}), waits=False)


def test_eight_uploads_at_once_take_little_memory(storage: Storage) -> None:
    tracemalloc.start()
    try:
        uploads = [storage.open_upload(f"{number:032x}") for number in range(8)]
        for _ in range(24):
            for upload in uploads:
                upload.write(bytes(1 << 20))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        for upload in uploads:
            upload.abandon()
    assert most < 120 << 20, "eight blocks, and the copies of one"


def test_more_uploads_than_the_memory_allows_are_refused_until_others_have_ended(storage: Storage) -> None:
    uploads = [storage.open_upload(f"{number:032x}") for number in range(32)]
    with pytest.raises(Unavailable, match="32 uploads arrive here already"):
        storage.open_upload("f" * 32)
    uploads.pop().abandon()
    storage.open_upload("f" * 32).abandon()
    for upload in uploads:
        upload.abandon()
        upload.abandon()
    for number in range(32):
        storage.open_upload(f"{number:032x}").abandon()


def test_an_upload_that_is_given_up_leaves_nothing(storage: Storage, files: Any) -> None:
    upload = storage.open_upload("a" * 32)
    upload.write(bytes(6 << 20))
    assert files.list_multipart_uploads("videos")
    upload.abandon()
    assert not files.list_multipart_uploads("videos")
    assert not storage.files("uploads")


def test_parts_of_uploads_whose_process_was_killed_are_swept(storage: Storage, files: Any) -> None:
    left = storage.open_upload("a" * 32)  # nobody ends it
    left.write(bytes(6 << 20))
    elsewhere = files.open("videos/other/file", "wb", block_size=5 << 20)
    elsewhere.write(bytes(6 << 20))
    elsewhere.flush()
    since = time.time() - min(begun["Initiated"].timestamp() for begun in files.list_multipart_uploads("videos"))
    storage.end_unfinished(since + 60)
    assert len(files.list_multipart_uploads("videos")) == 2, "it may still arrive"
    storage.end_unfinished(since - 60)
    assert [begun["Key"] for begun in files.list_multipart_uploads("videos")] == ["other/file"], "that is not ours"
    elsewhere.discard()
    elsewhere.closed = left._file.closed = True


def test_a_sweep_is_a_few_listings(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        storage.write_result(f"{number:032x}", OWNER, b"graph")
    asked: list[str] = []
    call = storage._files._call_s3

    async def noted(method: str, *rest: Any, **more: Any) -> Any:
        asked.append(method)
        return await call(method, *rest, **more)

    monkeypatch.setattr(storage._files, "_call_s3", noted)
    monkeypatch.setattr(storage, "_confirm", lambda: None)
    assert len(storage.files("results")) == 30
    assert len(asked) <= 2


def test_an_archive_is_searched_and_nothing_else_of_the_bucket(files: Any) -> None:
    duckdb = pytest.importorskip("duckdb", reason="the extra archive is not installed")
    from service.archive.folder import ArchiveFolder
    from service.archive.writing import append
    from service.search import moments
    from service.search.queries import parse
    from tests.support.searched import video_rows

    archive = ArchiveFolder("s3://videos/archive")
    archive.make()
    append(archive, video_rows("aaaaaaaaaaaa", OWNER, None, [("holding", "bed", 0.5)]))
    query = parse("person holding bed", moments.words_of(archive))
    assert moments.find_moments(archive, query, owner=OWNER).total == 1
    assert moments.find_moments(archive, query, owner="another").total == 0
    files.pipe_file("videos/other.csv", b"secret\n1\n")
    with moments._connection(archive.url) as connection, pytest.raises(duckdb.PermissionException):
        connection.execute("SELECT * FROM read_csv('s3://videos/other.csv')")


def test_an_archive_in_s3_is_written_compacted_read_and_deleted_from(files: Any) -> None:
    pytest.importorskip("pyarrow", reason="the extra archive is not installed")
    from service.archive.compaction import compact, forget
    from service.archive.folder import ArchiveFolder
    from service.archive.reading import files as files_of
    from service.archive.reading import finished, read_table
    from service.archive.tables import video_key
    from service.batch.listing import fetched, list_videos
    from tests.support.archives import make_archive

    folder = make_archive("s3://videos/archive", ["a", "b"])
    compact(folder)
    [address] = files_of(folder).addresses["relations"]
    assert address.startswith("s3://videos/archive/relations/packed-")
    make_archive("s3://videos/archive", ["c"])
    assert read_table(folder, "relations").num_rows == 3 * 3
    forget(folder, [video_key("a")])
    again = ArchiveFolder("s3://videos/archive")
    assert finished(again) == {video_key("b"), video_key("c")}
    assert read_table(again, "relations").num_rows == 2 * 3

    files.pipe_file("videos/source/one.mp4", b"1")
    [video] = list_videos("s3://videos/source")
    assert (video.path, video.etag) == ("s3://videos/source/one.mp4", "c4ca4238a0b923820dcc509a6f75849b")
    with tempfile.TemporaryDirectory() as place:
        assert Path(fetched(video.path, place)).read_bytes() == b"1"
