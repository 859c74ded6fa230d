"""Names the container of a file from its first bytes. The content, never the file name, chooses the demuxer.

The libraries puremagic and filetype do not serve: neither knows MPEG transport streams, DASH manifests or plain text,
puremagic takes zeros for an embroidery design, and filetype has no names to show.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum

from service.errors import EmptyUpload
from service.video.errors import UnsupportedMedia

SNIFF_BYTES = 64 * 1024  # how much of the beginning of a file `sniff_container` needs


class Container(StrEnum):
    """Containers that are decoded. The value is the name of the only demuxer that may read the file."""

    MP4 = "mov"
    MATROSKA = "matroska"
    AVI = "avi"
    MPEG_TS = "mpegts"
    MPEG_PS = "mpeg"
    GIF = "gif"
    FLV = "flv"
    OGG = "ogg"


_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"sidx", b"moof"}
_STILL_BRANDS = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"hevc": "a HEIC image",
    b"mif1": "a HEIF image",
    b"msf1": "a HEIF image",
    b"crx ": "a camera raw image",
    b"M4A ": "an M4A audio file",
    b"M4B ": "an M4B audio file",
    b"M4P ": "an M4P audio file",
}
_OTHER_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"ID3", "an MP3"),
    (b"fLaC", "a FLAC audio file"),
    (b"MThd", "a MIDI file"),
    (b"caff", "a Core Audio file"),
    (b"#!AMR", "an AMR audio file"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_TEXT_BEGINNINGS = (
    (b"#extm3u", "an HLS playlist"),
    (b"ffconcat", "a list of files to join"),
    (b"[playlist]", "a playlist"),
    (b"v=0", "a session description"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)
# Sizes of MPEG-TS packets: 192 where a Blu-ray or an AVCHD camera puts a time code in front, 204 where a broadcast puts
# a checksum behind.
_TS_SIZES = (188, 192, 204)
# A capture may begin in the middle of a packet, or after something else. So many packets in a row are no chance: each
# has its synchronisation byte, is not marked as damaged, and has a payload or an adaptation field.
_TS_PACKETS = tuple(
    re.compile(rb"(?s)(?:\x47[\x00-\x7f].[\x10-\x3f\x50-\x7f\x90-\xbf\xd0-\xff].{%d}){5}" % (size - 4))
    for size in _TS_SIZES
)
# The head of a pack of MPEG-2 or MPEG-1, and the beginning of what comes next: a system header, a packet or a pack.
_PS_PACK = re.compile(
    rb"(?s)\x00\x00\x01\xba(?:[\x40-\x7f].{8}[\xf8-\xff].{0,7}|[\x20-\x2f].{7})\x00\x00\x01[\xba-\xbf\xc0-\xef]"
)
_NOISE_BYTES = 4096  # fewer bytes do not tell noise from other data
_SUPPORTED = "MP4, MOV, 3GP, WebM, Matroska, AVI, MPEG-TS, MPEG-PS, FLV, Ogg or animated GIF"


def sniff_container(head: bytes) -> Container:
    """Names the container of a file that begins with `head`, at least its first SNIFF_BYTES bytes or all of it.

    Raises EmptyUpload where there are no bytes. Raises UnsupportedMedia for everything but a video container: images,
    audio files, archives, text, and playlists, which would make a decoder open other files. The error says what the
    file looks like.
    """
    if not head:
        raise EmptyUpload("the upload has no bytes: send the bytes of a video")
    head = head[:SNIFF_BYTES]
    container = _container_of(head)
    if container is None:
        kind = _kind_of(head)
        looks = f"the upload looks like {kind}, not a video" if kind else "the upload is not in a known video format"
        raise UnsupportedMedia(f"{looks}: send {_SUPPORTED}")
    return container


def _container_of(head: bytes) -> Container | None:
    if head[4:8] in _MP4_BOXES:
        still = head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS
        return None if still else Container.MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return Container.MATROSKA
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"AVIX"):
        return Container.AVI
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Container.GIF
    if head.startswith(b"FLV\x01"):
        return Container.FLV
    if head.startswith(b"OggS"):
        return Container.OGG
    if head.startswith(b"\x00\x00\x01\xba"):
        return Container.MPEG_PS
    return None if _kind_of_text(head) is not None else _stream_within(head)


def _stream_within(head: bytes) -> Container | None:
    """Names a container that can be read from anywhere, and that may begin in the middle of a packet or after junk."""
    in_step = any(_synchronised(head, offset=4 if size == 192 else 0, step=size) for size in _TS_SIZES)
    if in_step or transport_packets(head) is not None:
        return Container.MPEG_TS
    return Container.MPEG_PS if _PS_PACK.search(head) else None


def transport_packets(data: bytes) -> tuple[int, int] | None:
    """Returns where packets of MPEG-TS begin, and their size in bytes; None where there are none in a row."""
    for size, packets in zip(_TS_SIZES, _TS_PACKETS, strict=True):
        if found := packets.search(data):
            return found.start(), size
    return None


def _synchronised(head: bytes, offset: int, step: int) -> bool:
    """Tells whether every packet begins with the synchronisation byte of MPEG-TS."""
    marks = head[offset::step]
    return len(marks) >= 3 and set(marks) == {0x47}


def _kind_of(head: bytes) -> str | None:
    """Names the kind of a file that is no video, None where the kind is unknown."""
    if head[4:8] == b"ftyp":
        return _STILL_BRANDS[head[8:12]]
    for magic, name in _OTHER_MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF"):
        return {b"WAVE": "a WAV audio file", b"WEBP": "a WebP image"}.get(head[8:12], "an unknown RIFF file")
    if _is_noise(head):
        return "encrypted or compressed data"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # AAC leaves both layer bits of an MPEG audio frame zero.
        return "an MP3" if head[1] & 0x06 else "an AAC audio file"
    return _kind_of_text(head)


def _is_noise(head: bytes) -> bool:
    """Tells whether every byte is about as frequent, as in a segment of an HLS stream that is encrypted as a whole."""
    even, counts = len(head) / 256, Counter(head)
    # Chi-squared with 255 degrees of freedom: of random data not one in a million is above the bound.
    return len(head) >= _NOISE_BYTES and sum((counts[byte] - even) ** 2 for byte in range(256)) < 380 * even


def _kind_of_text(head: bytes) -> str | None:
    if b"\x00" in head:
        return None
    try:
        # SNIFF_BYTES may cut the last character in two.
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, name in _TEXT_BEGINNINGS:
        if text.startswith(beginning):
            return name
    if b"<mpd" in text:
        return "a DASH manifest"
    if b"<svg" in text:
        return "an SVG image"
    return "text"
