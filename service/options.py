"""The options of a request: declared here for HTTP, its OpenAPI document, the command line and docs/api.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from models.graph.scene_graph import Constraint, Options, Warning
from models.graph.validation import accepted_values, check_digits, first_mistake, shortened
from service.errors import InvalidOption

# Thirty years. Arithmetic with times near the largest number would overflow.
_HIGHEST_SECONDS = 1e9
_LONGEST_NAME = 80  # characters; of an option that does not exist


def _read_flag(value: object, info: ValidationInfo) -> object:
    """Takes true and false in any case, 1 and 0. Pydantic would take more for a truth value: `yes`, `on`, `T`."""
    # The third mode is `string`, which the types do not know.
    if info.mode in ("python", "json"):
        return value
    if str(value).lower() not in ("true", "false", "1", "0"):
        raise ValueError("give true or false")
    return str(value).lower()


class VideoOptions(BaseModel):
    """The options of a request for the graph of a video.

    A value over one of these limits is a mistake. A value over the operator's cap is lowered later, with a warning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, description="name of a model of GET /models; by default the first")
    fps: float = Field(default=2.0, gt=0, le=1000.0, description="frames sampled per second")
    start: float = Field(
        default=0.0, ge=0, le=_HIGHEST_SECONDS, description="seconds from the beginning where sampling starts"
    )
    end: float | None = Field(
        default=None,
        ge=0,
        le=_HIGHEST_SECONDS,
        description="seconds from the beginning where sampling ends; by default the end",
    )
    max_frames: int | None = Field(
        default=None, ge=1, le=10**12 - 1, description="most frames to sample; by default the operator's cap"
    )
    min_score: float = Field(default=0.0, ge=0, le=1, description="least score of a triplet")
    top_k: int = Field(default=20, ge=1, le=1000, description="most triplets per frame")
    constraint: Constraint = Field(
        default="with",
        description="predicates kept of a pair: the best of each group (with), those over 0.9 too (semi), all (no)",
    )
    uncertainty: Annotated[bool, BeforeValidator(_read_flag)] = Field(
        default=False, description="triplets carry the model's uncertainty, where it knows it"
    )

    @field_validator("fps", "start", "end", "max_frames", "min_score", "top_k", mode="before")
    @classmethod
    def _check_digits(cls, value: object) -> object:
        return check_digits(value)

    @model_validator(mode="after")
    def _start_is_before_end(self) -> Self:
        if self.end is not None and self.start >= self.end:
            raise ValueError(
                f"start {self.start:g} is not before end {self.end:g}: give seconds from the beginning of the video"
            )
        return self

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], *, spelled: Callable[[str], str] = str) -> Self:
        """Reads form fields, query parameters or options of the command line. An empty text means not given.

        spelled: how an error names an option, such as `--max-frames`.

        Raises InvalidOption.
        """
        # An unknown name is refused also where its text is empty.
        stripped = {name: text.strip(" \t\r\n") for name, text in texts.items()}
        given = {name: text for name, text in stripped.items() if text or name not in cls.model_fields}
        try:
            return cls.model_validate_strings(given)
        except ValidationError as error:
            raise cls.invalid_option(error, spelled) from error

    @classmethod
    def invalid_option(cls, error: ValidationError, spelled: Callable[[str], str] = str) -> InvalidOption:
        """The first mistake in words: the option, the value and what is allowed."""
        mistake = first_mistake(error)
        if not mistake.path:
            return InvalidOption("start", mistake.reason)
        name = str(mistake.path[0])[:_LONGEST_NAME]
        if mistake.kind == "extra_forbidden":
            return InvalidOption(name, f"{name!r} is not an option: use {', '.join(map(spelled, cls.model_fields))}")
        detail = f"{spelled(name)} is {shortened(mistake.value)}: give {accepted_values(cls, name)}"
        return InvalidOption(name, detail)

    def applied(self, *, max_fps: float, max_frames: int) -> tuple[Options, list[Warning]]:
        """The options as they will be used, with a warning for each that was lowered to the operator's cap."""
        values = self.model_dump(exclude={"model"})
        if self.max_frames is None:
            values["max_frames"] = max_frames
        warnings = []
        for name, cap in (("fps", max_fps), ("max_frames", max_frames)):
            if values[name] > cap:
                detail = f"{name} {values[name]:.15g} is over this service's cap; {cap:.15g} is used"
                warnings.append(Warning(code=f"{name}_lowered", detail=detail))
                values[name] = cap
        return Options(**values), warnings


class RequestOptions(VideoOptions):
    """The options of POST /videos: those of the graph, and what happens when it is made."""

    webhook: str | None = Field(default=None, description="URL that is told when the job has ended; by default none")

    @property
    def of_graph(self) -> VideoOptions:
        """The options that make a difference to the graph."""
        return VideoOptions(**self.model_dump(include=set(VideoOptions.model_fields)))

    def with_body(self, body: RequestOptions) -> RequestOptions:
        """The options of a query together with those of its body.

        Raises InvalidOption where both give the same one, or where they contradict each other.
        """
        query, other = self._given(), body._given()
        if twice := sorted(query.keys() & other.keys()):
            raise InvalidOption(twice[0], f"{twice[0]} is given in the body and in the query: give it once")
        try:
            return RequestOptions(**query, **other)
        except ValidationError as error:
            raise self.invalid_option(error) from error

    def _given(self) -> dict[str, Any]:
        given = self.model_dump(include=set(RequestOptions.model_fields), exclude_unset=True)
        return {name: value for name, value in given.items() if value not in (None, "")}
