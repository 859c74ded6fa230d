"""The `Accept` request header, as far as this API has a choice to make."""

from __future__ import annotations

from service.formats import MEDIA_TYPES, Format


def accepted_format(header: str) -> Format:
    """The format that the caller likes best of those named in the header; JSON where it names none of them.

    Of equally good ones the first. Ranges such as `*/*` name no format.
    """
    named: list[tuple[float, Format]] = []
    for part in header.split(","):
        media_type, *parameters = (text.strip().lower() for text in part.split(";"))
        for form, known in MEDIA_TYPES.items():
            if media_type == known:
                named.append((_quality(parameters), form))
    quality, form = max(named, key=lambda pair: pair[0], default=(0.0, "json"))
    return form if quality > 0 else "json"


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
