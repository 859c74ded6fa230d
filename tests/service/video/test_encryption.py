"""Encrypted videos are refused by that name, and nothing else is."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.rendering.writer import sound_of
from service.video.elements import descend, ebml_elements
from service.video.errors import VideoEncrypted
from tests.service.video.conftest import LIMITS
from tests.service.video.test_ballast import ebml
from tests.support.videos import add_sound

KEY = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb"]
KEY += ["-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"]
needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg is not installed: tests/install-system-packages"
)


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments], check=True, timeout=60)


def assert_is_refused(clips: Any, name: str, content: bytes) -> None:
    with pytest.raises(VideoEncrypted, match="the video is encrypted: send it decrypted"):
        clips.read(clips.write(name, content))


@pytest.fixture(scope="module")
def encrypted(clips: Any) -> bytes:
    """A video in Common Encryption."""
    path: Path = clips.folder / "encrypted.mp4"
    ffmpeg("-i", clips.make("constant.mp4"), "-c", "copy", *KEY, path)
    return path.read_bytes()


@needs_ffmpeg
@pytest.mark.parametrize(
    "changed",
    [
        lambda content: content,
        # Other ways of encrypting, as they are named.
        lambda content: content.replace(b"schm\x00\x00\x00\x00cenc", b"schm\x00\x00\x00\x00cbcs"),
        lambda content: content.replace(b"schm\x00\x00\x00\x00cenc", b"schm\x00\x00\x00\x00cbc1"),
        # What says which packets are encrypted lies in boxes that FFmpeg does not know, as in Smooth Streaming.
        lambda content: re.sub(b"senc|saiz|saio", b"free", content),
        # Only the packets say so.
        lambda content: content.replace(b"encv", b"avc1"),
    ],
    ids=["cenc", "cbcs", "cbc1", "other boxes", "packets"],
)
def test_common_encryption_is_refused(clips: Any, encrypted: bytes, changed: Callable[[bytes], bytes]) -> None:
    assert_is_refused(clips, "changed.mp4", changed(encrypted))


@needs_ffmpeg
def test_fragments_in_common_encryption_are_refused(clips: Any) -> None:
    path = clips.folder / "fragments.mp4"
    ffmpeg("-i", clips.make("constant.mp4"), "-c", "copy", *KEY, "-movflags", "frag_keyframe+empty_moov", path)
    assert_is_refused(clips, "fragments.mp4", path.read_bytes())


def test_a_video_of_apples_store_is_refused(clips: Any) -> None:
    assert_is_refused(clips, "store.m4v", clips.make("constant.mp4").read_bytes().replace(b"avc1\x00", b"drmi\x00"))


def of_track(source: bytes, part: bytes) -> bytes:
    """Puts a part into the only TrackEntry of a Matroska file of PyAV, and makes all sizes around it fit."""
    cluster = source.index(b"\x1f\x43\xb6\x75")
    with tempfile.TemporaryFile() as file:
        file.write(source)
        file.flush()
        path = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae")
        (entry,) = descend(ebml_elements, file.fileno(), 0, len(source), *path)
    tracks = ebml("1654ae6b", ebml("ae", source[entry.body : entry.end] + part))
    return source[: source.index(path[0])] + ebml("18538067", tracks + source[cluster:])


def encodings(*fields: bytes) -> bytes:
    """ContentEncodings with one encoding."""
    return ebml("6d80", ebml("6240", b"".join(fields)))


@pytest.mark.parametrize(
    "encryption",
    [ebml("5035", ebml("47e1", b"\x05") + ebml("47e2", b"0123456789abcdef")), ebml("5035", ebml("47e1", b"\x05"))],
    ids=["with key id", "without"],
)
def test_encrypted_matroska_is_refused(clips: Any, encryption: bytes) -> None:
    source = clips.make("constant.mkv").read_bytes()
    plain = clips.write("rewritten.mkv", of_track(source, b""))
    assert clips.read(plain).numbers == list(range(0, 90, 6))
    part = encodings(ebml("5031", b"\x00"), ebml("5032", b"\x01"), ebml("5033", b"\x01"), encryption)
    assert_is_refused(clips, "encrypted.mkv", of_track(source, part))


def transport_packets(content: bytes) -> list[bytearray]:
    return [bytearray(content[at : at + 188]) for at in range(0, len(content), 188)]


def scrambled(content: bytes, share: float, identifier: int = 256) -> bytes:
    """Scrambles the payload of a share of the packets of a stream."""
    generator = np.random.default_rng(2)
    packets = transport_packets(content)
    for packet in packets:
        is_ours = (packet[1] & 0x1F) << 8 | packet[2] == identifier
        if is_ours and packet[3] & 0x10 and generator.random() < share:
            begin = 5 + packet[4] if packet[3] & 0x20 else 4
            packet[3] |= 0x80
            packet[begin:] = generator.integers(0, 256, 188 - begin, np.uint8).tobytes()
    return b"".join(packets)


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("size", [188, 192])
def test_a_scrambled_transport_stream_is_refused(clips: Any, share: float, size: int) -> None:
    packets = transport_packets(scrambled(clips.make("constant.ts").read_bytes(), share))
    assert_is_refused(clips, "scrambled.ts", b"".join(bytes(size - 188) + packet for packet in packets))


def test_single_packets_that_seem_scrambled_are_damage(clips: Any) -> None:
    content = clips.make("constant.ts").read_bytes()
    assert len(clips.read(clips.write("damaged.ts", scrambled(content, 0.02))).numbers) > 5


def checksum(section: bytes) -> bytes:
    """CRC-32 as MPEG-2 has it."""
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4)


def test_hls_that_is_encrypted_sample_by_sample_is_refused(clips: Any) -> None:
    packets = transport_packets(clips.make("constant.ts").read_bytes())
    for packet in packets:
        if (packet[1] & 0x1F) << 8 | packet[2] == 4096 and packet[1] & 0x40:  # the map of the programme
            length = (packet[6] & 15) << 8 | packet[7]
            section = packet[5 : 8 + length - 4]
            section[12] = 0xDB
            packet[5 : 8 + length] = section + checksum(section)
    assert_is_refused(clips, "sample_aes.ts", b"".join(packets))


def test_a_scrambled_dvd_is_refused(clips: Any) -> None:
    content = bytearray(clips.make("dvd.vob", codec="mpeg2video", rate=25).read_bytes())
    plain = clips.read(clips.write("plain.mpg", content))
    assert len(plain.numbers) > 5
    for found in re.finditer(b"(?s)\x00\x00\x01\xe0..[\x80-\xbf]", bytes(content)):
        content[found.end() - 1] |= 0x30
    assert_is_refused(clips, "scrambled.mpg", bytes(content))


def test_encrypted_sound_does_not_matter_and_is_not_copied(clips: Any) -> None:
    source = add_sound(clips.make("constant.mp4"), clips.folder / "with_sound.mp4")
    with sound_of(source, LIMITS) as sound:
        assert sound is not None
    path = clips.write("encrypted_sound.mp4", source.read_bytes().replace(b"mp4a\x00", b"enca\x00"))
    assert clips.read(path).numbers == list(range(0, 90, 6))
    with sound_of(path, LIMITS) as sound:
        assert sound is None


@pytest.mark.parametrize("name", ["constant.mp4", "constant.mkv", "constant.ts", "fragmented.mp4"])
def test_clear_videos_are_read(clips: Any, name: str) -> None:
    options = {"container_options": {"movflags": "frag_keyframe+empty_moov"}} if name == "fragmented.mp4" else {}
    assert clips.read(clips.make(name, **options)).numbers == list(range(0, 90, 6))
