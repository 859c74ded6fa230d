"""Asks a chat endpoint that speaks OpenAI's protocol for captions. The prompt may come with key frames."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr

from service.errors import SettingsError
from service.prompt.errors import (
    CaptionBusy,
    CaptionFailed,
    CaptionRefused,
    CaptionsMissing,
    CaptionTimeout,
    CaptionTooLong,
)
from service.prompt.messages import Message
from service.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    import openai

RETRIES = 2  # after 429, a 5xx or a broken connection, until the caption has begun
_CONNECT_SECONDS = 10.0
_NO_KEY = "none"  # the client wants a key; endpoints that need none do not look at it
_RETRY_AFTER = 10  # seconds, where a busy endpoint names none
_LONGEST_REASON = 300
_TOO_LONG = re.compile(r"context.?(length|size|window)|(too|prompt is|input is) long|too many tokens", re.IGNORECASE)


@dataclass(frozen=True)
class CaptionEndpoint:
    """A chat endpoint that writes captions.

    base_url: URL of the API, up to /v1.
    model: name of the model at the endpoint.
    key: None where the endpoint needs none.
    seconds: most seconds that one caption takes, all attempts together.
    """

    base_url: str
    model: str
    key: SecretStr | None = None
    seconds: float = 120.0

    @property
    def url(self) -> str:
        """The URL that gets the requests."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def request(self, messages: Sequence[Message], *, streamed: bool = True) -> dict[str, Any]:
        """Returns the body of a request."""
        return {"model": self.model, "messages": list(messages), "stream": streamed}


def endpoint_of(settings: Settings) -> CaptionEndpoint | None:
    """Returns the endpoint of the settings, None where they name none. OPENAI_API_KEY may hold its key too.

    Raises SettingsError where the URL is not one of HTTP, or where the settings name no model.
    """
    if not settings.caption_base_url:
        return None
    if not re.match(r"https?://[^/]", settings.caption_base_url):
        raise SettingsError(
            f"setting {ENV_PREFIX}CAPTION_BASE_URL is {settings.caption_base_url!r}: give the URL of a chat API, such "
            "as http://127.0.0.1:8001/v1"
        )
    if not settings.caption_model:
        raise SettingsError(f"setting {ENV_PREFIX}CAPTION_MODEL is not set: name a model of the caption endpoint")
    key = settings.caption_key or SecretStr(os.environ.get("OPENAI_API_KEY", ""))
    return CaptionEndpoint(
        base_url=settings.caption_base_url,
        model=settings.caption_model,
        key=key if key.get_secret_value() else None,
        seconds=settings.caption_seconds,
    )


