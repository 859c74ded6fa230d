"""Flags of the command line, made from the fields of `Settings` and `VideoOptions`.

A command gets them as texts, so that they are read like environment variables and requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from pydantic import BaseModel

from models.graph.validation import accepted_values
from service.options import VideoOptions
from service.settings import Settings, load_settings, variable_of

# Settings whose flag is not their name.
_FLAGS = {
    "bundles": "--bundle",
    "queue_url": "--redis",
    "caption_base_url": "--base-url",
    "caption_model": "--model",
    "caption_seconds": "--timeout",
}

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_flags(*names: str) -> Callable[[Command], Command]:
    """Gives a command flags for these settings, which it passes on to `read_settings`."""
    return _flags(Settings, names)


def option_flags(*names: str) -> Callable[[Command], Command]:
    """Gives a command flags for these options of a video, which it passes on to `read_options`."""
    return _flags(VideoOptions, names)


def read_options(texts: Mapping[str, str | None]) -> VideoOptions:
    """The options of a command line; None means not given. Raises InvalidOption, which names the flag."""
    given = {name: text for name, text in texts.items() if text is not None}
    return VideoOptions.from_texts(given, spelled=_flag)


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """The settings under these flags; None means not given. Raises SettingsError, which names the flag."""
    return load_settings(flags, spelled=_flag)


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _flags(model: type[BaseModel], names: tuple[str, ...]) -> Callable[[Command], Command]:
    schemas = model.model_json_schema()["properties"]

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            kind = schemas[name].get("type")
            command = click.option(
                _flag(name),
                name,
                help=_help(model, name, schemas[name]),
                is_flag=kind == "boolean",
                flag_value="true" if kind == "boolean" else None,
                multiple=kind == "array",
                default=None,
                callback=lambda context, option, value: None if value == () else value,
            )(command)
        return command

    return decorate


def _help(model: type[BaseModel], name: str, schema: Mapping[str, Any]) -> str:
    description, default, accepted = schema["description"], schema["default"], accepted_values(model, name)
    notes = [] if accepted in ("a text", "true or false") else [accepted]
    if schema.get("type") == "array":
        notes.append("may be repeated")
    if default not in (None, "", [], False):
        notes.append(f"default: {default:.15g}" if isinstance(default, float) else f"default: {default}")
    if model is Settings:
        notes.append(variable_of(name))
    return f"{description[0].upper()}{description[1:]}." + (f" [{'; '.join(notes)}]" if notes else "")
