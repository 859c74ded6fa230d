"""The settings of an operator, read from `VSG_*` environment variables and from flags of the command line."""

from __future__ import annotations

import base64
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.engines import EngineName
from models.graph.validation import accepted_values, check_digits, first_mistake, shortened
from service.errors import SettingsError
from service.fetching import HostPattern, Network
from service.video.wire import MAXIMUM_FPS, MINIMUM_MEMORY, DecodeLimits

ENV_PREFIX = "VSG_"
MEMORY_QUEUE = "memory://"
_SECRETS = ("webhook_secret", "caption_key", "queue_url")  # their values are not shown
_FILE_SUFFIX = "_FILE"  # of the variable that names a file with a secret

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _parse_host(value: object) -> object:
    return HostPattern.parse(value) if isinstance(value, str) else value


def _check_secret(secret: SecretStr) -> SecretStr:
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError(
            "give the base64 of 24 to 64 random bytes, as `echo whsec_$(openssl rand -base64 32)` makes it"
        )
    return secret


def _check_prefix(prefix: str) -> str:
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
        raise ValueError("give a path such as /graphs, which begins with / and does not end with it")
    if prefix and prefix.split("/")[1] in ("videos", "models", "health", "metrics", "docs", "page"):
        raise ValueError("give a path that does not begin like one of the API's own")
    return prefix


def _check_origin(origin: str) -> str:
    if origin != "*" and not re.fullmatch(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?", origin):
        raise ValueError("give origins such as https://app.example.org, in small letters and without a path, or *")
    return origin


def _check_queue_url(url: str) -> str:
    if not url.startswith(MEMORY_QUEUE) and not _is_redis_url(url):
        raise ValueError("give memory://, or a URL of Redis such as redis://HOST:6379/0 or rediss://USER:PASSWORD@HOST")
    return url


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("redis+sentinel", "rediss+sentinel"):  # names several hosts
            return bool(parts.netloc)
        if parts.scheme == "unix":
            return bool(parts.path)
        has_server = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port or the address is none
        return False
    has_number = not parts.path.strip("/") or parts.path.strip("/").isdecimal()
    return parts.scheme in ("redis", "rediss", "redis+cluster", "rediss+cluster") and has_server and has_number


Host = Annotated[HostPattern, BeforeValidator(_parse_host)]
Origin = Annotated[str, AfterValidator(_check_origin)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_check_secret)]


