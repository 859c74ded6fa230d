"""Finds out whether a stream is encrypted, by what its container says. Runs in the decoder process.

FFmpeg decodes an encrypted stream as if it were none, and some decoders make grey pictures of it without an error.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from service.video.containers import SNIFF_BYTES, Container, transport_packets
from service.video.elements import boxes, descend, ebml_elements

# Of Common Encryption, and of Apple's stores.
_ENCRYPTED_PICTURES = {b"encv", b"drmi"}
_ENCRYPTED_SOUND = {b"enca", b"drms"}
_TRACK_ENTRY = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae")  # Segment, Tracks, TrackEntry
_TRACK_TYPE = b"\x83"
_TRACK_TYPES = {"video": 1, "audio": 2}
_CONTENT_ENCRYPTION = (b"\x6d\x80", b"\x62\x40", b"\x50\x35")  # ContentEncodings, ContentEncoding, ContentEncryption
_SAMPLE_ENCRYPTED = {"h264", "aac"}
_LOOKED_AT = 8 * 2**20  # bytes from the beginning of a transport or program stream
# Damage flips the marks of single packets.
_LEAST_SHARE = 0.1


def is_encrypted(file: int, container: Container, stream: Any, number: int) -> bool:
    """Tells whether the container says that a stream of it is encrypted.

    file: descriptor.
    stream: PyAV stream, of pictures or sound.
    number: how many other streams of its type come before it.
    """
    if container is Container.MP4:
        return not (_ENCRYPTED_PICTURES | _ENCRYPTED_SOUND).isdisjoint(_sample_entries(file).get(stream.id, ()))
    if container is Container.MATROSKA:
        return "enc_key_id" in stream.metadata or _in_matroska(file, _TRACK_TYPES[stream.type], number)
    if container is Container.MPEG_TS:
        return _is_sample_encrypted(stream) or _in_transport_stream(file, stream.id)
    return container is Container.MPEG_PS and _in_program_stream(file, stream.id)


def has_encrypted_pictures(file: int, container: Container) -> bool:
    """Tells whether there are encrypted pictures in a file that FFmpeg cannot open."""
    return container is Container.MP4 and any(kinds & _ENCRYPTED_PICTURES for kinds in _sample_entries(file).values())


def is_encrypted_packet(packet: Any) -> bool:
    """Tells whether a packet of MP4 is encrypted. Others of its stream may not be."""
    return bool(packet.has_sidedata("encryption_info"))


def _sample_entries(file: int) -> dict[int, set[bytes]]:
    """Returns the kinds of what an MP4 file has in each of its tracks, by the identifier of the track."""
    kinds: dict[int, set[bytes]] = {}
    for track in descend(boxes, file, 0, os.fstat(file).st_size, b"moov", b"trak"):
        header = next(descend(boxes, file, track.body, track.end, b"tkhd"), None)
        if header is None:
            continue
        # Two times of 4 or, in version 1, 8 bytes come before the identifier.
        version = os.pread(file, 1, header.body)
        identifier = int.from_bytes(os.pread(file, 4, header.body + (20 if version == b"\1" else 12)))
        for table in descend(boxes, file, track.body, track.end, b"mdia", b"minf", b"stbl", b"stsd"):
            entries = boxes(file, table.body + 8, table.end)
            kinds.setdefault(identifier, set()).update(entry.kind for entry in entries)
    return kinds


def _in_matroska(file: int, track_type: int, number: int) -> bool:
    size = os.fstat(file).st_size
    tracks = [
        track
        for track in descend(ebml_elements, file, 0, size, *_TRACK_ENTRY)
        for kind in descend(ebml_elements, file, track.body, track.end, _TRACK_TYPE)
        if int.from_bytes(os.pread(file, min(8, kind.end - kind.body), kind.body)) == track_type
    ]
    if number >= len(tracks):
        return False
    track = tracks[number]
    return any(descend(ebml_elements, file, track.body, track.end, *_CONTENT_ENCRYPTION))


def _is_sample_encrypted(stream: Any) -> bool:
    """Tells whether a transport stream calls its H.264 or AAC encrypted sample by sample, as HLS does."""
    codec = stream.codec_context
    if codec is None or codec.codec.canonical_name not in _SAMPLE_ENCRYPTED:
        return False
    try:
        _ = codec.codec_tag
    except UnicodeDecodeError:
        # The tag is the type of the stream, 0xdb or 0xcf then. PyAV reads it as ASCII; H.264 itself is 0x1b, AAC 0x0f.
        return True
    return False


def _in_transport_stream(file: int, identifier: int) -> bool:
    data = os.pread(file, _LOOKED_AT, 0)
    found = transport_packets(data[:SNIFF_BYTES])
    if found is None:
        return False
    begin, size = found
    count = (len(data) - begin) // size
    heads = np.frombuffer(data, np.uint8, count * size, begin).reshape(count, size)[:, :4]
    identifiers = (heads[:, 1].astype(int) & 0x1F) << 8 | heads[:, 2]
    ours = heads[(heads[:, 0] == 0x47) & (identifiers == identifier) & (heads[:, 3] & 0x10 > 0)]
    return int(np.count_nonzero(ours[:, 3] >> 6)) > _LEAST_SHARE * len(ours)


def _in_program_stream(file: int, identifier: int) -> bool:
    """Tells it from the heads of the packets of MPEG-2, as DVDs have them."""
    head = re.escape(b"\x00\x00\x01" + bytes([identifier & 0xFF]))
    flags = [match[1][0] for match in re.finditer(rb"(?s)%b..([\x80-\xbf])" % head, os.pread(file, _LOOKED_AT, 0))]
    scrambled = [flag for flag in flags if flag >> 4 & 3]
    return len(scrambled) > _LEAST_SHARE * len(flags)
