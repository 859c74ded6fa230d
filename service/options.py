"""The options of a request: read from text, checked, and limited to what the operator allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field

from models.graph.scene_graph import Constraint, Options, Warning
from service.errors import InvalidOption

DEFAULT_FPS = 2.0
DEFAULT_TOP_K = 20
# No camera goes beyond; above it a rate is a mistake, not a wish that an operator's cap could grant in part.
HIGHEST_FPS = 1000.0
HIGHEST_TOP_K = 1000
HIGHEST_COUNT = 10**12 - 1
# Thirty years. Arithmetic with times near the largest number would overflow.
HIGHEST_SECONDS = 1e9


class VideoOptions(BaseModel):
    """What a caller asks for; None means the operator's choice.

    Built by `parse_options`, which says more about a wrong value; the limits here are also those of the OpenAPI schema.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    fps: float = Field(DEFAULT_FPS, gt=0, le=HIGHEST_FPS)
    start: float = Field(0.0, ge=0, le=HIGHEST_SECONDS)
    end: float | None = Field(None, ge=0, le=HIGHEST_SECONDS)
    max_frames: int | None = Field(None, ge=1, le=HIGHEST_COUNT)
    min_score: float = Field(0.0, ge=0, le=1)
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=HIGHEST_TOP_K)
    constraint: Constraint = "with"
    uncertainty: bool = False

    def applied(self, *, max_fps: float, max_frames: int) -> tuple[Options, list[Warning]]:
        """The options as they will be used, with a warning for each that was lowered to the operator's cap."""
        warnings = []
        fps, frames = self.fps, max_frames if self.max_frames is None else self.max_frames
        if fps > max_fps:
            detail = f"fps {fps:g} is over this service's cap; {max_fps:g} is used"
            warnings.append(Warning(code="fps_lowered", detail=detail))
            fps = max_fps
        if frames > max_frames:
            detail = f"max_frames {frames} is over this service's cap; {max_frames} is used"
            warnings.append(Warning(code="max_frames_lowered", detail=detail))
            frames = max_frames
        options = Options(
            fps=fps,
            start=self.start,
            end=self.end,
            max_frames=frames,
            min_score=self.min_score,
            top_k=self.top_k,
            constraint=self.constraint,
            uncertainty=self.uncertainty,
        )
        return options, warnings


OPTION_NAMES = tuple(VideoOptions.model_fields)
WEBHOOK = "webhook"
"""Given like an option, but not about the graph."""


def parse_options(texts: Mapping[str, str]) -> VideoOptions:
    """Reads options from form fields or query parameters, but for `webhook`; an empty text means not given.

    Raises InvalidOption, naming the option, the value and what is allowed.
    """
    values: dict[str, object] = {}
    for name, text in texts.items():
        if name not in (*OPTION_NAMES, WEBHOOK):
            raise InvalidOption(
                name, f"{name!r} is not an option; the options are {', '.join(OPTION_NAMES)}, {WEBHOOK}"
            )
        if text.strip() == "" or name == WEBHOOK:
            continue
        values[name] = _READERS[name](name, text.strip())
    options = VideoOptions.model_validate(values)
    if options.end is not None and options.start >= options.end:
        detail = f"start {options.start:g} is not before end {options.end:g}; both are seconds from the beginning"
        raise InvalidOption("start", detail)
    return options


def _number(name: str, text: str, low: float, high: float, *, above: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Every comparison with nan is false, so nan is refused here too.
    if not ((low < value if above else low <= value) and value <= high):
        span = f"over {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
        raise InvalidOption(name, f"{name} is {_shown(text)}, but must be a number {span}")
    return value


def _fps(name: str, text: str) -> float:
    return _number(name, text, 0, HIGHEST_FPS, above=True)


def _seconds(name: str, text: str) -> float:
    return _number(name, text, 0, HIGHEST_SECONDS)


def _fraction(name: str, text: str) -> float:
    return _number(name, text, 0, 1)


def _count(name: str, text: str) -> int:
    # isdecimal takes other scripts' digits, which int reads as well; the length keeps int from minutes of work.
    if not (text.isdecimal() and len(text) <= len(str(HIGHEST_COUNT)) and int(text) >= 1):
        raise InvalidOption(name, f"{name} is {_shown(text)}, but must be a whole number from 1 up")
    return int(text)


def _top_k(name: str, text: str) -> int:
    value = _count(name, text)
    if value > HIGHEST_TOP_K:
        raise InvalidOption(name, f"{name} is {value}, but must be a whole number from 1 to {HIGHEST_TOP_K}")
    return value


def _constraint(name: str, text: str) -> str:
    if text not in get_args(Constraint):
        raise InvalidOption(name, f"{name} is {_shown(text)}, but must be one of {', '.join(get_args(Constraint))}")
    return text


def _flag(name: str, text: str) -> bool:
    if text not in _FLAGS:
        raise InvalidOption(name, f"{name} is {_shown(text)}, but must be true or false")
    return _FLAGS[text]


def _text(name: str, text: str) -> str:
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_READERS = {
    "model": _text,
    "fps": _fps,
    "start": _seconds,
    "end": _seconds,
    "max_frames": _count,
    "min_score": _fraction,
    "top_k": _top_k,
    "constraint": _constraint,
    "uncertainty": _flag,
}