class Settings(BaseSettings):
    """Settings of the service. Each field is the environment variable `VSG_` and its name in capitals.

    The commands make their flags of these fields (service/commands/common.py); docs/settings.md lists them all.
    """

    # A variable that is set to nothing, as templates leave it, is not set.
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="format of the log; auto: console where stderr is a terminal, else json"
    )
    keys: Path | None = Field(
        None,
        description="file of the keys that callers need (`vsg key NAME` makes one); may be empty only on localhost",
    )
    rate_limit: str = Field(
        "",
        description="most videos and captions that one key may ask for, such as 60/minute; empty: no limit",
    )
    path_prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        "", description="path under which a proxy offers the service, such as /graphs; empty: /"
    )
    allowed_hosts: Annotated[tuple[Host, ...], NoDecode] = Field(
        (),
        description="further names, written like VSG_URL_HOSTS, by which a service without keys may be called; "
        "empty: only localhost",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        (),
        description="origins, separated by ',', whose web pages may use the service, such as https://app.example.org, "
        "or * for all; empty: none",
    )
    proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="addresses and networks of proxies, separated by ',', whose X-Forwarded-For is believed; "
        "empty: none",
    )
    bundles: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="bundles, or folders of bundles, separated by ':'; the first is the default; empty: every bundle "
        "in ./bundles, else those beside the packages",
    )
    data: str | None = Field(None, description="folder or fsspec URL of uploads and results; empty: a temporary folder")
    archive: str | None = Field(
        None,
        description="folder or fsspec URL of an archive, to which every finished graph is appended; empty: none",
    )
    queue_url: Annotated[str, AfterValidator(_check_queue_url)] = Field(
        MEMORY_QUEUE, description="the job queue: memory:// for this process alone, redis://HOST for a fleet of workers"
    )

    max_body_bytes: Count = Field(512 * 2**20, description="largest request body in bytes")
    upload_idle_seconds: Seconds = Field(
        60.0,
        description="seconds without a byte after which an upload is given up, and most seconds for a request's head",
    )
    upload_seconds: Seconds = Field(3600.0, description="most seconds to receive one request body")
    url_hosts: Annotated[tuple[Host, ...], NoDecode] = Field(
        (),
        description="hosts to fetch videos from, separated by ',': example.org, *.example.org, example.org:8443, "
        "or * for every public one; empty: no URLs",
    )
    url_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="private networks, such as 10.1.0.0/16, that URLs of videos and webhooks may reach"
    )
    url_seconds: Seconds = Field(900.0, description="most seconds to fetch one video")
    webhook_hosts: Annotated[tuple[Host, ...], NoDecode] = Field(
        (), description="hosts that webhooks may go to, written like VSG_URL_HOSTS; empty: no webhooks"
    )
    webhook_secret: Annotated[tuple[WebhookSecret, ...], NoDecode] = Field(
        (),
        description="secret that signs webhooks, whsec_…; two, separated by ',', to replace one; empty: no webhooks",
    )
    default_wait: float = Field(
        60.0, ge=0, le=3600, description="seconds that POST /videos waits before it answers 202"
    )
    max_wait: float = Field(600.0, ge=0, le=3600, description="most seconds that `Prefer: wait=N` may ask for")
    concurrency: Count = Field(16, description="videos that are worked on at once")
    queue_limit: Count = Field(64, description="jobs that may wait or run; above it POST /videos answers 429")

    engine: EngineName | Literal["stub"] = Field(
        "onnxruntime-cpu", description="what runs the models; `stub` invents results, to measure the service alone"
    )
    stub_seconds: Seconds = Field(0.02, description="seconds that the engine `stub` takes for a batch")
    device: int = Field(0, ge=0, description="number of the GPU")
    engine_cache: Path | None = Field(
        None, description="folder of engines that TensorRT built; empty: the user's cache"
    )
    streams: int = Field(
        0, ge=0, le=64, description="batches of one model that run at once; 0: on a CPU one per core up to 4, else 1"
    )
    threads: int = Field(0, ge=0, description="threads of one stream on a CPU; 0: the cores divided by the streams")
    max_batch: int = Field(0, ge=0, le=1024, description="most clips in one batch; 0: 1 on a CPU, 16 on a GPU")
    job_share: int = Field(
        0, ge=0, le=1024, description="most clips of one video in one batch; 0: 1 on a CPU, VSG_MAX_BATCH on a GPU"
    )
    max_batch_wait: float = Field(0.005, ge=0, le=1, description="seconds that a batch waits to be filled")

    max_fps: float = Field(
        MAXIMUM_FPS, gt=0, le=MAXIMUM_FPS, description="a higher `fps` is lowered to this, with a warning"
    )
    max_frames: Count = Field(3600, description="a higher `max_frames` is lowered to this, with a warning")

    decode_seconds: Seconds = Field(900.0, description="most seconds to decode one video")
    decode_memory_bytes: int = Field(
        3 * 2**30, ge=MINIMUM_MEMORY, description="most bytes of address space of a decoder"
    )
    max_pixels: Count = Field(7680 * 4320, description="most pixels in one frame of a video")

    retention: Seconds = Field(3600.0, description="seconds that a finished graph is kept")
    reuse_results: bool = Field(True, description="answer a video that the same caller posts again with its kept graph")
    sweep_seconds: float = Field(
        60.0, ge=0.1, le=86_400, description="seconds between two searches of storage for files to delete"
    )
    lease_seconds: float = Field(
        60.0,
        ge=1,
        le=86_400,
        description="seconds after which the job of a silent worker goes to another; with Redis only",
    )
    stall_seconds: Seconds = Field(
        960.0, description="seconds without progress after which /health/ready fails; more than VSG_DECODE_SECONDS"
    )
    caption_base_url: str = Field(
        "", description="URL of a chat API like OpenAI's, such as http://127.0.0.1:8001/v1; empty: no captions"
    )
    caption_model: str = Field("", description="model of the chat API")
    caption_key: SecretStr | None = Field(
        None, description="key of the chat API, where it needs one; empty: the variable OPENAI_API_KEY"
    )
    caption_seconds: Seconds = Field(120.0, description="most seconds for one caption")

    metrics_host: str = Field("127.0.0.1", description="address where a worker answers /metrics and /health")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port where a worker answers /metrics and /health; 0: none"
    )
    shutdown_seconds: int = Field(
        10,
        ge=0,
        description="seconds for requests and jobs to end when a process stops; then jobs go back",
    )

    @field_validator(
        "url_hosts",
        "url_networks",
        "webhook_hosts",
        "webhook_secret",
        "allowed_hosts",
        "cors_origins",
        "proxies",
        mode="before",
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _check_digits(cls, value: object, info: ValidationInfo) -> object:
        is_number = cls.model_fields[str(info.field_name)].annotation in (int, float)
        return check_digits(value) if is_number else value

    @field_validator("bundles", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


def decode_limits(settings: Settings) -> DecodeLimits:
    """The limits of a decoder process."""
    return DecodeLimits(
        seconds=settings.decode_seconds,
        # Decoding runs on several threads, so processor time may pass faster than the clock.
        cpu_seconds=2 * math.ceil(settings.decode_seconds),
        memory_bytes=settings.decode_memory_bytes,
        max_pixels=settings.max_pixels,
    )


def load_settings(overrides: Mapping[str, Any] | None = None, *, spelled: Callable[[str], str] = str) -> Settings:
    """Reads the settings: overrides first, then the environment, then the defaults. None means not given.

    spelled: how an error names an override, such as `--port`.

    A secret may be in a file: `VSG_WEBHOOK_SECRET_FILE` names the file of `VSG_WEBHOOK_SECRET`.

    Raises SettingsError, which names the key, where a value is wrong or a `VSG_` variable is not a setting.
    """
    files = {variable_of(name) + _FILE_SUFFIX: name for name in _SECRETS}
    for key in os.environ:
        name = key.removeprefix(ENV_PREFIX).lower()
        if key.startswith(ENV_PREFIX) and name not in Settings.model_fields and key not in files:
            close = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"did you mean {variable_of(close[0])}?" if close else "docs/settings.md lists them all"
            raise SettingsError(f"{key} is not a setting: {hint}")
    given = {name: value for name, value in (overrides or {}).items() if value not in (None, "")}
    from_files = {name: _content_of(key) for key, name in files.items() if name not in given and os.environ.get(key)}
    names = {name: spelled(name) for name in given} | {name: variable_of(name) + _FILE_SUFFIX for name in from_files}
    try:
        settings = Settings(**given | from_files)
    except ValidationError as error:
        raise _settings_error(error, names) from error
    _check_together(settings)
    return settings


def _content_of(key: str) -> str:
    """The text of the file that a variable names, such as VSG_WEBHOOK_SECRET_FILE. Raises SettingsError."""
    plain = key.removesuffix(_FILE_SUFFIX)
    if os.environ.get(plain):
        raise SettingsError(f"{plain} and {key} are both set: unset one of them")
    path = os.environ[key]
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            f"{key} is {shortened(path)}: the file cannot be read ({reason}): name a file that user {os.geteuid()} may "
            "read"
        ) from error
    if not text:
        raise SettingsError(f"{key} is {shortened(path)}: the file is empty: write the secret into it")
    return text


def _check_together(settings: Settings) -> None:
    """Raises SettingsError where settings that are right alone contradict each other."""
    if settings.data is None and not settings.queue_url.startswith(MEMORY_QUEUE):
        raise SettingsError(
            f"{variable_of('data')} is not set: with a queue on Redis, give the folder or fsspec URL that API and "
            "workers share for uploads and results"
        )
    if settings.default_wait > settings.max_wait:
        raise SettingsError(
            f"{variable_of('default_wait')} is {settings.default_wait:g}: give at most {variable_of('max_wait')}, "
            f"which is {settings.max_wait:g}"
        )
    if settings.stall_seconds <= settings.decode_seconds:
        raise SettingsError(
            f"{variable_of('stall_seconds')} is {settings.stall_seconds:g}: give more than "
            f"{variable_of('decode_seconds')}, which is {settings.decode_seconds:g}"
        )


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def _settings_error(error: ValidationError, overrides: Mapping[str, str]) -> SettingsError:
    mistake = first_mistake(error)
    name = str(mistake.path[0])
    key = overrides.get(name, variable_of(name))
    if name in _SECRETS:
        return SettingsError(f"{key} is wrong: {mistake.reason}")
    remedy = mistake.reason if mistake.kind == "value_error" else f"give {accepted_values(Settings, name)}"
    return SettingsError(f"{key} is {shortened(mistake.value)}: {remedy}")
