"""Keys: how they are made, kept, read again, and when a service needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from service.errors import SettingsError
from service.http import create_app
from service.keys import Keys, hash_key, is_loopback, key_line, new_key
from service.settings import load_settings
from tests.support.paths import ROOT


def write_keys(path: Path, **keys: str) -> Path:
    """A key file with these keys by name."""
    path.write_text("".join(f"{key_line(name, key)}\n" for name, key in keys.items()))
    return path


def vsg(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.command_line", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_the_command_prints_a_key_and_the_line_that_lets_it_in(tmp_path: Path) -> None:
    done = vsg("key", "alice")
    assert done.returncode == 0, done.stderr
    key, line = done.stdout.splitlines()
    (tmp_path / "keys").write_text(line)
    assert key not in line
    assert Keys(tmp_path / "keys").owner(key) == "alice"


def test_the_command_adds_lines_to_a_key_file(tmp_path: Path) -> None:
    made = {name: vsg("key", name, "--keys", tmp_path / "keys").stdout.strip() for name in ("alice", "bob")}
    keys = Keys(tmp_path / "keys")
    assert {name: keys.owner(key) for name, key in made.items()} == {"alice": "alice", "bob": "bob"}


def test_the_command_refuses_a_name_that_no_key_file_takes() -> None:
    done = vsg("key", "two words")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'two words'" in done.stderr


def test_no_two_keys_are_the_same_and_none_is_short() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("vsg_") and len(key) >= 4 + 256 // 6 for key in keys)


def test_a_key_file_may_have_comments_and_several_keys_of_one_owner(tmp_path: Path) -> None:
    old, new, other = new_key(), new_key(), new_key()
    path = tmp_path / "keys"
    path.write_text(f"# who may in\n\n{key_line('alice', old)} # the old one\n{key_line('alice', new)}\n")
    keys = Keys(path)
    assert keys.owner(old) == keys.owner(new) == "alice"
    assert keys.owner(other) is None
    assert keys.owner("") is None
    assert keys.owner("clé") is None
    assert keys.owner(hash_key(old)) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("alice", "the line is not a name and a hash"),
        ("alice a b", "the line is not a name and a hash"),
        ("alice vsg_secret", "the hash of alice is not 64 hexadecimal digits"),
        (f"-alice {'0' * 64}", "the name '-alice'"),
        (f"anonymous {'0' * 64}", "is for callers without a key"),
        (f"bob {'1' * 64}", "is in the file already, as that of carol"),
    ],
)
def test_a_wrong_line_is_named_with_its_remedy_and_without_its_secrets(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"carol {'1' * 64}\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        Keys(path)
    message = str(caught.value)
    assert f"{path}, line 2: " in message
    assert problem in message
    assert "`vsg key NAME`" in message
    assert "vsg_secret" not in message


def test_a_key_file_that_is_missing_empty_or_no_text_stops_the_start(tmp_path: Path) -> None:
    for content, problem in (
        (None, "cannot be read: No such file"),
        (b"# soon", "holds no key"),
        (b"\xff", "not text"),
    ):
        if content is not None:
            (tmp_path / "keys").write_bytes(content)
        with pytest.raises(SettingsError, match=problem):
            Keys(tmp_path / "keys")


def test_a_key_that_is_taken_out_of_the_file_is_refused_at_once_and_one_put_in_is_taken(tmp_path: Path) -> None:
    alice, bob = new_key(), new_key()
    keys = Keys(write_keys(tmp_path / "keys", alice=alice))
    write_keys(tmp_path / "keys", bob=bob, carol=new_key())
    assert (keys.owner(alice), keys.owner(bob)) == (None, "bob")


def test_in_a_file_that_goes_wrong_only_correct_lines_let_keys_in(tmp_path: Path) -> None:
    alice, bob = new_key(), new_key()
    path = write_keys(tmp_path / "keys", alice=alice, bob=bob)
    keys = Keys(path)
    path.write_text(f"alice {hash_key(alice)}\nbob\n")
    with structlog.testing.capture_logs() as logs:
        assert (keys.owner(alice), keys.owner(bob)) == ("alice", None)
    assert any("line 2" in str(entry.get("problem")) for entry in logs)
    path.unlink()
    assert keys.owner(alice) is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.7", False),
        ("localhost.example.org", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_service_without_keys_is_made_for_other_machines(host: str, tiny_bundle: Path) -> None:
    with pytest.raises(SettingsError, match=r"no keys.*`vsg key NAME`.*VSG_KEYS.*127\.0\.0\.1"):
        create_app(load_settings({"host": host, "bundles": (tiny_bundle,)}))


def test_serving_other_machines_without_keys_ends_with_one_line_that_says_why(tiny_bundle: Path) -> None:
    done = vsg("serve", "--bundle", tiny_bundle, "--port", "0", "--host", "0.0.0.0")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "'0.0.0.0'" in done.stderr
    assert "`vsg key NAME`" in done.stderr
