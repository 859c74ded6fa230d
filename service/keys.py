"""Keys that let callers in. The operator's key file holds their hashes."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from pathlib import Path

import structlog

from service.errors import SettingsError
from service.settings import Settings, variable_of

ANONYMOUS = "anonymous"  # the owner of what is posted while the service has no keys
_REMEDY = "`vsg key NAME` prints a correct line"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")

log = structlog.get_logger(__name__)


def new_key() -> str:
    """A key of 256 random bits."""
    return f"vsg_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """The sha256 of a key in hex, which is all that is kept of it.

    A fast hash is enough. Slow ones protect passwords, which can be guessed; 256 random bits cannot.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def key_line(name: str, key: str) -> str:
    """The line of the key file that lets a key in. Raises SettingsError where the name cannot be used."""
    if problem := _wrong_name(name):
        raise SettingsError(problem)
    return f"{name} {hash_key(key)}"


class Keys:
    """The keys of a key file, read again whenever the file changes.

    A wrong file stops the start. Where it goes wrong later, a line that cannot be read lets nobody in, and the log says
    why. A key that is removed is refused at once, whatever else is wrong with the file.
    """

    def __init__(self, path: Path) -> None:
        """Raises SettingsError, which names file, line and remedy."""
        self._path = path
        self._stamp = _stamp(path)
        self._names, problems = _read(path)
        if problems:
            raise SettingsError(problems[0])
        if not self._names:
            raise SettingsError(f"{path} holds no key: {_REMEDY}")

    def owner(self, key: str) -> str | None:
        """The name of a key; None where the file does not hold it."""
        self._refresh()
        digest = hash_key(key)
        owner = None
        # Every hash is compared, in constant time, so that the time of an answer says nothing about them.
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                owner = name
        return owner

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._names, problems = _read(self._path)
        for problem in problems:
            log.error("wrong key file", problem=problem)
        log.info("key file read again", keys=len(self._names))


def keys_of(settings: Settings) -> Keys | None:
    """The keys that callers need; None for a service on localhost without a key file.

    Raises SettingsError where the key file is wrong, or where other machines could reach a service without keys.
    """
    if settings.keys is not None:
        return Keys(settings.keys)
    if not is_loopback(settings.host):
        raise SettingsError(
            f"host {settings.host!r} can be reached from other machines and there are no keys: make one with "
            f"`vsg key NAME`, put the line that it prints into a file, and name the file with --keys or "
            f"{variable_of('keys')}; or listen on 127.0.0.1"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address. Names other than `localhost` could lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """A value that changes with the file's content; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    """The names of a key file by hash, and its problems."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return {}, [
            f"the key file {path} cannot be read: {error.strerror}; name one with --keys or {variable_of('keys')}"
        ]
    except UnicodeDecodeError:
        return {}, [f"the key file {path} is not text: {_REMEDY}"]
    names: dict[str, str] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if problem := _wrong_line(words, names):
            problems.append(f"{path}, line {number}: {problem}; {_REMEDY}")
        else:
            names[words[1]] = words[0]
    return names, problems


def _wrong_line(words: list[str], names: dict[str, str]) -> str | None:
    # Only the name is shown: the other word may be a key that was put there by mistake.
    if len(words) != 2:
        return "the line is not a name and a hash"
    name, digest = words
    if problem := _wrong_name(name):
        return problem
    if not _HASH.fullmatch(digest):
        return f"the hash of {name} is not 64 hexadecimal digits in lower case"
    if digest in names:
        return f"the key of {name} is in the file already, as that of {names[digest]}"
    return None


def _wrong_name(name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return f"the name {name[:80]!r} is wrong: give 1 to 64 letters, digits, '.', '_', '-', no sign first"
    if name == ANONYMOUS:
        return f"the name {ANONYMOUS!r} is for callers without a key: give another"
    return None
