"""Settings of a joined bundle that are too many for options: a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.errors import ExportError
from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.fitting import Fit
from models.graph.validation import in_words
from models.networks.detectors.choosing import ChoosingConfig
from models.networks.detectors.fused import FusingConfig


class JoinSettings(BaseModel):
    """Settings of `vsg join --settings`; all may be left out.

    fit: how pictures of another shape fill the detector's input.
    further_objects: classes of the detector that become objects of the vocabulary beside its own.
    fusing: how the boxes of two detectors become one list, where there is a second one.
    choosing: detections that become pairs.
    thresholds: of the manifest, like `scoring` and `statements`.
    prior_shifts: predicate to a constant that is added to its logit; see `models.networks.relations.prior_shift`.
    never_said: predicate to the objects of the vocabulary that it is never said of.
    figures: of the manifest's `training`: what was measured, by the name of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: Fit = "stretch"
    further_objects: tuple[str, ...] = ()
    fusing: FusingConfig = FusingConfig()
    choosing: ChoosingConfig = ChoosingConfig()
    thresholds: Thresholds = Thresholds()
    scoring: Scoring = Scoring()
    statements: Statements = Statements()
    prior_shifts: dict[str, Annotated[float, Field(ge=-10, le=10)]] = Field(default_factory=dict)
    never_said: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    figures: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)


def read_settings(path: Path | None, **options: dict[str, Any]) -> JoinSettings:
    """Reads a file of settings; options win over it. Raises ExportError, naming the key, where one cannot be used.

    path: None reads nothing.
    options: by section, keys to values.
    """
    try:
        content = {} if path is None else yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ExportError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path} must hold keys and values, not {type(content).__name__}")
    try:
        return JoinSettings.model_validate(
            content | {section: {**(content.get(section) or {}), **given} for section, given in options.items()}
        )
    except ValidationError as error:
        raise ExportError(f"{path or 'the options'}: {in_words(error, 'the settings')}") from error
