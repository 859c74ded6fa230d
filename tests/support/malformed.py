"""Requests that no client should send, made from a seed so that a harmful one can be sent again.

`hostile` has more of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.support.spoilt import spoil_bytes, spoil_video

BOUNDARY = b"----malformed"
SLOW_AT_ONCE = 20
HOST = b"Host: localhost\r\nConnection: close\r\n"


@dataclass(frozen=True)
class Malformed:
    """The bytes that go over one connection.

    pieces: sent one after the other.
    ends_early: the client closes its side, although it announced more.
    """

    kind: str
    pieces: tuple[bytes, ...]
    ends_early: bool = False

    @property
    def method(self) -> str:
        """The method of the request, if it has one."""
        return self.pieces[0].split(b" ", 1)[0].decode("latin-1")

    def with_header(self, header: bytes) -> Malformed:
        """The same request with one more line, if it has lines at all."""
        line, end, rest = self.pieces[0].partition(b"\r\n")
        return Malformed(self.kind, (line + end + header + rest, *self.pieces[1:]), self.ends_early)


def slow_requests(seed: int, clips: Sequence[bytes]) -> list[Malformed]:
    """Uploads and heads that begin and then stop; send them at the same time."""
    random = Random(f"slow {seed}")
    requests = []
    for number in range(SLOW_AT_ONCE):
        body = random.choice(clips)
        whole = posted(body, content_type=b"video/mp4")
        kept = random.randrange(20, 60) if number % 4 == 0 else len(whole) - random.randrange(1, len(body))
        requests.append(Malformed("slow", (whole[:kept],)))
    return requests


def posted(
    body: bytes,
    *,
    content_type: bytes = b"multipart/form-data; boundary=" + BOUNDARY,
    headers: bytes = b"",
    query: bytes = b"",
    length: int | None = None,
) -> bytes:
    """The bytes of `POST /videos`. `length` is declared in place of the true one."""
    declared = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    head = b"POST /videos%b HTTP/1.1\r\n%bContent-Type: %b\r\n%b%b\r\n"
    return head % (query, HOST, content_type, declared, headers) + body


def part_of(name: bytes, value: bytes, *, headers: bytes = b"") -> bytes:
    """A field of a form."""
    return b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n%b\r\n' % (BOUNDARY, name, headers, value)


def form_of(clip: bytes, *others: bytes) -> bytes:
    """A form with a video, after other fields."""
    video = b'--%b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n%b\r\n' % (BOUNDARY, clip)
    return b"".join([*others, video, b"--" + BOUNDARY + b"--\r\n"])


def _spoilt_form(random: Random, clip: bytes) -> Malformed:
    form = form_of(b"", part_of(b"fps", b"2"), part_of(b"top_k", b"5"))
    return Malformed(
        "form", (posted(spoil_bytes(random, form).replace(b"\r\n\r\n\r\n", b"\r\n\r\n" + clip + b"\r\n")),)
    )


def _form_boundary(random: Random, clip: bytes) -> Malformed:
    boundary = random.choice(
        [
            b"",
            b"other",
            b'"' + BOUNDARY,
            b'""',
            b"x" * random.randint(71, 5000),
            b"\xff\xfe",
            BOUNDARY + b"; boundary=other",
            b"a b",
            BOUNDARY[:-1],
            b"-",
            b"=?utf-8?q?x?=",
        ]
    )
    return Malformed("boundary", (posted(form_of(clip), content_type=b"multipart/form-data; boundary=" + boundary),))


def _form_headers(random: Random, clip: bytes) -> Malformed:
    headers = random.choice(
        [
            b"",
            b"Content-Disposition: form-data\r\n",
            b'Content-Disposition: form-data; name="\r\n',
            b'Content-Disposition: attachment; name="video"\r\n',
            b'Content-Disposition: form-data; name="video"; name="fps"\r\n',
            b"Content-Disposition: form-data; name*=utf-8''%ff%fe\r\n",
            b'Content-Disposition: form-data; name="video"; filename="' + b"../" * random.randint(1, 2000) + b'a"\r\n',
            b'Content-Disposition: form-data; name="video"; filename="a\x00b"\r\n',
            b"Content-Disposition" + b": form-data" * random.randint(1, 5000) + b"\r\n",
            b'Content-Disposition: form-data; name="video"\r\n' * 2,
            b'Content-Disposition: form-data; name="video"\r\nContent-Transfer-Encoding: base64\r\n',
            b"Content-Disposition:\r\n  form-data;\r\n  name=video\r\n",
            b'Content-Disposition: form-data; name="video"\r\nContent-Type: multipart/mixed; boundary=inner\r\n',
            b"".join(b"X-%d: y\r\n" % index for index in range(random.randint(10, 5000))),
            b"no colon at all\r\n",
            b": nothing\r\n",
        ]
    )
    inner = random.choice([clip, b"--inner\r\n\r\n" + clip + b"\r\n--inner--\r\n"])
    body = b"--" + BOUNDARY + b"\r\n" + headers + b"\r\n" + inner + b"\r\n--" + BOUNDARY + b"--\r\n"
    return Malformed("part headers", (posted(body),))


def _form_fields(random: Random, clip: bytes) -> Malformed:
    count = random.choice([2, 33, 1000, 10_000])
    fields = random.choice(
        [
            [part_of(b"f%d" % index, b"1") for index in range(count)],
            [part_of(b"fps", b"2")] * count,
            [part_of(b"video", clip)],
            [part_of(b"n" * random.randint(1000, 200_000), b"1")],
            [part_of(b"\xff\xfe\x80", b"1")],
            [part_of(b"model", b"\xff\xfe\x80")],
            [part_of(b"", b"1")],
            [part_of(b"model", b"m" * random.randint(1025, 500_000))],
            [part_of(b"fps", b"\x00")],
            [part_of("fps".encode("utf-16"), b"2")],
        ]
    )
    return Malformed("fields", (posted(form_of(clip, *fields)),))


def _cut_form(random: Random, clip: bytes) -> Malformed:
    form = form_of(clip)
    kept = form[: random.randrange(len(form))]
    if random.random() < 0.5:
        return Malformed("cut form", (posted(kept),))
    return Malformed("cut connection", (posted(kept, length=len(form)),), ends_early=True)


def _spoilt_video(random: Random, clip: bytes) -> Malformed:
    video = spoil_video(random, clip)
    if random.random() < 0.5:
        return Malformed("video", (posted(form_of(video)),))
    return Malformed("video", (posted(video, content_type=random.choice([b"video/mp4", b"application/octet-stream"])),))


def _wrong_type(random: Random, clip: bytes) -> Malformed:
    content = random.choice(
        [
            b"words " * 100,
            b"\x89PNG\r\n\x1a\n" + random.randbytes(200),
            b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            b"ffconcat version 1.0\nfile /etc/passwd\n",
            b"\x7fELF" + random.randbytes(200),
            b"PK\x03\x04" + random.randbytes(200),
            b"RIFF\xff\xff\xff\xffAVI LIST" + random.randbytes(200),
            b"\x1aE\xdf\xa3" + random.randbytes(2000),
            b"\x00\x00\x00\x18ftypmp42" + random.randbytes(2000),
            b"GIF89a" + random.randbytes(500),
            b"FLV\x01" + random.randbytes(500),
            b"OggS" + random.randbytes(500),
            (b"\x47" + random.randbytes(187)) * 20,
            random.randbytes(random.randint(1, 5000)),
            b"",
        ]
    )
    content_type = random.choice(
        [b"video/mp4", b"video/", b"application/octet-stream", b"image/png", b"text/html", b";", b""]
    )
    return Malformed("wrong type", (posted(content, content_type=content_type),))


def _too_large(random: Random, clip: bytes) -> Malformed:
    head = b"POST /videos HTTP/1.1\r\n%bContent-Type: video/mp4\r\n" % HOST
    if random.random() < 0.5:
        length = random.choice([10**7, 2**31, 2**63, 2**64 + 1, 10**200])
        expects = random.choice([b"", b"Expect: 100-continue\r\n"])
        return Malformed("declared too large", (head + b"Content-Length: %d\r\n%b\r\n" % (length, expects), clip))
    block = random.randbytes(65536)
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (clip, *[block] * 40)]
    return Malformed("chunks too large", (head + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n"))


def _bad_http(random: Random, clip: bytes) -> Malformed:
    head = b"POST /videos HTTP/1.1\r\n" + HOST
    request = random.choice(
        [
            random.randbytes(random.randint(1, 2000)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(200),
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /models\r\n\r\n",
            b"GET  /models  HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\r\n" * 1000,
            b"",
            b"G" * random.randint(1000, 200_000),
            b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
            head + b"Content-Length: -5\r\n\r\n" + clip[:100],
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + clip[:100],
            head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + clip[:100],
            head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + clip[:100],
            head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            head + b"Content-Type video/mp4\r\n\r\n",
            head + b"X: a\r\n b\r\n\x00: c\r\n\r\n",
            head + b"X: " + b"y" * 300_000 + b"\r\n\r\n",
            b"GET /models HTTP/1.1\r\n\r\n",
            b"GET /models HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            spoil_bytes(random, posted(clip, content_type=b"video/mp4")[:300]),
        ]
    )
    return Malformed("bad HTTP", (request,), ends_early=True)


def _odd_headers(random: Random, clip: bytes) -> Malformed:
    header = random.choice(
        [
            b"Prefer: wait=%b" % (b"9" * random.randint(10, 5000)),
            b"Prefer: wait=-1, wait=nan, respond-async=, ;;;=",
            b"Prefer: " + b"a," * 5000 + b"wait=1",
            b"Idempotency-Key: " + b"k" * random.choice([0, 256, 20_000]),
            b"Idempotency-Key: \xff\xfe",
            b"Cache-Control: " + b"no-cache," * 1000,
            b"Accept: application/jsonl;" + b"q=1;" * 1000,
            b"Content-Encoding: gzip",
            b"Expect: the-impossible",
            b"Range: bytes=9-1",
            b"Host: \xff",
            b"X-Forwarded-For: " + b"1.2.3.4, " * 2000,
            b"Authorization: Bearer",
            b"Authorization: " + b"x" * 10_000,
            b"".join(b"X-%d: y\r\n" % index for index in range(random.randint(100, 2000)))[:-2],
        ]
    )
    content_type = random.choice(
        [b"video/mp4", b"video/mp4; " + b"x=y;" * 2000, b"VIDEO/MP4", b"video/mp4, text/plain", b"\xff/\xfe"]
    )
    video = spoil_video(random, clip)
    return Malformed("headers", (posted(video, content_type=content_type, headers=header + b"\r\n"),))


def _json(random: Random, clip: bytes) -> Malformed:
    value: object = random.choice([None, True, -1, 1e308, "x", [], {}, "x" * 5000, ["url"]])
    body = random.choice(
        [
            b"",
            b"{",
            b"[" * 10_000,
            b'{"url":' * 2000,
            b"\xff\xfe{}",
            b'{"url": NaN}',
            b'{"url": "http://a.example", "fps": 1e999}',
            b'{"url": "http://a.example", "max_frames": ' + b"9" * 5000 + b"}",
            b'{"url": "http://a.example", "url": "http://b.example"}',
            b'{"url": "\\ud800"}',
            clip[:10_000],
            json.dumps(value).encode(),
            json.dumps({"url": value}).encode(),
            json.dumps({"url": "http://a.example/", random.choice(["fps", "top_k", "model", "other"]): value}).encode(),
            json.dumps({"url": random.choice(_URLS)}).encode(),
        ]
    )
    return Malformed("json", (posted(body, content_type=b"application/json"),))


_URLS = (
    "file:///etc/passwd",
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://a.example:99999/",
    "//a.example",
    "gopher://a.example",
    "http://a.example@127.0.0.1/",
    "http://\x00/",
    "http://" + "a" * 10_000,
    "",
)


def _options(random: Random, clip: bytes) -> Malformed:
    name = random.choice(
        [
            b"fps",
            b"start",
            b"end",
            b"max_frames",
            b"min_score",
            b"top_k",
            b"constraint",
            b"uncertainty",
            b"model",
            b"webhook",
            b"x",
        ]
    )
    value = random.choice(
        [
            b"",
            b"0",
            b"-1",
            b"1e-320",
            b"1e308",
            b"nan",
            b"inf",
            b"1_0",
            b"0x10",
            b"%00",
            b"%FF",
            b"9" * 4000,
            b"%F0%9F%98%80",
            b"1,5",
            b"+1",
        ]
    )
    query = b"?" + b"&".join([name + b"=" + value] * random.choice([1, 1, 1, 2]))
    if random.random() < 0.3:
        return Malformed("options", (posted(form_of(clip, part_of(name, value))),))
    return Malformed("options", (posted(clip, content_type=b"video/mp4", query=query),))


def _path(random: Random, clip: bytes) -> Malformed:
    video_id = random.choice(
        [
            b"0" * 32,
            b"%00",
            b"..%2f..%2fetc%2fpasswd",
            b"../../etc/passwd",
            b"%ff%fe",
            b"A" * 32,
            b"0" * 31,
            b"0" * 20_000,
            "é".encode(),
            b"%F0%9F%98%80",
            b"*",
            b"0%0a0",
        ]
    )
    tail = random.choice(
        [
            b"",
            b"/prompt",
            b"/prompt?max_tokens=-1",
            b"/prompt?format=\xff",
            b"/events",
            b"/",
            b"/x",
            b"?" + b"a=b&" * 2000,
        ]
    )
    method = random.choice([b"GET", b"GET", b"DELETE", b"HEAD", b"PUT", b"OPTIONS", b"TRACE", b"POST"])
    target = random.choice(
        [b"/videos/" + video_id + tail] * 4
        + [b"//videos", b"/docs/files/../../x", b"/docs/files/%2e%2e/", b"/openapi.json/x"]
    )
    header = random.choice([b"", b"Last-Event-ID: \xff\r\n", b"Accept: application/jsonl\r\n", b"If-Match: *\r\n"])
    return Malformed("path", (method + b" " + target + b" HTTP/1.1\r\n" + HOST + header + b"\r\n",))


KINDS: tuple[Callable[[Random, bytes], Malformed], ...] = (
    _spoilt_video,
    _spoilt_form,
    _form_boundary,
    _spoilt_video,
    _form_headers,
    _form_fields,
    _spoilt_video,
    _cut_form,
    _wrong_type,
    _too_large,
    _bad_http,
    _spoilt_video,
    _odd_headers,
    _json,
    _options,
    _path,
)
