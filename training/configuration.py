"""Training configurations: YAML files checked against dataclasses, so that a misspelt key is an error that names it."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from dataclasses import Field as DataclassField
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from models.networks.arn import ArnConfig
from models.networks.detectors import DetectorConfig
from models.networks.rs_net import RsNetConfig
from models.networks.two_stage import RelationNetworkConfig
from training.data.clips import Augmentation
from training.errors import ConfigurationError
from training.losses import LossConfig
from training.relation_losses import RelationLossConfig

ModelConfig = Annotated[ArnConfig | DetectorConfig | RelationNetworkConfig, Field(discriminator="network")]
"""What a run trains; `network` says which."""
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_RELATIONS = ("sttran", "tr2", "mosa", "fremure")
_READ_BY: dict[str, tuple[str, ...]] = {
    "loss": ("arn",),
    "detr_weights": ("arn",),
    "text_embeddings": ("arn", "tr2", "mosa"),
    "text_learning_rate": ("arn", "tr2", "mosa"),
    "backbone_weights": ("detector",),
    "backbone_learning_rate": ("arn", "detector"),
    "freeze_backbone": ("arn", "detector"),
    "word_vectors": _RELATIONS,
    "detector": _RELATIONS,
    "task": _RELATIONS,
    "cache_pairs": _RELATIONS,
    "relation_scoring": ("arn", *_RELATIONS),
}
"""Which networks read a key that not all do."""


def _no_is_a_word(value: object) -> object:
    """YAML takes a plain `no` for false."""
    return "no" if value is False else value


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainingConfig:
    """One training run."""

    name: str
    data: Path
    """Root of a data folder that lies on disk as Action Genome does."""
    output: Path
    """Folder of checkpoints, TensorBoard events and the resumable state."""
    model: ModelConfig
    loss: LossConfig = field(default_factory=LossConfig)
    """Of ARN."""
    relation_loss: RelationLossConfig = field(default_factory=RelationLossConfig)
    """Of the two-stage networks, and of relation scorers."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    steps: PositiveInt = 10_000
    batch_size: PositiveInt = 8
    """Clips of one step, of each process."""
    clip_length: PositiveInt = 1
    """Frames of a training clip."""
    small_objects: Literal["keep", "drop"] = "drop"
    """Action Genome's SGDet and SGCls leave out objects under 16 px; a set of small frames keeps them."""
    validation_videos: NonNegativeInt = 0
    """Videos held out of the end of the training split; the test split is never looked at."""
    learning_rate: Rate = 1e-4
    backbone_learning_rate: Rate | None = None
    text_learning_rate: Rate | None = None
    """Of the classifiers that start from text embeddings; None is `learning_rate`."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["cosine", "step"] = "step"
    """`step` divides the rate by 10 after three quarters, `cosine` brings it to 2 %."""
    clip_gradient_norm: Rate = 0.1
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights that is evaluated and saved; 0 is off."""
    mixed_precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_no_is_a_word)] = "no"
    freeze_backbone: bool = False
    backbone_weights: str | None = None
    """What a detector's backbone starts from: `imagenet`, or a checkpoint with a compact backbone."""
    workers: NonNegativeInt = 0
    cache_frames: bool = False
    detector: Path | None = None
    """Checkpoint of the detector whose pairs a two-stage network reads; it is not trained any further."""
    task: Literal["predcls", "sgcls", "sgdet"] = "sgdet"
    """What a two-stage network is trained for."""
    cache_pairs: bool = False
    """Keep the detector's pairs on disk, beside the data, for all epochs and runs; then frames are not augmented."""
    relation_scoring: bool = False
    """Attach RS-Net."""
    scorer: RsNetConfig = field(default_factory=lambda: RsNetConfig(input_width=1))
    """Shape of RS-Net; its `input_width` is set to the host's."""
    freeze_host: bool = False
    """Train the relation scorer alone, on a host that is taken from `initialise_from` as it is."""
    initialise_from: Path | None = None
    """A checkpoint of this project whose fitting weights start this run."""
    initialise_only: tuple[str, ...] = ()
    """Take only weights whose names begin with one of these; empty takes all that fit."""
    detr_weights: str | None = None
    """COCO DETR weights as a file or an https URL."""
    text_embeddings: Path | None = None
    """A .npy file of triplet sentence embeddings; None asks open_clip for ViT-B/32."""
    word_vectors: Path | None = None
    """GloVe's text file, from which a two-stage network's words start; None starts them at random."""
    evaluate_every: NonNegativeInt = 1000
    """Steps between validations, of which one comes at the end; 0 never validates."""
    save_every: PositiveInt = 500

    def __post_init__(self) -> None:
        if isinstance(self.model, ArnConfig) and self.clip_length > self.model.clip_length:
            raise ConfigurationError(
                f"clip_length {self.clip_length} is longer than model.clip_length {self.model.clip_length}; raise it"
            )
        if self.freeze_host and not (self.relation_scoring and self.initialise_from):
            raise ConfigurationError(
                "freeze_host trains the relation scorer alone: set relation_scoring, and initialise_from to the "
                "checkpoint that the host is taken from"
            )

    def unread_keys(self) -> list[str]:
        """A sentence for each key that is set, and that the network of this run does not read."""
        network = self.model.network
        return [
            f"{field.name} is set, but {network} does not read it; {', '.join(_READ_BY[field.name])} do"
            for field in fields(self)
            if field.name in _READ_BY and network not in _READ_BY[field.name]
            if getattr(self, field.name) != _default_of(field)
        ]


def _default_of(declared: DataclassField[Any]) -> object:
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def load_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Reads a YAML file; `overrides` are dotted keys (`model.queries`) that win over the file.

    Raises ConfigurationError naming the file and the key that is unknown, missing or of the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold keys and values, not {type(content).__name__}")
    for key, value in (overrides or {}).items():
        node = content
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigurationError(f"{path}: {key!r} cannot be set: {parent!r} is a value, not a group of keys")
        node[last] = value
    try:
        return TypeAdapter(TrainingConfig).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {key}: {first['msg']} (found {first['input']!r})") from error
