"""Requests that are odd rather than broken: doubled headers, offers of other protocols, wrong containers, other pages.

Made from a seed, as those of `malformed` are.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random

from tests.support.malformed import HOST, KINDS, Malformed, form_of, part_of, posted


def any_request(number: int, seed: int, clips: Sequence[bytes]) -> Malformed:
    """Makes the request of this number; the kinds of this module and of `malformed` take turns."""
    random = Random(f"any {seed} {number}")
    kinds = (*KINDS, *HOSTILE_KINDS)
    return kinds[number % len(kinds)](random, random.choice(clips))


def _doubled_headers(random: Random, clip: bytes) -> Malformed:
    line = random.choice(
        [
            b"Host: other.example\r\n",
            b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
            b"Content-Type: video/mp4\r\n",
            b"Content-Length: %d\r\n" % len(clip),
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
            b"Expect: 100-continue\r\nExpect: 100-continue\r\n",
            b"Origin: http://a.example\r\nOrigin: http://b.example\r\n",
            b"Range: bytes=0-1\r\nRange: bytes=1-2\r\n",
            b"Prefer: wait=0\r\nPrefer: respond-async\r\n",  # a list, which may be given twice
        ]
    )
    return Malformed("doubled headers", (posted(clip, content_type=b"video/mp4", headers=line),))


def _upgrade(random: Random, clip: bytes) -> Malformed:
    offer = random.choice(
        [
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            b"Upgrade: TLS/1.0, HTTP/1.1\r\n",
            b"Upgrade: " + b"x/1, " * random.randint(1, 500) + b"h2c\r\n",
            b"Upgrade: \xff\r\n",
            b"Upgrade:\r\n",
        ]
    )
    connection = random.choice([b"Connection: Upgrade, HTTP2-Settings\r\n", b"Connection: upgrade\r\n", b""])
    if random.random() < 0.5:
        return Malformed("upgrade", (posted(clip, content_type=b"video/mp4", headers=offer + connection),))
    return Malformed("upgrade", (b"GET /models HTTP/1.1\r\n" + HOST + offer + connection + b"\r\n",))


def _wrong_container(random: Random, clip: bytes) -> Malformed:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("clip.mp4", clip)
    matroska = b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x88matroska"
    content = random.choice(
        [
            packed.getvalue(),
            matroska + clip,
            clip[: len(clip) // 2] + matroska + clip[len(clip) // 2 :],
            clip + clip,
            b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + clip,
            b"RIFF" + struct.pack("<I", len(clip)) + b"AVI LIST" + clip,
            b"RIFF" + struct.pack("<I", 2**32 - 1) + b"AVI " + b"LIST" + struct.pack("<I", 2**31) + b"INFO" + clip,
            b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis" + clip,
            b"OggS\x00\x02" + bytes(20) + b"\xff" + b"\xff" * 255 + b"\x80theora" + random.randbytes(60_000),
            b"GIF89a" + bytes(7) + (b"\x21\xfe" + (b"\xff" + bytes(255)) * 200 + b"\x00") * 3,
            b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\x12\xff\xff\xff" + clip,
            (b"\x47\x40\x00\x10" + random.randbytes(184)) * random.randint(5, 500),
            random.randbytes(random.randint(1, 187)) + (b"\x47\x1f\xff\x10" + bytes(184)) * 300,
            b"\x00\x00\x01\xba" + random.randbytes(10) + (b"\x00\x00\x01\xe0\xff\xff" + random.randbytes(500)) * 20,
        ]
    )
    if random.random() < 0.3:
        return Malformed("wrong container", (posted(form_of(content)),))
    types = [b"video/mp4", b"video/webm", b"application/x-matroska", b"application/ogg", b"binary/octet-stream"]
    return Malformed("wrong container", (posted(content, content_type=random.choice(types)),))


def _other_page(random: Random, clip: bytes) -> Malformed:
    host = random.choice(
        [b"evil.example", b"127.0.0.1.evil.example", b"localhost.", b"[::1", b"0", b"127.1", b"LOCALHOST:80", b"a b"]
    )
    origin = random.choice([b"http://evil.example", b"null", b"http://localhost.evil.example", b"\xff", b"", b"*"])
    headers = b"Connection: close\r\nHost: %b\r\n" % host
    if random.random() < 0.5:
        headers = HOST + b"Origin: %b\r\n" % origin
    if random.random() < 0.3:
        asked = b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n"
        return Malformed("other page", (b"OPTIONS /videos HTTP/1.1\r\n" + headers + asked + b"\r\n",))
    body = form_of(clip, part_of(b"fps", b"2"))
    head = b"POST /videos HTTP/1.1\r\n" + headers + b"Content-Type: multipart/form-data; boundary=----malformed\r\n"
    return Malformed("other page", (head + b"Content-Length: %d\r\n\r\n" % len(body) + body,))


def _pipelined(random: Random, clip: bytes) -> Malformed:
    first = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = random.choice(
        [
            posted(clip[: len(clip) // 2], content_type=b"video/mp4"),
            b"GET /models HTTP/1.1\r\n" + HOST + b"\r\n",
            b"\x00" * 1000,
            b"0\r\n\r\n" + b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n",
            first * random.randint(1, 300),
        ]
    )
    return Malformed("pipelined", (first + second,), ends_early=True)


def _unknown_parameter(random: Random, clip: bytes) -> Malformed:
    query = random.choice([b"fromat=jsonl", b"format=json&format=json", b"a" * 5000, b"%00=1", b"=", b"&&&", b"fps=2"])
    place = random.choice(
        [b"/videos/" + b"0" * 32, b"/videos/" + b"0" * 32 + b"/prompt", b"/models", b"/health/ready", b"/metrics"]
    )
    method = random.choice([b"GET", b"HEAD", b"DELETE"])
    return Malformed("unknown parameter", (method + b" " + place + b"?" + query + b" HTTP/1.1\r\n" + HOST + b"\r\n",))


def _body_where_none_belongs(random: Random, clip: bytes) -> Malformed:
    method = random.choice([b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
    place = random.choice([b"/models", b"/videos/" + b"0" * 32, b"/", b"/docs"])
    head = method + b" " + place + b" HTTP/1.1\r\n" + HOST
    if random.random() < 0.5:
        return Malformed("body of a GET", (head + b"Content-Length: %d\r\n\r\n" % len(clip) + clip,))
    pieces = [b"%x\r\n%b\r\n" % (len(clip), clip)] * random.randint(1, 5)
    return Malformed("body of a GET", (head + b"Transfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n"))


def _crumbs(random: Random, clip: bytes) -> Malformed:
    """A body in chunks of a few bytes, with extensions and trailers."""
    head = b"POST /videos HTTP/1.1\r\n" + HOST + b"Content-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    crumbs = bytearray()
    for at in range(0, min(len(clip), 4000), 3):
        piece = clip[at : at + 3]
        crumbs += b"%x;%b\r\n%b\r\n" % (len(piece), b"a=b" * random.randint(0, 20), piece)
    trailers = b"X: y\r\n" * random.choice([0, 10, 20_000])
    return Malformed("crumbs", (head, bytes(crumbs), b"0\r\n" + trailers + b"\r\n"))


HOSTILE_KINDS: tuple[Callable[[Random, bytes], Malformed], ...] = (
    _doubled_headers,
    _upgrade,
    _wrong_container,
    _other_page,
    _pipelined,
    _wrong_container,
    _unknown_parameter,
    _body_where_none_belongs,
    _crumbs,
)
