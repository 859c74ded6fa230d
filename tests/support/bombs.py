"""Small files that claim, or unpack to, far more than they hold."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av

from tests.support.videos import make_video

ABSURD_SIDE = 32768
_BILLION = struct.pack(">I", 10**9)


def make_bombs(folder: Path) -> dict[str, bytes]:
    """Writes all of them; returns their paths by what they do."""
    clip = make_video(folder / "clip.mp4").read_bytes()
    return {
        "H.264 of 32768x32768": _replaced_sps(clip),
        "sample entry of 32768x32768": _changed(clip, b"avc1", 28, struct.pack(">HH", 32768, 32768)),
        "billion frames of one byte": _changed(clip, b"stsz", 8, struct.pack(">I", 1) + _BILLION),
        "billion key frames": _changed(clip, b"stss", 8, _BILLION),
        "billion times": _changed(clip, b"stts", 12, _BILLION),
        "four billion frames per second": _changed(clip, b"mdhd", 16, struct.pack(">I", 2**32 - 1)),
        "a frame lasts for years": _changed(clip, b"stts", 16, struct.pack(">I", 2**31 - 1)),
        "GIF of 65535x65535": _huge_gif(folder / "huge.gif"),
        "PNG of 32768x32768": _png_video(folder / "huge.mov", ABSURD_SIDE, ABSURD_SIDE, rows=16),
        "PNG that unpacks to 200 MB": _png_video(folder / "deep.mov", 7680, 4320),
        "PNGs that take a minute to unpack": _png_video(folder / "long.mov", 4000, 4000, count=100),
    }


def _changed(clip: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Overwrites the bytes that begin `offset` bytes after the name of the box."""
    begin = clip.rindex(box) + offset
    return clip[:begin] + value + clip[begin + len(value) :]


def _replaced_sps(clip: bytes) -> bytes:
    """Makes the H.264 headers themselves declare the size; pads the first ones to the length of the old ones."""
    begin = clip.index(b"avcC") + 4 + 6
    (length,) = struct.unpack(">H", clip[begin : begin + 2])
    sps = _sequence_parameters(ABSURD_SIDE // 16)
    assert len(sps) <= length
    return clip[: begin + 2] + sps.ljust(length, b"\0") + clip[begin + 2 + length :]


def _sequence_parameters(macroblocks: int) -> bytes:
    """H.264's sequence parameter set of a square picture, in baseline profile."""
    numbers = "".join(map(_exponential_golomb, (0, 0, 2, 1)))
    size = _exponential_golomb(macroblocks - 1) * 2
    bits = numbers + "0" + size + "1100" + "1"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    content = bytes([66, 0, 51]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    for follower in range(4):  # three bytes that would look like the beginning of a unit are kept apart
        content = content.replace(bytes([0, 0, follower]), bytes([0, 0, 3, follower]))
    return b"\x67" + content


def _exponential_golomb(number: int) -> str:
    binary = f"{number + 1:b}"
    return "0" * (len(binary) - 1) + binary


def _huge_gif(path: Path) -> bytes:
    with av.open(path, "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb8"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame(16, 16, "rgb8")))
        container.mux(stream.encode())
    content = path.read_bytes()
    return content[:6] + struct.pack("<HH", 65535, 65535) + content[10:]


def _png_video(path: Path, width: int, height: int, *, rows: int | None = None, count: int = 3) -> bytes:
    """A video of black 16-bit pictures that are cut off after some rows."""
    packer = zlib.compressobj(9)
    blank = (packer.compress(bytes(1 + 6 * width)) for _ in range(height if rows is None else rows))
    packed = b"".join(blank) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    with av.open(path, "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb48be"
        for index in range(count):
            copy = av.Packet(picture)
            copy.stream, copy.time_base, copy.is_keyframe = stream, Fraction(1, 25), True
            copy.pts = copy.dts = index
            container.mux(copy)
    return path.read_bytes()
