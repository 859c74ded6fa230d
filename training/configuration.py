"""Training configurations: YAML files checked against dataclasses, so that a misspelt key is an error that names it."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from dataclasses import Field as DataclassField
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError as ContradictionError
from models.networks.arn import ArnConfig
from models.networks.detectors import DetectorConfig
from models.networks.relations.layout import LayoutConfig
from models.networks.rs_net import RsNetConfig
from models.networks.two_stage import RelationNetworkConfig
from training.data.clips import Augmentation
from training.errors import ConfigurationError
from training.losses import LossConfig
from training.relation_losses import RelationLossConfig

ModelConfig = Annotated[
    ArnConfig | DetectorConfig | LayoutConfig | RelationNetworkConfig, Field(discriminator="network")
]
"""The network that a run trains; `network` names it."""
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
    "cache_pairs": (*_RELATIONS, "arn"),
    "whole_videos": _RELATIONS,
    "relation_scoring": ("arn", "layout", *_RELATIONS),
    "relations": ("layout",),
}
"""For each key that only some networks read: those that do."""
FILE_KEYS = ("detector", "initialise_from", "text_embeddings", "word_vectors", "detr_weights", "backbone_weights")
"""Keys that name files whose content decides what is learned."""


def _no_is_a_word(value: object) -> object:
    """YAML takes a plain `no` for false."""
    return "no" if value is False else value


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RelationDataConfig:
    """Use of annotated relations without pixels.

    validation_share: share of the photographs and videos of each set that is held out, chosen by their names.
    repeats: data set to the number of times that an epoch shows it; 1 for those that are not named.
    without: labels whose pairs are left out of training, to see if a network knows them by their names alone.
    name_table: a .npz file of embeddings of names; None takes the one that comes with the project.
    """

    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    repeats: dict[str, PositiveInt] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    name_table: Path | None = None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainingConfig:
    """One training run.

    data: root of a data folder that lies on disk as Action Genome does. For a layout network, a folder of files that
        `vsg data relations` makes.
    output: folder of checkpoints, TensorBoard events and the resumable state.
    loss: of ARN.
    relation_loss: of the two-stage networks, and of relation scorers.
    steps: number of steps, unless `epochs` is set.
    epochs: passes over the training data, instead of `steps`. In one pass, every frame is shown once on average, or
        every video once with `whole_videos`.
    batch_size: clips of one step, of each process.
    clip_length: frames of a training clip.
    whole_videos: shows whole videos instead of clips, to two-stage networks. A video of more than `clip_length` frames
        is cut into parts of about equal length, which bounds the memory.
    small_objects: Action Genome's SGDet and SGCls leave out objects under 16 px; a set of small frames keeps them.
    relations: of a layout network, the use of its data.
    validation_videos: videos held out of the end of the training split. The test split is never read.
    text_learning_rate: of the classifiers that start from text embeddings; None is `learning_rate`.
    schedule: `step` divides the rate by 10 after three quarters, `cosine` brings it to 2 %.
    averaging: decay of the moving average of the weights that is evaluated and saved; 0 is off.
    backbone_weights: weights that a detector's backbone starts from: `imagenet`, or a checkpoint with a compact
        backbone.
    detector: checkpoint of the detector whose pairs a two-stage network reads; it is not trained any further.
    task: the task that a two-stage network is trained for.
    cache_pairs: keeps the detector's pairs on disk, beside the data, for all epochs and runs; then frames are not
        augmented. With `freeze_host`, what the host says of them is kept too, also of ARN's queries.
    relation_scoring: attaches RS-Net.
    scorer: shape of RS-Net; its `input_width` is set to the host's.
    freeze_host: trains the relation scorer alone, on a host that is taken from `initialise_from` as it is.
    initialise_from: a checkpoint of this project whose fitting weights start this run.
    initialise_only: takes only weights whose names begin with one of these; empty takes all that fit.
    detr_weights: COCO DETR weights as a file or an https URL.
    text_embeddings: a .npy file of triplet sentence embeddings; None asks open_clip for ViT-B/32.
    word_vectors: GloVe's text file, from which a two-stage network's words start; None starts them at random.
    evaluate_every: steps between validations, of which one comes at the end; 0 never validates.
    """

    name: str
    data: Path
    output: Path
    model: ModelConfig
    loss: LossConfig = field(default_factory=LossConfig)
    relation_loss: RelationLossConfig = field(default_factory=RelationLossConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    relations: RelationDataConfig = field(default_factory=RelationDataConfig)
    seed: Annotated[int, Field(ge=0, lt=2**30)] = 0
    steps: PositiveInt = 10_000
    epochs: PositiveInt | None = None
    batch_size: PositiveInt = 8
    clip_length: PositiveInt = 1
    whole_videos: bool = False
    small_objects: Literal["keep", "drop"] = "drop"
    validation_videos: NonNegativeInt = 0
    learning_rate: Rate = 1e-4
    backbone_learning_rate: Rate | None = None
    text_learning_rate: Rate | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["cosine", "step"] = "step"
    clip_gradient_norm: Rate = 0.1
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixed_precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_no_is_a_word)] = "no"
    freeze_backbone: bool = False
    backbone_weights: str | None = None
    workers: NonNegativeInt = 0
    cache_frames: bool = False
    detector: Path | None = None
    task: Literal["predcls", "sgcls", "sgdet"] = "sgdet"
    cache_pairs: bool = False
    relation_scoring: bool = False
    scorer: RsNetConfig = field(default_factory=lambda: RsNetConfig(input_width=1))
    freeze_host: bool = False
    initialise_from: Path | None = None
    initialise_only: tuple[str, ...] = ()
    detr_weights: str | None = None
    text_embeddings: Path | None = None
    word_vectors: Path | None = None
    evaluate_every: NonNegativeInt = 1000
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

        if self.freeze_host and self.scorer.context_fusion:
            raise ConfigurationError(
                "scorer.context_fusion trains the host's predicate classifiers together with the scorer: switch "
                "freeze_host off"
            )

    @property
    def validates(self) -> bool:
        """Whether something is held out to validate on."""
        share = self.relations.validation_share if isinstance(self.model, LayoutConfig) else 0
        return bool(self.evaluate_every and (self.validation_videos or share))

    def unread_keys(self) -> list[str]:
        """A sentence for each key that is set, and that the network of this run does not read."""
        network = self.model.network
        return [
            f"{field.name} is set, but {network} does not read it; {', '.join(_READ_BY[field.name])} do"
            for field in fields(self)
            if field.name in _READ_BY and network not in _READ_BY[field.name]
            if getattr(self, field.name) != _default_of(field)
        ]

    @property
    def starts_from_text(self) -> bool:
        """True where text embeddings are read: a checkpoint that is taken as a whole brings its own."""
        return self.initialise_from is None or bool(self.initialise_only)

    def missing_files(self) -> dict[str, str]:
        """Each key that names a file which is read and is not there, with that file."""
        named = {key: str(getattr(self, key)) for key in FILE_KEYS if getattr(self, key) is not None}
        read = {
            key: file
            for key, file in named.items()
            if self.model.network in _READ_BY.get(key, (self.model.network,))
            if key != "text_embeddings" or self.starts_from_text
        }
        return {
            key: file
            for key, file in read.items()
            if file != "imagenet" and not file.startswith(("http://", "https://")) and not Path(file).is_file()
        }


def _default_of(declared: DataclassField[Any]) -> object:
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def load_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Reads a YAML file; `overrides` are dotted keys (`model.queries`) that win over the file.

    `tasks` in the file says what a task changes: by the name of a task, dotted keys that win over the rest of the file.

    Raises ConfigurationError naming the file and the key that is unknown, missing or of the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path} cannot be read as YAML: {reason}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold keys and values, not {type(content).__name__}")
    for key, value in {**_of_task(content, overrides or {}, path), **(overrides or {})}.items():
        node = content
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigurationError(f"{path}: {key!r} cannot be set: {parent!r} is a value, not a group of keys")
        node[last] = value
    try:
        return TypeAdapter(TrainingConfig).validate_python(content)
    except ContradictionError as error:
        raise ConfigurationError(f"{path}: model: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {key}: {first['msg']} (found {first['input']!r})") from error


def _of_task(content: dict[str, Any], overrides: dict[str, Any], path: Path) -> dict[str, Any]:
    """Takes `tasks` out of a file's content and returns the dotted keys that the run's task changes."""
    tasks = content.pop("tasks", {})
    task = overrides.get("task", content.get("task"))
    if not isinstance(tasks, dict) or not all(isinstance(changes, dict) for changes in tasks.values()):
        raise ConfigurationError(f"{path}: tasks must hold keys and values for each task")
    if unknown := sorted(set(tasks) - {"predcls", "sgcls", "sgdet"}):
        raise ConfigurationError(f"{path}: tasks names {unknown[0]!r}: give predcls, sgcls or sgdet")
    changes: dict[str, Any] = tasks.get(task, {})
    return changes
