"""What a file carries beside its streams costs no memory and changes nothing."""

from __future__ import annotations

import itertools
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from service.video import Container
from service.video.ballast import Patch, PatchedFile, ballast
from service.video.elements import boxes, chunks, ebml_elements
from service.video.processes import FORK_SERVER

HEAVY = 120 * 2**20
MEBIBYTE = 2**20


def ebml(kind: str, content: bytes, *, length: int = 8) -> bytes:
    return bytes.fromhex(kind) + (len(content) | 1 << 7 * length).to_bytes(length) + content


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def attachment(mime: bytes, content: bytes) -> bytes:
    fields = ebml("466e", b"thing.bin") + ebml("4660", mime) + ebml("46ae", b"\x07") + ebml("465c", content)
    return ebml("1941a469", ebml("61a7", fields))


def tags(content: bytes) -> bytes:
    simple = ebml("67c8", ebml("45a3", b"COMMENT") + ebml("4487", b"x" * len(content)))
    return ebml("1254c367", ebml("7373", ebml("63c0", b"") + simple))


def in_segment(source: bytes, part: bytes) -> bytes:
    """Puts a part into a Matroska file of PyAV, before its clusters; the size of the segment becomes unknown."""
    segment = source.index(b"\x18\x53\x80\x67")
    cluster = source.index(b"\x1f\x43\xb6\x75")
    head = source[:segment] + b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    return head + source[segment + 12 : cluster] + part + source[cluster:]


def in_movie(source: bytes, part: bytes) -> bytes:
    """Puts a box into the `moov` of an MP4, which lies at its end."""
    begin = source.rindex(b"moov") - 4
    return source[:begin] + box(b"moov", source[begin + 8 :] + part)


def cover(content: bytes) -> bytes:
    item = box(b"ilst", box(b"covr", box(b"data", struct.pack(">II", 13, 0) + content)))
    handler = box(b"hdlr", struct.pack(">II4s", 0, 0, b"mdir") + bytes(13))
    return box(b"udta", box(b"meta", bytes(4) + handler + item))


def comment(content: bytes) -> bytes:
    item = box(b"ilst", box(b"\xa9cmt", box(b"data", struct.pack(">II", 1, 0) + b"x" * len(content))))
    handler = box(b"hdlr", struct.pack(">II4s", 0, 0, b"mdir") + bytes(13))
    return box(b"udta", box(b"meta", bytes(4) + handler + item))


def words(kind: bytes, content: bytes) -> bytes:
    """A chunk of AVI, which fills up to an even length."""
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def before_the_pictures(source: bytes, part: bytes) -> bytes:
    begin = source.index(b"movi") - 8
    return source[:4] + struct.pack("<I", len(source) + len(part) - 8) + source[8:begin] + part + source[begin:]


def in_the_stream(source: bytes, part: bytes) -> bytes:
    """Puts a chunk at the end of the first list `strl` of an AVI, and so of `hdrl`."""
    changed = bytearray(source)
    ends = []
    for name in (b"hdrl", b"strl"):
        at = source.index(name) - 4
        (size,) = struct.unpack_from("<I", source, at)
        struct.pack_into("<I", changed, at, size + len(part))
        ends.append(at + 4 + size)
    return bytes(changed[: ends[1]] + part + changed[ends[1] :])


REVERSED = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))


def ogg_page(flags: int, stream: bytes, number: int, lacing: bytes, body: bytes) -> bytes:
    head = b"OggS\0" + struct.pack("<Bq", flags, 0) + stream + struct.pack("<I", number)
    page = head + bytes(4) + bytes([len(lacing)]) + lacing + body
    # The CRC of Ogg takes the bits of a byte the other way round.
    raw = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    checksum = int(f"{raw:032b}"[::-1], 2)
    return head + struct.pack("<I", checksum) + page[26:]


def with_ogg_comment(source: bytes, content: bytes) -> bytes:
    """Puts a comment in front of the second packet of an Ogg file with VP8, which has none."""
    first_end = source.index(b"OggS", 4)
    stream = source[14:18]
    text = b"COMMENT=" + b"x" * len(content)
    packet = b"OVP80\x02\x20" + struct.pack("<II", 0, 1) + struct.pack("<I", len(text)) + text
    pieces = [packet[at : at + 255 * 255] for at in range(0, len(packet), 255 * 255)]
    pages = []
    for number, piece in enumerate(pieces):
        lacing = b"\xff" * (len(piece) // 255)
        if number == len(pieces) - 1:
            lacing += bytes([len(piece) % 255])
        pages.append(ogg_page(int(number > 0), stream, number + 1, lacing, piece))
    return source[:first_end] + b"".join(pages) + source[first_end:]


BURDENS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "font.mkv": lambda source, content: in_segment(source, attachment(b"font/ttf", content)),
    "unknown.mkv": lambda source, content: in_segment(source, attachment(b"application/octet-stream", content)),
    "cover.mkv": lambda source, content: in_segment(source, attachment(b"image/jpeg", content)),
    "late.mkv": lambda source, content: source + attachment(b"font/ttf", content),
    "tags.mkv": lambda source, content: in_segment(source, tags(content)),
    "cover.mp4": lambda source, content: in_movie(source, cover(content)),
    "comment.mp4": lambda source, content: in_movie(source, comment(content)),
    "information.avi": lambda source, content: before_the_pictures(
        source, words(b"LIST", b"INFO" + words(b"ICMT", b"x" * len(content)))
    ),
    "name.avi": lambda source, content: in_the_stream(source, words(b"strn", b"x" * len(content))),
    "camera.avi": lambda source, content: in_the_stream(source, words(b"strd", content)),
    "comment.ogv": with_ogg_comment,
}
CODECS = {".avi": "mpeg4", ".ogv": "libvpx"}
CONTAINERS = {
    ".mkv": Container.MATROSKA,
    ".mp4": Container.MP4,
    ".avi": Container.AVI,
    ".ogv": Container.OGG,
}


