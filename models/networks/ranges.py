"""Types of the values that configurations of networks hold; a value outside is refused where it is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

Dropout = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Widths = tuple[PositiveInt, PositiveInt, PositiveInt]
Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Ratios = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
