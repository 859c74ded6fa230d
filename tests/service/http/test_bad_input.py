"""Bad input: each kind gets its own 4xx problem, and nothing of it stays."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server
from tests.support.videos import make_audio, make_png, make_video
from tests.support.waiting import until

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile 'neighbour.mp4'\n"


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Checks that an answer is that problem, in the form of RFC 9457, and tells nothing of the inside."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, object] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["type"] == f"urn:vsg:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    text = json.dumps(problem)
    assert "Traceback" not in text
    assert "/tmp" not in text
    assert ".py" not in text
    return problem


@pytest.fixture(autouse=True)
def nothing_is_left(server: Server) -> Iterator[None]:
    yield
    until(lambda: not server.uploads())


def test_a_request_without_a_body_is_refused(server: Server) -> None:
    problem_of(server.client.post("/videos"), 400, "empty_body")
    problem_of(server.client.post("/videos", headers={"content-type": "video/mp4"}), 400, "empty_body")
    chunked = server.client.post("/videos", content=iter([]), headers={"content-type": "video/mp4"})
    problem_of(chunked, 400, "empty_body")


def test_an_empty_file_is_refused(server: Server) -> None:
    problem_of(server.post(b""), 400, "empty_body")


def test_a_text_file_named_mp4_is_refused(server: Server) -> None:
    problem_of(server.post(b"This is not a video.\n" * 100), 415, "unsupported_media")


def test_an_mp3_is_refused(server: Server, tmp_path: Path) -> None:
    problem_of(server.post(make_audio(tmp_path / "a.mp3")), 415, "unsupported_media")


def test_a_png_is_refused(server: Server, tmp_path: Path) -> None:
    problem_of(server.post(make_png(tmp_path / "a.png")), 415, "unsupported_media")


@pytest.mark.parametrize("content", [PLAYLIST, CONCAT], ids=["hls", "ffconcat"])
def test_a_playlist_is_refused(server: Server, content: bytes) -> None:
    problem_of(server.post(content), 415, "unsupported_media")


def test_an_mp4_with_sound_only_is_refused(server: Server, tmp_path: Path) -> None:
    audio = make_audio(tmp_path / "a.mp4", codec="aac")
    problem = problem_of(server.post(audio), 422, "no_video_stream")
    assert problem["job_id"]


def test_an_encrypted_video_is_refused(server: Server, clip: Path) -> None:
    protected = clip.read_bytes().replace(b"avc1\x00", b"encv\x00")
    problem = problem_of(server.post(protected), 422, "video_encrypted")
    assert problem["detail"] == "the video is encrypted: send it decrypted"


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_an_mp4_that_lacks_its_end_is_unreadable(server: Server, clip: Path, kept: float) -> None:
    content = clip.read_bytes()
    problem_of(server.post(content[: int(len(content) * kept)]), 422, "video_unreadable")


def test_an_mp4_header_without_frames_is_unreadable(server: Server, clip: Path) -> None:
    problem_of(server.post(clip.read_bytes()[:40]), 422, "video_unreadable")


def test_a_failed_job_answers_with_its_problem_when_asked_again(server: Server, clip: Path) -> None:
    failed = server.post(clip.read_bytes()[:40])
    place = failed.headers["location"]
    again = server.client.get(place)
    assert (again.status_code, again.json()) == (failed.status_code, failed.json())
    for path in ("", "/prompt"):
        answer = server.client.get(place + path, headers={"accept": "application/jsonl"})
        problem_of(answer, 422, "video_unreadable")
    assert server.client.delete(place).status_code == 204
    problem_of(server.client.get(place), 404, "not_found")


@pytest.mark.parametrize("where", ["data", "params"])
@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("fps", text) for text in ("0", "1e9", "nan", "-1", "fast")),
        ("start", "-1"),
        ("end", "nan"),
        ("max_frames", "0"),
        ("min_score", "2"),
        ("top_k", "0"),
        ("constraint", "loose"),
        ("speed", "2"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(
    server: Server, clip: Path, where: str, option: str, text: str
) -> None:
    problem = problem_of(server.post(clip, **{where: {option: text}}), 422, "invalid_option")
    assert problem["option"] == option


def test_a_start_after_the_end_is_refused(server: Server, clip: Path) -> None:
    problem = problem_of(server.post(clip, data={"start": "2", "end": "1"}), 422, "invalid_option")
    assert problem["option"] == "start"


def test_a_range_after_the_end_of_the_video_is_refused(server: Server, clip: Path) -> None:
    problem_of(server.post(clip, data={"start": "100"}), 422, "range_outside_video")


def test_an_unknown_model_is_refused_with_the_known_ones(server: Server, clip: Path) -> None:
    problem = problem_of(server.post(clip, data={"model": "huge"}), 422, "unknown_model")
    assert "tiny, tiny-2" in str(problem["detail"])
    problem_of(server.post(clip, params={"model": "huge"}), 422, "unknown_model")


def test_an_option_given_twice_is_refused(server: Server, clip: Path) -> None:
    for arguments in (
        {"params": [("fps", "1"), ("fps", "2")]},
        {"params": {"fps": "1"}, "data": {"fps": "1"}},
        {"data": {"fps": ["1", "2"]}},
    ):
        assert problem_of(server.post(clip, **arguments), 422, "invalid_option")["option"] == "fps"


def test_a_body_whose_declared_length_is_over_the_limit_is_refused(server: Server) -> None:
    headers = {"content-type": "video/mp4"}
    problem_of(server.client.post("/videos", content=bytes(2_000_001), headers=headers), 413, "body_too_large")


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    request = (
        f"POST /videos HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Type: video/mp4\r\n"
        "Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("content_type", ["video/mp4", "multipart/form-data; boundary=x"])
def test_a_body_over_the_limit_without_a_declared_length_is_refused(
    server: Server, clip: Path, content_type: str
) -> None:
    def body() -> Iterator[bytes]:
        if content_type != "video/mp4":
            yield b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        yield clip.read_bytes()
        for _ in range(40):
            yield bytes(100_000)

    answer = server.client.post("/videos", content=body(), headers={"content-type": content_type})
    problem_of(answer, 413, "body_too_large")


def test_a_form_without_the_video_field_is_refused(server: Server, clip: Path) -> None:
    problem_of(server.client.post("/videos", files={"fps": (None, "2")}), 400, "missing_video")


def test_a_file_in_another_field_is_refused(server: Server, clip: Path) -> None:
    problem_of(server.client.post("/videos", files={"file": clip.read_bytes()}), 400, "malformed_upload")


def test_two_videos_in_one_form_are_refused(server: Server, clip: Path) -> None:
    files = [("video", clip.read_bytes()), ("video", clip.read_bytes())]
    problem_of(server.client.post("/videos", files=files), 400, "malformed_upload")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no form at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="video"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n"),
        ("multipart/form-data; boundary=" + "x" * 3000, b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A" * 100_000),
    ],
    ids=["no boundary", "no parts", "cut short", "no name", "absurd boundary", "endless header"],
)
def test_a_broken_form_is_refused(server: Server, content_type: str, body: bytes) -> None:
    answer = server.client.post("/videos", content=body, headers={"content-type": content_type})
    problem_of(answer, 400, "malformed_upload")


def test_a_form_with_a_huge_field_is_refused(server: Server, clip: Path) -> None:
    problem_of(server.post(clip, data={"model": "m" * 5000}), 400, "malformed_upload")


def test_a_form_with_very_many_fields_is_refused(server: Server, clip: Path) -> None:
    data = {f"field{index}": "1" for index in range(1000)}
    problem_of(server.post(clip, data=data), 400, "malformed_upload")


def test_a_url_is_refused_where_the_operator_names_no_hosts(server: Server) -> None:
    problem_of(server.client.post("/videos", json={"url": "http://169.254.169.254/"}), 403, "url_not_allowed")


@pytest.mark.parametrize(
    "content_type",
    [
        *("image/png", "image/jpeg", "text/plain", "text/html; charset=utf-8", "font/woff2", "message/http"),
        *("application/x-www-form-urlencoded", "application/ld+json", "multipart/mixed; boundary=x", "nonsense"),
    ],
)
def test_a_content_type_that_is_no_video_is_refused(server: Server, clip: Path, content_type: str) -> None:
    answer = server.client.post("/videos", content=clip.read_bytes(), headers={"content-type": content_type})
    problem_of(answer, 415, "unsupported_content_type")


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/mp4", "application/x-matroska", "application/ogg", "binary/octet-stream", "APPLICATION/MP4"),
        *(
            "application/vnd.ms-asf",
            "application/x-mpegts",
            "audio/mp4",
            "video/anything; codecs=x",
            "image/gif",
            "",
            None,
        ),
    ],
)
def test_the_content_decides_where_the_type_leaves_it_open(
    server: Server, clip: Path, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = server.client.post("/videos", content=clip.read_bytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    problem_of(server.client.post("/videos", content=b"no video" * 9, headers=headers), 415, "unsupported_media")


def test_an_option_is_refused_before_the_body_is_read(server: Server) -> None:
    request = (
        f"POST /videos?fps=0 HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Type: video/mp4\r\n"
        "Content-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 422 ")


def test_damaged_videos_never_fail_the_service(server: Server, tmp_path: Path) -> None:
    content = bytearray(make_video(tmp_path / "a.mp4", seconds=1).read_bytes())
    for start in range(0, len(content), len(content) // 8):
        damaged = bytearray(content)
        damaged[start : start + 60] = bytes(60)
        answer = server.post(bytes(damaged))
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
