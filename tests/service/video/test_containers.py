from __future__ import annotations

import contextlib

import pytest

from service.errors import EmptyUpload
from service.video import Container, sniff_container
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


@pytest.mark.parametrize("length", range(1, 13))
def test_heads_of_any_length_give_a_container_or_a_refusal(length: int) -> None:
    for whole in (b"\x00\x00\x00\x20ftypheic", b"RIFF\x00\x10\x00\x00AVI ", b"\xff\xfb\x90\x64" * 3, b"GIF89a" * 2):
        with contextlib.suppress(UnsupportedMedia):
            assert sniff_container(whole[:length]) in Container
