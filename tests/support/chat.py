"""Answers of servers that speak the chat-completions protocol."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.web import Answer, reply

CAPTION = ("A person", " sits down\nand", " drinks.")
CLOSE = "Connection: close"


def completion(text: str | None = "".join(CAPTION), finish_reason: str | None = "stop") -> bytes:
    """The answer to a request that is not streamed."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return reply(json.dumps(body).encode(), "200 OK", "Content-Type: application/json", CLOSE)


def chunk(text: str | None = None, finish_reason: str | None = None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish_reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


def stream(*parts: bytes) -> bytes:
    """An answer made of events; the connection closes after it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{CLOSE}\r\n\r\n"
    return head.encode() + b"".join(parts)


USAGE = (
    b'data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 9}}\n\n'
)
DONE = b"data: [DONE]\n\n"
STREAM = stream(*map(chunk, CAPTION), chunk(finish_reason="stop"), USAGE, DONE)


def refusal(status: str, message: str, *headers: str, code: str | None = None) -> bytes:
    """An error in the form of the protocol."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return reply(json.dumps(body).encode(), status, "Content-Type: application/json", CLOSE, *headers)


def one_after_another(answers: Sequence[bytes]) -> Answer:
    """A server that gives each request the next answer."""
    left: Iterator[bytes] = iter(answers)

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(next(left))

    return answer


def hanging_after(start: bytes) -> Answer:
    """A server that sends the beginning of an answer, then nothing while the client waits."""

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(start)
        connection.settimeout(60)
        connection.recv(1)

    return answer


def dripping(request: bytes, connection: socket.socket) -> None:
    """A server that keeps the connection alive and never answers."""
    connection.sendall(stream())
    for _ in range(600):
        connection.sendall(b": wait\n\n")
        time.sleep(0.1)


def body_of(request: bytes) -> dict[str, Any]:
    """The JSON body that a client sent."""
    sent: dict[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
    return sent