def plain_file(clips: Any, suffix: str) -> Path:
    made: Path = clips.make(f"constant{suffix}", codec=CODECS.get(suffix, "libx264"))
    return made


class Peak:
    """The most memory that a decoder process has while the context lasts, in bytes."""

    def __enter__(self) -> Peak:
        self.bytes = 0
        assert FORK_SERVER._process is not None
        # Other tests of this process may have left servers with children of their own.
        self._server = psutil.Process(FORK_SERVER._process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.003):
            for decoder in self._server.children():
                try:
                    self.bytes = max(self.bytes, decoder.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


@pytest.mark.parametrize("name", BURDENS)
def test_what_lies_beside_the_streams_takes_no_memory(clips: Any, name: str) -> None:
    source = plain_file(clips, Path(name).suffix)
    plain = clips.read(source)
    FORK_SERVER.prepare()
    path = clips.write(f"heavy_{name}", BURDENS[name](source.read_bytes(), os.urandom(MEBIBYTE) * (HEAVY // MEBIBYTE)))
    with Peak() as peak:
        video = clips.read(path)
    path.unlink()
    assert 0 < peak.bytes < HEAVY
    assert video.numbers == plain.numbers
    assert np.array_equal(video.frames, plain.frames)
    assert video.timestamps.tolist() == plain.timestamps.tolist()
    assert video.warnings == []


@pytest.mark.parametrize("name", BURDENS)
def test_a_small_cover_or_attachment_is_left_alone(clips: Any, name: str) -> None:
    source = plain_file(clips, Path(name).suffix)
    path = clips.write(f"light_{name}", BURDENS[name](source.read_bytes(), bytes(1000)))
    with path.open("rb") as file:
        assert ballast(file.fileno(), CONTAINERS[path.suffix]) == []
    assert clips.read(path).numbers == clips.read(source).numbers


@pytest.mark.parametrize("length", range(4, 9))
def test_an_attachment_becomes_a_void_that_ends_where_it_ended(clips: Any, length: int) -> None:
    content = ebml("1941a469", bytes(2 * MEBIBYTE), length=length)
    path = clips.write("void.mkv", ebml("1a45dfa3", b"") + ebml("18538067", content + ebml("1f43b675", b"cluster")))
    with path.open("rb") as file:
        patched = PatchedFile(file.fileno(), ballast(file.fileno(), Container.MATROSKA))
        shown = clips.write("shown.mkv", patched.read(path.stat().st_size))
    with shown.open("rb") as file:
        _, segment = ebml_elements(file.fileno(), 0, shown.stat().st_size)
        void, cluster = ebml_elements(file.fileno(), segment.body, segment.end)
    assert (void.kind, cluster.kind) == (b"\xec", b"\x1f\x43\xb6\x75")
    assert shown.stat().st_size == path.stat().st_size


def test_a_patched_file_reads_the_same_in_pieces_of_any_size(clips: Any) -> None:
    content = bytes(range(200))
    patches = [Patch(3, 6, b"abcdef"), Patch(50, 2, b"XY"), Patch(190, 10, b"0123456789")]
    expected = bytearray(content)
    for patch in patches:
        expected[patch.at : patch.at + patch.length] = patch.content
    path = clips.write("patched", content)
    with path.open("rb") as file:
        for size in (1, 2, 3, 7, 64, 200, 500):
            patched = PatchedFile(file.fileno(), patches)
            assert b"".join(iter(lambda: patched.read(size), b"")) == expected  # noqa: B023
        for begin, size in itertools.product(range(0, 210, 5), (1, 8, 60)):
            patched.seek(begin)
            assert patched.read(size) == expected[begin : begin + size]
        assert patched.seek(-10, os.SEEK_END) == 190
        patched.read(4)
        assert (patched.seek(2, os.SEEK_CUR), patched.tell()) == (196, 196)


def test_a_patched_file_reads_without_what_is_taken_out(clips: Any) -> None:
    content = bytes(range(200))
    patches = [Patch(0, 10, b""), Patch(50, 30, b"+"), Patch(180, 20, b"")]
    expected = content[10:50] + b"+" + content[80:180]
    path = clips.write("shorter", content)
    with path.open("rb") as file:
        for size in (1, 3, 41, 500):
            patched = PatchedFile(file.fileno(), patches)
            assert b"".join(iter(lambda: patched.read(size), b"")) == expected  # noqa: B023
        assert patched.seek(-100, os.SEEK_END) == 41
        assert patched.read(500) == content[80:180]


@pytest.mark.parametrize("walk", [boxes, ebml_elements, chunks])
def test_a_walk_over_damaged_heads_ends(clips: Any, walk: Callable[..., Any]) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (50, 300), np.uint8)
    whole = (b"", b"\x00", bytes(500), b"\xff" * 500, b"\xec\x80" * 300_000, b"LIST\4\0\0\0strl" * 100)
    for content in (*whole, *(each.tobytes() for each in noise)):
        path = clips.write("damaged", content)
        with path.open("rb") as file:
            elements = list(walk(file.fileno(), 0, len(content)))
        assert len(elements) <= 100_000
        assert all(each.begin < each.body and each.end <= len(content) for each in elements)
