from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.fetching import HostPattern
from service.settings import Settings, decode_limits, load_settings


def test_defaults_need_no_environment() -> None:
    assert load_settings().host == "127.0.0.1"


def test_there_are_at_most_sixty_settings_and_each_is_described() -> None:
    assert len(Settings.model_fields) <= 60
    assert all(field.description for field in Settings.model_fields.values())


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSG_PORT", "1234")
    assert load_settings().port == 1234
    assert load_settings({"port": 4321}).port == 4321
    assert load_settings({"port": None}).port == 1234


def test_bundles_are_paths_separated_as_on_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSG_BUNDLES", "/one:/two")
    assert load_settings().bundles == (Path("/one"), Path("/two"))


@pytest.mark.parametrize(("key", "value"), [("VSG_PORT", "ninety"), ("VSG_CONCURRENCY", "0"), ("VSG_RETENTION", "nan")])
def test_a_wrong_value_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError, match=f"{key} is '{value}': give a "):
        load_settings()


def test_hosts_and_networks_are_lists_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSG_URL_HOSTS", "example.org, *.example.com:8443")
    monkeypatch.setenv("VSG_URL_NETWORKS", "10.1.0.0/16,fd00::/8")
    settings = load_settings()
    assert settings.url_hosts == (HostPattern("example.org"), HostPattern("*.example.com", 8443))
    assert settings.url_networks == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    monkeypatch.setenv("VSG_URL_HOSTS", "https://example.org")
    with pytest.raises(SettingsError, match="VSG_URL_HOSTS is 'https://example"):
        load_settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [("VSG_PORT", "8_000"), ("VSG_PORT", "\uff18\uff10"), ("VSG_RETENTION", "1_0"), ("VSG_MAX_FPS", "٢")],
)
def test_numbers_are_written_in_plain_digits(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError, match=f"{key} is '{value}': give a (whole )?number"):
        load_settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("VSG_PATH_PREFIX", value) for value in ("graphs", "/graphs/", "/", "//a", "/a b", "/videos", "/models/x")),
        *(("VSG_CORS_ORIGINS", value) for value in ("app.example.org", "https://a.example/", "https://*.a", "null")),
        *(("VSG_ALLOWED_HOSTS", value) for value in ("https://a.example", "a b")),
        *(("VSG_PROXIES", value) for value in ("proxy", "10.0.0.0/33")),
    ],
)
def test_what_a_proxy_and_browsers_need_is_checked_at_the_start(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError, match=f"^{key} is "):
        load_settings()


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", "whsec_no base64!", "hunter2"])
def test_a_malformed_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("VSG_WEBHOOK_SECRET", secret)
    with pytest.raises(SettingsError, match="VSG_WEBHOOK_SECRET is wrong: give the base64") as refused:
        load_settings()
    assert secret not in str(refused.value)


def test_an_unknown_key_is_refused_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSG_MAX_FRAME", "3")
    with pytest.raises(SettingsError, match="VSG_MAX_FRAME is not a setting: did you mean VSG_MAX_FRAMES"):
        load_settings()


def test_the_decoder_gets_the_operators_limits() -> None:
    limits = decode_limits(load_settings({"decode_seconds": 7.5, "max_pixels": 1000}))
    assert (limits.seconds, limits.cpu_seconds, limits.max_pixels) == (7.5, 16, 1000)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VSG_LEASE_SECONDS": "0.01"}, "VSG_LEASE_SECONDS is '0.01': give a number from 1"),
        ({"VSG_SWEEP_SECONDS": "0.001"}, "VSG_SWEEP_SECONDS is '0.001': give a number from 0.1"),
        ({"VSG_DEFAULT_WAIT": "700"}, "VSG_DEFAULT_WAIT is 700: give at most VSG_MAX_WAIT, which is 600"),
        ({"VSG_MAX_WAIT": "30"}, "VSG_DEFAULT_WAIT is 60: give at most VSG_MAX_WAIT, which is 30"),
        ({"VSG_STALL_SECONDS": "900"}, "VSG_STALL_SECONDS is 900: give more than VSG_DECODE_SECONDS, which is 900"),
        ({"VSG_DECODE_SECONDS": "2000"}, "VSG_STALL_SECONDS is 960: give more than VSG_DECODE_SECONDS, which is 2000"),
    ],
)
def test_settings_that_contradict_each_other_or_can_never_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "http://redis:6379",
        "redis://",
        "redis://:6379",
        "redis://host:port",
        "redis://host:99999",
        "redis://:hunter2@host/queue",
        "redis:/host",
        "amqp://user:hunter2@host",
        "rediss+sentinel://",
        "unix://",
    ],
)
def test_a_queue_that_is_no_redis_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("VSG_QUEUE_URL", url)
    with pytest.raises(SettingsError, match="VSG_QUEUE_URL is wrong: give memory://, or a URL of Redis") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "rediss://user:word@host:6380/2",
        "redis+cluster://host:7000",
        "unix:///run/redis.sock",
        "redis+sentinel://a:26379,b:26379/main/0",
        "redis://[::1]:6379/0",
    ],
)
def test_every_kind_of_redis_is_taken(url: str) -> None:
    assert load_settings({"queue_url": url, "data": "/data"}).queue_url == url


def test_a_variable_that_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"VSG_{name.upper()}", "")
    assert load_settings({"keys": "", "data": ""}) == Settings.model_construct(**load_settings().model_dump())
    assert (load_settings().keys, load_settings().data) == (None, None)
    monkeypatch.setenv("VSG_QUEUE_URL", "redis://host")
    with pytest.raises(SettingsError, match="VSG_DATA is not set"):
        load_settings()


def test_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("rediss://user:hunter2@host/0\n")
    monkeypatch.setenv("VSG_DATA", "/data")
    monkeypatch.setenv("VSG_QUEUE_URL_FILE", str(file))
    assert load_settings().queue_url == "rediss://user:hunter2@host/0"
    assert load_settings({"queue_url": "redis://other"}).queue_url == "redis://other", "a flag wins"
    file.write_text("hunter2")
    with pytest.raises(SettingsError, match="VSG_QUEUE_URL_FILE is wrong") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
    file.write_text(" \n")
    with pytest.raises(SettingsError, match=r"VSG_QUEUE_URL_FILE is .*: the file is empty"):
        load_settings()
    file.unlink()
    with pytest.raises(SettingsError, match=r"VSG_QUEUE_URL_FILE is .*: the file cannot be read"):
        load_settings()
    monkeypatch.setenv("VSG_QUEUE_URL", "redis://host")
    with pytest.raises(SettingsError, match="VSG_QUEUE_URL and VSG_QUEUE_URL_FILE are both set"):
        load_settings()
    monkeypatch.delenv("VSG_QUEUE_URL_FILE")
    monkeypatch.setenv("VSG_PORT_FILE", str(file))
    with pytest.raises(SettingsError, match="VSG_PORT_FILE is not a setting"):
        load_settings()
