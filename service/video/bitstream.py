"""What compressed packets say about each other: where decoding may begin, and which frames others do not need.

Containers mark key frames, but not all that is marked is one: with periodic intra refresh, and with some cameras,
frames after the mark still refer to frames before it. So the packets themselves are asked.
"""

from __future__ import annotations

from collections.abc import Callable

_H264_SLICE, _H264_IDR = 1, 5
_HEVC_LAST_SLICE = 31
_HEVC_REFRESHES = range(16, 22)
"""BLA, IDR and CRA pictures."""
_MPEG4_PICTURE = b"\x00\x00\x01\xb6"
_REFUSE_WITHOUT_REFERENCE = {"vp8", "vp9", "av1"}
"""Their decoders answer a frame whose reference is missing with an error, so that the mark may be believed."""


def begins_afresh(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Whether no frame stored and shown after this one can refer to a frame before it.

    codec      name as FFmpeg has it; False for one that is not known here
    extradata  the codec's configuration record, as MP4, Matroska and FLV store it
    packet     the whole packet, which its container marks as a key frame
    """
    if codec == "h264":
        size = _length_size(extradata, at=4)
        return _first_unit(packet, size, lambda header: header & 31, range(_H264_SLICE, _H264_IDR + 1)) == _H264_IDR
    if codec == "hevc":
        size = _length_size(extradata, at=21)
        slices = range(_HEVC_LAST_SLICE + 1)
        return _first_unit(packet, size, lambda header: header >> 1 & 63, slices) in _HEVC_REFRESHES
    if codec == "mpeg4":
        picture = packet.find(_MPEG4_PICTURE) + len(_MPEG4_PICTURE)
        return len(_MPEG4_PICTURE) <= picture < len(packet) and packet[picture] >> 6 == 0
    return codec in _REFUSE_WITHOUT_REFERENCE


def spares_unreferenced(codec: str, extradata: bytes) -> bool:
    """Whether the decoder may be told, packet by packet, to leave out what is marked as nobody's reference."""
    if codec == "hevc":
        # There the mark is about one temporal layer: frames of a higher one may refer to it all the same.
        return bool(_length_size(extradata, at=21)) and extradata[21] >> 3 & 7 == 1
    return codec != "av1"  # that decoder listens only once, before the first packet


def _length_size(extradata: bytes, at: int) -> int:
    """Bytes of the length in front of each unit; 0 where the configuration is not of the kind with lengths."""
    return (extradata[at] & 3) + 1 if len(extradata) > at and extradata[0] == 1 else 0


def _first_unit(packet: bytes, size: int, kind_of: Callable[[int], int], kinds: range) -> int | None:
    """The kind of the first unit of one of the kinds."""
    position = 0
    while size and position + size < len(packet):
        kind = kind_of(packet[position + size])
        if kind in kinds:
            return kind
        position += size + int.from_bytes(packet[position : position + size])
    return None
