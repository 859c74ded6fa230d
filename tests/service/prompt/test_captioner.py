"""Captions from real servers, some of which do not speak the chat-completions protocol."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from pydantic import SecretStr

from models.graph.vocabulary import ACTION_GENOME
from service.errors import SettingsError
from service.prompt import build_messages
from service.prompt.captioner import RETRIES, CaptionEndpoint, Captioner, endpoint_of
from service.prompt.errors import (
    CaptionBusy,
    CaptionFailed,
    CaptionRefused,
    CaptionsMissing,
    CaptionTimeout,
    CaptionTooLong,
)
from service.settings import load_settings
from tests.support.chat import (
    CAPTION,
    DONE,
    STREAM,
    body_of,
    chunk,
    completion,
    dripping,
    hanging_after,
    one_after_another,
    refusal,
    stream,
)
from tests.support.ports import unused_port
from tests.support.web import Answer, Web, reply, serve_web

pytestmark = pytest.mark.usefixtures("no_proxy")
MESSAGES = build_messages("The person holds the cup.", ACTION_GENOME)
KEY = "sk-very-secret"


async def ask(port: int, *, streamed: bool = True, seconds: float = 60.0) -> list[str]:
    endpoint = CaptionEndpoint(f"http://127.0.0.1:{port}/v1", "small-model", SecretStr(KEY), seconds)
    async with Captioner(endpoint) as captioner:
        return [piece async for piece in captioner.caption(MESSAGES, streamed=streamed)]


async def fail(answer: Answer | bytes, error: type[CaptionFailed], **arguments: object) -> tuple[CaptionFailed, Web]:
    with serve_web(answer) as web, pytest.raises(CaptionFailed) as failed:
        await ask(web.port, **arguments)
    assert type(failed.value) is error
    assert KEY not in str(failed.value)
    return failed.value, web


async def test_a_caption_comes_in_the_pieces_that_the_model_writes() -> None:
    with serve_web(STREAM) as web:
        assert await ask(web.port) == list(CAPTION)
    (request,) = web.requests
    assert request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in request.lower()
    assert body_of(request) == {"model": "small-model", "messages": MESSAGES, "stream": True}


async def test_a_caption_comes_whole_where_it_is_not_streamed() -> None:
    with serve_web(completion()) as web:
        assert await ask(web.port, streamed=False) == ["".join(CAPTION)]
    assert body_of(web.requests[0])["stream"] is False


async def test_pieces_come_while_the_model_still_writes() -> None:
    with serve_web(hanging_after(stream(chunk("A person")))) as web:
        async with Captioner(CaptionEndpoint(f"http://127.0.0.1:{web.port}/v1", "m")) as captioner:
            pieces = captioner.caption(MESSAGES)
            assert await anext(pieces) == "A person"
            await pieces.aclose()


async def test_control_characters_do_not_reach_the_terminal() -> None:
    with serve_web(completion("A \x1b[31mred\x07 cup")) as web:
        assert await ask(web.port, streamed=False) == ["A [31mred cup"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("status", "message", "error", "says"),
    [
        ("401 Unauthorized", f"Incorrect API key: {KEY}", CaptionRefused, "its key is missing, wrong"),
        ("404 Not Found", "The model `small-model` does not exist", CaptionRefused, "does not know the model"),
        ("400 Bad Request", "This model's maximum context length is 512 tokens", CaptionTooLong, "lower max_tokens"),
        ("400 Bad Request", "image_url is not supported", CaptionRefused, "not every model takes images"),
    ],
)
async def test_a_refusal_raises_at_once_with_its_reason(
    status: str, message: str, error: type[CaptionFailed], says: str, streamed: bool
) -> None:
    failed, web = await fail(refusal(status, message), error, streamed=streamed)
    assert len(web.requests) == 1
    assert says in failed.detail
    assert message.replace(KEY, "…") in str(failed)
    assert "127.0.0.1" not in failed.detail


async def test_a_prompt_that_is_too_long_is_told_by_the_code_of_the_error() -> None:
    await fail(refusal("400 Bad Request", "No.", code="context_length_exceeded"), CaptionTooLong)


async def test_a_busy_endpoint_is_asked_again_after_the_time_that_it_names() -> None:
    busy = refusal("429 Too Many Requests", "Slow down", "Retry-After: 2")
    began = time.monotonic()
    with serve_web(one_after_another([busy, STREAM])) as web:
        assert await ask(web.port) == list(CAPTION)
    # Without the header the client would wait half a second.
    assert time.monotonic() - began >= 2.0
    assert len(web.requests) == 2


async def test_an_endpoint_that_stays_busy_says_when_to_come_back() -> None:
    # Longer than the client waits by itself.
    busy = refusal("429 Too Many Requests", "You exceeded your quota", "Retry-After: 3600")
    failed, _ = await fail(busy, CaptionBusy)
    assert isinstance(failed, CaptionBusy)
    assert failed.retry_after == 3600
    assert "You exceeded your quota" in str(failed)


async def test_an_endpoint_that_fails_is_asked_again_and_then_given_up() -> None:
    failed, web = await fail(refusal("500 Internal Server Error", "out of memory"), CaptionFailed)
    assert len(web.requests) == RETRIES + 1
    assert "answered 500" in failed.detail
    assert "out of memory" in str(failed)
    with serve_web(one_after_another([refusal("503 Service Unavailable", "loading"), STREAM])) as web:
        assert await ask(web.port) == list(CAPTION)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_endpoint_that_hangs_is_given_up_when_the_time_is_up(streamed: bool) -> None:
    failed, web = await fail(hanging_after(b""), CaptionTimeout, seconds=0.5, streamed=streamed)
    assert len(web.requests) == 1
    assert "within 0.5 s" in failed.detail


@pytest.mark.parametrize("answer", [hanging_after(stream(chunk("A person"))), dripping])
async def test_an_endpoint_that_hangs_within_the_caption_is_given_up_when_the_time_is_up(answer: Answer) -> None:
    await fail(answer, CaptionTimeout, seconds=0.5)


HTML = reply(b"<html>It works!</html>", "200 OK", "Content-Type: text/html", "Connection: close")
GARBAGE: list[tuple[bytes, Sequence[bool]]] = [
    (HTML, (True, False)),
    (reply(b"\xff\x00{", "200 OK", "Content-Type: application/json", "Connection: close"), (True, False)),
    (reply(b"[1, 2]", "200 OK", "Content-Type: application/json", "Connection: close"), (True, False)),
    (reply(b'{"choices": [{"message": 3}]}', "200 OK", "Content-Type: application/json"), (True, False)),
    (reply(b"", "200 OK", "Content-Type: application/json", "Connection: close"), (True, False)),
    (b"SSH-2.0-OpenSSH_9.2\r\n", (True, False)),
    (stream(b"data: {not json\n\n"), (True,)),
    (stream(b"data: 7\n\n"), (True,)),
    (stream(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'), (True,)),
    (stream(chunk("A person")), (True,)),
    (stream(b'data: {"error": {"message": "the GPU is gone"}}\n\n'), (True,)),
    (stream(chunk(finish_reason="stop"), DONE), (True,)),
    (stream(chunk("A"), chunk(finish_reason="length"), DONE), (True,)),
    (completion("  \n"), (False,)),
    (completion(None), (False,)),
    (completion("", "content_filter"), (False,)),
]


@pytest.mark.parametrize(
    ("answer", "streamed"), [(answer, streamed) for answer, kinds in GARBAGE for streamed in kinds]
)
async def test_an_answer_that_is_no_caption_is_an_error(answer: bytes, streamed: bool) -> None:
    await fail(answer, CaptionFailed, streamed=streamed)


async def test_an_endpoint_that_takes_no_connection_is_an_error() -> None:
    with pytest.raises(CaptionFailed, match="takes no connection"):
        await ask(unused_port())


def test_without_settings_there_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert endpoint_of(load_settings()) is None


def test_the_endpoint_comes_from_the_settings_and_the_key_also_from_its_usual_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VSG_CAPTION_BASE_URL", "http://127.0.0.1:8001/v1/")
    monkeypatch.setenv("VSG_CAPTION_MODEL", "qwen")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoint = endpoint_of(load_settings())
    assert endpoint is not None
    assert (endpoint.url, endpoint.key) == ("http://127.0.0.1:8001/v1/chat/completions", None)
    monkeypatch.setenv("OPENAI_API_KEY", "usual")
    assert endpoint_of(load_settings()).key == SecretStr("usual")
    monkeypatch.setenv("VSG_CAPTION_KEY", "own")
    assert endpoint_of(load_settings()).key == SecretStr("own")
    assert "own" not in repr(endpoint_of(load_settings()))


def test_a_wrong_endpoint_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(SettingsError, match="VSG_CAPTION_BASE_URL is 'localhost:8001'"):
        endpoint_of(load_settings({"caption_base_url": "localhost:8001", "caption_model": "m"}))
    with pytest.raises(SettingsError, match="VSG_CAPTION_MODEL is not set"):
        endpoint_of(load_settings({"caption_base_url": "http://localhost:8001/v1"}))


def test_a_missing_client_library_is_an_error_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(CaptionsMissing, match=r"pip install 'video-scene-graph\[captions\]'"):
        Captioner(CaptionEndpoint("http://127.0.0.1:1/v1", "m"))


def test_serving_without_captions_does_not_load_the_client_library() -> None:
    code = "import sys, service.http, service.commands.caption; print('openai' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == ["False", "False"]
