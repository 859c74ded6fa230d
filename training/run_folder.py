"""The folder of a training run: it belongs to one run, is locked while in use, and holds only whole states."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from accelerate import Accelerator
from safetensors import SafetensorError

from models.graph.bundle import sha256_of
from training.configuration import FILE_KEYS, TrainingConfig
from training.errors import ConfigurationError, SaveError

IDENTITY_FILE: Final = "run.json"
FREE_KEYS: Final = frozenset({"name", "output", "steps", "save_every", "evaluate_every", "workers", "cache_frames"})
"""Keys that may change when a run goes on: they decide how long and how, not what is learned."""
_PARTIAL: Final = ".partial"


class RunFolder:
    """Keeps a run's identity, its lock and its states.

    folder: `output` of the configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._states = folder / "state"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder. Raises ConfigurationError where it cannot be, or another run that is alive holds it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "lock").open("a+")
        except OSError as error:
            raise ConfigurationError(f"output {self.folder} cannot be written: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise ConfigurationError(
                    f"{self.folder} is in use by process {file.read().strip() or 'unknown'}; "
                    "wait for that run, end it, or name another output"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def clear(self) -> None:
        """Forgets the run that was here; its checkpoint stays until the next one is written."""
        (self.folder / IDENTITY_FILE).unlink(missing_ok=True)
        rmtree(self._states, ignore_errors=True)

    def claim(self, identity: dict[str, Any]) -> None:
        """Writes what the run is, or compares it with what is written; other parts of the identity stay as they are.

        Raises ConfigurationError with the keys that differ where the folder holds another run.
        """
        path = self.folder / IDENTITY_FILE
        try:
            known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise SaveError(f"{path} is damaged ({error}); begin anew with --restart") from error
        shared = {part: known[part] for part in identity if part in known}
        if changed := sorted(differing(shared, {part: identity[part] for part in shared})):
            raise ConfigurationError(
                f"{self.folder} holds a run with another {', '.join(changed)}; "
                "name another output, or begin anew with --restart"
            )
        temporary = path.with_suffix(_PARTIAL)
        try:
            temporary.write_text(json.dumps(known | identity, indent=1))
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SaveError(f"{path} cannot be written: {error.strerror}") from error

    def newest_state(self) -> tuple[Path, int] | None:
        """The folder of the last state that was saved whole, and its step."""
        whole = {int(path.name.removeprefix("step-")): path for path in self._states.glob("step-*[0-9]")}
        return (whole[max(whole)], max(whole)) if whole else None

    def save_state(self, accelerator: Accelerator, step: int) -> None:
        """Saves the state of a step beside the one before, which goes when the new one is whole.

        All processes call it. Raises SaveError where it cannot be written; the state before is then still there.
        """
        final = self._states / f"step-{step:08}"
        partial = final.with_suffix(_PARTIAL)
        if accelerator.is_main_process:
            rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(partial))
        except (OSError, RuntimeError, SafetensorError) as error:
            rmtree(partial, ignore_errors=True)
            # Where a disk is full, torch's writer tells of positions in its file instead.
            reason = "torch cannot write it, the disk may be full" if isinstance(error, RuntimeError) else str(error)
            raise SaveError(f"the state of step {step} cannot be saved in {self._states}: {reason}") from error
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            rmtree(final, ignore_errors=True)
            partial.replace(final)
            for other in self._states.iterdir():
                if other != final:
                    rmtree(other, ignore_errors=True)
        accelerator.wait_for_everyone()

    def load_state(self, accelerator: Accelerator) -> int:
        """Loads the newest state and returns its step; 0 where there is none. Raises SaveError where it is damaged."""
        newest = self.newest_state()
        if newest is None:
            return 0
        path, step = newest
        try:
            accelerator.load_state(str(path))
        except (OSError, RuntimeError, ValueError, EOFError, LookupError, SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise SaveError(f"{path} cannot be read ({reason}); begin anew with --restart") from error
        return step


def identity_of(config: TrainingConfig, processes: int) -> dict[str, Any]:
    """All that decides what a run learns but its data, as plain values: files by what they hold."""
    plain = plain_values(config)
    files = {key: Path(str(plain[key])) for key in FILE_KEYS if plain[key] is not None}
    return {
        "config": {key: value for key, value in plain.items() if key not in FREE_KEYS},
        "files": {key: sha256_of(path) for key, path in files.items() if path.is_file()},
        "processes": processes,
    }


def plain_values(config: TrainingConfig) -> dict[str, Any]:
    """A configuration as JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return plain


def differing(first: Any, second: Any, key: str = "") -> Iterator[str]:
    """Dotted keys under which two nests of plain values differ."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        if first != second:
            yield key
        return
    for name in first.keys() | second.keys():
        yield from differing(first.get(name), second.get(name), f"{key}.{name}" if key else name)
