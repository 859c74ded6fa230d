from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.errors import EmptyUpload
from service.video import SNIFF_BYTES, Container, sniff_container
from service.video.errors import UnsupportedMedia

MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(400)


def packets(size: int, offset: int) -> bytes:
    """MPEG-TS packets, as in a transport stream (188, 0) or on a camera's card (192, 4)."""
    return (bytes(offset) + b"\x47" + bytes(size - offset - 1)) * 5


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41", Container.MP4),
        (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", Container.MP4),
        (b"\x00\x00\x00\x14ftyp3gp4\x00\x00\x00\x00", Container.MP4),
        (b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat", Container.MP4),
        (b"\x00\x00\x10\x00moov\x00\x00\x00\x6cmvhd", Container.MP4),
        (b"\x00\x00\x10\x00mdat", Container.MP4),
        (b"\x00\x00\x00\x08free\x00\x00\x10\x00mdat", Container.MP4),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01", Container.MATROSKA),
        (b"RIFF\x00\x10\x00\x00AVI LIST", Container.AVI),
        (packets(188, 0), Container.MPEG_TS),
        (packets(192, 4), Container.MPEG_TS),
        (packets(204, 0), Container.MPEG_TS),
        (b"\x00\x00\x01\xba\x44\x00\x04", Container.MPEG_PS),
        (b"GIF89a\x10\x00\x10\x00", Container.GIF),
        (b"FLV\x01\x05\x00\x00\x00\x09", Container.FLV),
        (b"OggS\x00\x02", Container.OGG),
    ],
)
def test_video_containers_are_known_by_their_first_bytes(head: bytes, container: Container) -> None:
    assert sniff_container(head) is container


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image"),
        (b"RIFF\x00\x10\x00\x00WEBPVP8 ", "a WebP image"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00", "an AVIF image"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "a HEIC image"),
        (b"ID3\x04\x00\x00\x00\x00", "an MP3"),
        (MP3_FRAME, "an MP3"),
        (b"\xff\xf1\x50\x80" + bytes(100), "an AAC audio file"),
        (b"RIFF\x00\x10\x00\x00WAVEfmt ", "a WAV audio file"),
        (b"fLaC\x00\x00\x00\x22", "a FLAC audio file"),
        (b"\x00\x00\x00\x20ftypM4A \x00\x00\x02\x00", "an M4A audio file"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS playlist"),
        (b"\xef\xbb\xbf  \n#EXTM3U\n", "an HLS playlist"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "a list of files to join"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash">', "a DASH manifest"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"just some words", "text"),
        ("ein Satz über Bücher ".encode() * 300, "text"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
        (b"\x47", "text"),
        (b"GATTACA\n" * 500, "text"),
        (b"G" * 3000, "text"),
        # A segment of an HLS stream that is encrypted as a whole has no other mark.
        (np.random.default_rng(1).integers(0, 256, 20_000, np.uint8).tobytes(), "encrypted or compressed data"),
    ],
)
def test_other_files_are_refused_by_the_name_of_their_kind(head: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=f"looks like {name}, not a video"):
        sniff_container(head)


@pytest.mark.parametrize("head", [b"\x00" * 64, b"\xfe\x00 anything"])
def test_bytes_of_an_unknown_kind_are_refused_with_the_formats_that_are_known(head: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="not in a known video format: send MP4, MOV"):
        sniff_container(head)


def test_an_upload_without_bytes_is_refused() -> None:
    with pytest.raises(EmptyUpload):
        sniff_container(b"")


def with_time_codes(stream: bytes) -> bytes:
    return b"".join(bytes(4) + stream[at : at + 188] for at in range(0, len(stream), 188))


def with_checksums(stream: bytes) -> bytes:
    return b"".join(stream[at : at + 188] + bytes(16) for at in range(0, len(stream), 188))


TRANSPORT = {"188": bytes, "192": with_time_codes, "204": with_checksums}
NOISE = np.random.default_rng(5).integers(0, 256, SNIFF_BYTES, np.uint8).tobytes()


@pytest.mark.parametrize("cut", [1, 77, 100, 187])
@pytest.mark.parametrize("size", TRANSPORT)
def test_a_transport_stream_may_begin_within_a_packet(clips: Any, size: str, cut: int) -> None:
    content = TRANSPORT[size](clips.make("constant.ts").read_bytes())
    in_step = clips.read(clips.write("in_step.ts", content[int(size) :]))
    video = clips.read(clips.write("out_of_step.ts", content[cut:]))
    assert len(video.numbers) >= 9
    assert video.numbers == in_step.numbers
    assert video.timestamps.tolist() == in_step.timestamps.tolist()


@pytest.mark.parametrize("junk", [bytes(50), b"\xff\xfb\x90\x64" * 300, NOISE[:5000], NOISE[:50_000]], ids=len)
@pytest.mark.parametrize("size", TRANSPORT)
def test_a_transport_stream_may_follow_something_else(clips: Any, size: str, junk: bytes) -> None:
    whole = clips.read(clips.make("constant.ts"))
    content = TRANSPORT[size](clips.make("constant.ts").read_bytes())
    video = clips.read(clips.write("after_junk.ts", junk + content))
    assert video.numbers == whole.numbers
    assert np.array_equal(video.frames, whole.frames)


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize("change", [lambda whole: whole[100:], lambda whole: NOISE[:5000] + whole], ids=["cut", "junk"])
def test_a_program_stream_may_begin_anywhere(clips: Any, codec: str, change: Callable[[bytes], bytes]) -> None:
    content = clips.make(f"{codec}.mpg", codec=codec, rate=25, options={"g": "12"}).read_bytes()
    assert len(clips.read(clips.write("anywhere.mpg", change(content)), fps=1.0).numbers) >= 3


@pytest.mark.parametrize("junk", [b"", NOISE[:300]])
def test_too_few_packets_out_of_step_are_no_transport_stream(junk: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        sniff_container(junk + (b"\x47\x40\x00\x10" + NOISE[:184]) * 4 + NOISE[:500])


def test_text_that_looks_like_packets_stays_text() -> None:
    lines = b"".join(b"GET /%03d " % number + b"x" * 178 + b"\n" for number in range(50))
    with pytest.raises(UnsupportedMedia, match="looks like text"):
        sniff_container(b"Log\n" + lines)


def test_only_the_first_bytes_decide() -> None:
    """The service sniffs what has arrived, and the reader sniffs the file: both must find the same."""
    late = NOISE + packets(188, 0) * 20
    with pytest.raises(UnsupportedMedia, match="looks like encrypted or compressed data"):
        sniff_container(late)
    with pytest.raises(UnsupportedMedia):
        sniff_container(late[:SNIFF_BYTES])


@pytest.mark.parametrize("length", range(1, 13))
def test_heads_of_any_length_give_a_container_or_a_refusal(length: int) -> None:
    for whole in (b"\x00\x00\x00\x20ftypheic", b"RIFF\x00\x10\x00\x00AVI ", b"\xff\xfb\x90\x64" * 3, b"GIF89a" * 2):
        with contextlib.suppress(UnsupportedMedia):
            assert sniff_container(whole[:length]) in Container