class Captioner:
    """Asks one endpoint for captions. An async context manager for one event loop."""

    def __init__(self, endpoint: CaptionEndpoint) -> None:
        """Raises CaptionsMissing where the client library is not installed."""
        try:
            import openai
        except ModuleNotFoundError as error:
            raise CaptionsMissing(
                "captions need openai, which is not installed: pip install 'video-scene-graph[captions]'"
            ) from error
        self._endpoint = endpoint
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key.get_secret_value() if endpoint.key else _NO_KEY,
            max_retries=RETRIES,
            timeout=openai.Timeout(endpoint.seconds, connect=_CONNECT_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.close()

    async def caption(self, messages: Sequence[Message], *, streamed: bool = True) -> AsyncGenerator[str, None]:
        """Yields the caption piece by piece as the model writes it, or in one piece where `streamed` is false.

        Close the iterator if you do not exhaust it. Raises CaptionRefused, CaptionTooLong, CaptionBusy, CaptionTimeout
        or CaptionFailed. The last two may come after the first piece.
        """
        deadline = asyncio.get_running_loop().time() + self._endpoint.seconds
        is_blank = True
        async with aclosing(self._answers(messages, streamed=streamed)) as answers:
            while (answer := await self._next(answers, deadline)) is not None:
                text = "".join(letter for letter in answer.text if letter.isprintable() or letter in "\n\t")
                is_blank = is_blank and not text.strip()
                if text:
                    yield text
                if answer.ended and answer.ended != "stop":
                    raise CaptionFailed("the model broke off the caption", f"finish_reason is {answer.ended!r}")
        if is_blank:
            raise CaptionFailed("the caption endpoint answered without a caption")

    async def _next(self, answers: AsyncGenerator[_Answer, None], deadline: float) -> _Answer | None:
        """Returns the next answer, None at the end.

        The time limit is not around the whole loop, where it would strike while the caller works.
        """
        import openai

        try:
            async with asyncio.timeout_at(deadline):
                return await anext(answers, None)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise CaptionTimeout(f"the caption was not complete within {self._endpoint.seconds:g} s") from error
        except openai.APIError as error:
            raise self._failure(error) from error
        # The client raises it for an answer that is not JSON, and _Answer for JSON that is not an answer.
        except ValueError as error:
            raise CaptionFailed("the caption endpoint did not send a chat completion") from error

    async def _answers(self, messages: Sequence[Message], *, streamed: bool) -> AsyncGenerator[_Answer, None]:
        request: Any = self._endpoint.request(messages, streamed=streamed)
        answer = await self._client.chat.completions.create(**request)
        if not streamed:
            yield _Answer.of(answer)
            return
        part = None
        ended = False
        async with answer:
            async for chunk in answer:
                yield (part := _Answer.of(chunk))
                ended = ended or bool(part.ended)
        if part is None:
            raise ValueError("the answer is not a stream of events")
        if not ended:
            raise CaptionFailed("the caption endpoint stopped before the end of the caption")

    def _failure(self, error: openai.APIError) -> CaptionFailed:
        """Turns an error of the client library into one for the caller."""
        import openai

        reason = self._reason(error)
        if not isinstance(error, openai.APIStatusError):
            if isinstance(error, openai.APIConnectionError):
                return CaptionFailed("the caption endpoint takes no connection, or breaks it", reason)
            return CaptionFailed("the caption endpoint failed while it answered", reason)
        status = error.status_code
        answered = f"the caption endpoint answered {status}"
        if status in (401, 403):
            return CaptionRefused(f"{answered}: its key is missing, wrong, or not valid for this model", reason)
        if status == 404:
            return CaptionRefused(f"{answered}: it does not know the model, or its URL is wrong", reason)
        if status == 413 or (status in (400, 422) and _TOO_LONG.search(f"{error.code} {reason}")):
            return CaptionTooLong(
                f"{answered}: the prompt is longer than the model takes; lower max_tokens or send fewer key frames",
                reason,
            )
        if status == 429:
            wait = error.response.headers.get("retry-after", "")
            return CaptionBusy(
                f"{answered}: it gets too many requests, or the quota is used up",
                reason,
                retry_after=int(wait) if wait.isdecimal() and len(wait) < 6 else _RETRY_AFTER,
            )
        if status >= 500:
            return CaptionFailed(f"{answered}; it was asked {RETRIES + 1} times", reason)
        return CaptionRefused(f"{answered}: it does not take the request; not every model takes images", reason)

    def _reason(self, error: openai.APIError) -> str:
        """Returns the endpoint's own words, in one line and without the key."""
        body = error.body
        said = body.get("message") if isinstance(body, dict) else body
        text = " ".join(str(said or error.__cause__ or error.message).split())
        if self._endpoint.key is not None:
            text = text.replace(self._endpoint.key.get_secret_value(), "…")
        return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


class _Part(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class _Text(_Part):
    content: str | None = None


class _Choice(_Part):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Choices(_Part):
    choices: list[_Choice]


@dataclass(frozen=True)
class _Answer:
    """A piece of an answer.

    text: may be empty.
    ended: why the answer ends with this piece, empty where it goes on.
    """

    text: str
    ended: str

    @classmethod
    def of(cls, received: object) -> Self:
        """Reads what the client returns unchecked. Raises ValidationError, which is a ValueError."""
        choices = _Choices.model_validate(received).choices
        if not choices:  # the last chunk of some endpoints only counts tokens
            return cls("", "")
        said = choices[0].delta or choices[0].message or _Text()
        return cls(said.content or "", choices[0].finish_reason or "")
