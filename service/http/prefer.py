"""The `Prefer` request header of RFC 7240: `respond-async` and `wait=N`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Preference:
    """How long the caller wants POST /videos to wait.

    seconds  to wait, at most the operator's cap
    applied  the value for `Preference-Applied`; None where no preference was honoured
    """

    seconds: float
    applied: str | None


def read_preference(headers: Sequence[str], *, default: float, cap: float) -> Preference:
    """Reads all `Prefer` headers of a request; what is unknown or malformed is ignored, as the RFC wants it.

    `respond-async` alone does not wait; together with `wait=N` the answer is asynchronous only after N seconds.
    """
    respond_async = False
    wait: int | None = None
    for preference in ",".join(headers).split(","):
        name, _, value = preference.split(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and wait is None and value.isdecimal() and len(value) <= 9:
            wait = min(int(value), int(cap))
    applied = ["respond-async"] if respond_async else []
    seconds = 0.0 if respond_async else min(default, cap)
    if wait is not None:
        applied.append(f"wait={wait}")
        seconds = float(wait)
    return Preference(seconds, ", ".join(applied) or None)
