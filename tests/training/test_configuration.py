"""Training configurations: what is wrong with one is named, and those of the repository are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.networks.arn import ArnConfig, arn_r50
from models.networks.relations.config import RelationConfig
from tests.support.paths import ROOT
from training.configuration import load_config
from training.errors import ConfigurationError

CONFIGS = ROOT / "training" / "configs"
MINIMAL: dict[str, Any] = {"name": "x", "data": "data/x", "output": "runs/x", "model": {"network": "arn", "queries": 7}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "x.yaml", MINIMAL)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_loads(file: Path) -> None:
    config = load_config(file)
    assert config.steps > 0
    if isinstance(config.model, ArnConfig):
        assert config.clip_length <= config.model.clip_length
    if isinstance(config.model, RelationConfig):
        assert config.detector is not None


def test_the_papers_configuration_holds_the_papers_network() -> None:
    config = load_config(CONFIGS / "arn_r50_action_genome.yaml")
    assert config.model == replace(arn_r50(), mimicry=True)
    assert (config.batch_size, config.learning_rate, config.text_learning_rate) == (8, 1e-4, 1e-5)


def test_missing_keys_take_defaults(path: Path) -> None:
    config = load_config(path)
    assert config.model.queries == 7
    assert config.model.width == 256
    assert config.loss.mimicry == 20
    assert config.output == Path("runs/x")


def test_overrides_win_and_reach_into_groups(path: Path) -> None:
    config = load_config(path, {"steps": 3, "model.queries": 9, "loss.matching.box": 4.5, "augmentation.mirror": 0})
    assert (config.steps, config.model.queries, config.loss.matching.box, config.augmentation.mirror) == (3, 9, 4.5, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, r"x\.yaml: colour: Unexpected keyword argument \(found 'red'\)"),
        ({"model": {"network": "arn", "quereis": 5}}, r"x\.yaml: model\.arn\.quereis: Unexpected keyword argument"),
        ({"model": {"network": "sttran", "head": "gmm"}}, r"x\.yaml: model\.sttran\.head: Unexpected keyword"),
        ({"model": {"network": "detr"}}, r"x\.yaml: model: Input tag 'detr' .* any of the expected tags: 'arn', "),
        ({"model": {"queries": 7}}, r"x\.yaml: model: Unable to extract tag using discriminator 'network'"),
        ({"task": "sgg"}, r"x\.yaml: task: Input should be 'predcls', 'sgcls' or 'sgdet' \(found 'sgg'\)"),
        ({"relation_loss": {"negatives": 0}}, r"x\.yaml: relation_loss\.negatives: .* greater than 0"),
        ({"loss": {"matching": {"boxes": 1}}}, r"x\.yaml: loss\.matching\.boxes: Unexpected keyword argument"),
        ({"steps": "many"}, r"x\.yaml: steps: .*integer.* \(found 'many'\)"),
        ({"model": {"network": "arn", "queries": 2.5}}, r"x\.yaml: model\.arn\.queries: .*integer"),
        ({"schedule": "linear"}, r"x\.yaml: schedule: Input should be 'cosine' or 'step' \(found 'linear'\)"),
        (
            {"model": {"network": "arn", "backbone": "vgg"}},
            r"x\.yaml: model\.arn\.backbone: Input should be 'resnet50' or 'compact'",
        ),
        ({"clip_length": 5}, r"clip_length 5 is longer than model\.clip_length 4; raise it"),
    ],
)
def test_a_key_that_is_unknown_or_of_the_wrong_type_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_config(write(tmp_path / "x.yaml", {**MINIMAL, **change}))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    content = {key: value for key, value in MINIMAL.items() if key != "data"}
    with pytest.raises(ConfigurationError, match=r"x\.yaml: data: Field required"):
        load_config(write(tmp_path / "x.yaml", content))


def test_a_network_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    content = {**MINIMAL, "model": {"network": "arn", "predicate_association": False}}
    with pytest.raises(ConfigurationError, match=r"x\.yaml: model: hierarchical_attention needs predicate_association"):
        load_config(write(tmp_path / "x.yaml", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "must hold keys and values, not list"), ("", "must hold keys and values, not NoneType"),
     ("a: [", "cannot be read as YAML")],
)  # fmt: skip
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"x\.yaml {message}"):
        load_config(write(tmp_path / "x.yaml", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml cannot be read as YAML"):
        load_config(tmp_path / "nowhere.yaml")


def test_an_override_into_a_value_is_refused(path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"'name\.first' cannot be set: 'name' is a value, not a group of keys"
    ):
        load_config(path, {"name.first": "y"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0), ("steps", -3), ("batch_size", 0), ("clip_length", 0), ("learning_rate", -1), ("learning_rate", 0),
        ("averaging", 1.5), ("workers", -1), ("weight_decay", -0.1), ("clip_gradient_norm", 0), ("save_every", 0),
        ("validation_videos", -1), ("learning_rate", float("inf")),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_its_key(tmp_path: Path, key: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"x\.yaml: {key}: Input should be"):
        load_config(write(tmp_path / "x.yaml", {**MINIMAL, key: value}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.dropout", 3, r"model\.arn\.dropout: Input should be less than 1 \(found 3\)"),
        ("model.width", 0, r"model\.arn\.width: Input should be greater than 0 \(found 0\)"),
        ("model.heads", 0, r"model\.arn\.heads: Input should be greater than 0"),
        ("model.compact_widths", [8, 0, 8], r"model\.arn\.compact_widths\.1: Input should be greater than 0"),
        ("model.encoder_layers", -1, r"model\.arn\.encoder_layers: Input should be greater than or equal to 0"),
        ("model", {"network": "detector", "anchor_sizes": []}, r"model\.detector\.anchor_sizes: .* at least 1 item"),
        ("model", {"network": "detector", "anchor_ratios": [0]}, r"model\.detector\.anchor_ratios\.0: .*than 0"),
        ("model", {"network": "detector", "sampled_regions": 0}, r"model\.detector\.sampled_regions: .*than 0"),
        ("model", {"network": "mosa", "word_width": -4}, r"model\.mosa\.word_width: .*than 0 \(found -4\)"),
        ("model", {"network": "tr2", "dropout": 1}, r"model\.tr2\.dropout: Input should be less than 1"),
        ("scorer", {"input_width": 1, "width": 0}, r"scorer\.width: Input should be greater than 0"),
        ("loss.box", -1, r"loss\.box: Input should be greater than or equal to 0"),
        ("loss.matching.giou", float("nan"), r"loss\.matching\.giou: Input should be a finite number"),
        ("augmentation.mirror", 2, r"augmentation\.mirror: Input should be less than or equal to 1"),
        ("seed", -1, r"seed: Input should be greater than or equal to 0"),
    ],
)
def test_a_value_of_a_network_or_a_loss_that_is_out_of_range_is_refused_in_one_line(
    path: Path, key: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"x\.yaml: {message}") as refused:
        load_config(path, {key: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, r"width is 30: give a multiple of 4 and of heads \(8\)"),
        (
            {"backbone": "compact", "dense_proposals": True, "frame_height": 64, "frame_width": 64, "queries": 65},
            r"queries is 65: with dense_proposals, give at most the frame's 64 cells",
        ),
    ],
)
def test_a_network_whose_values_do_not_fit_each_other_is_refused_with_the_files_name(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"x\.yaml: model: {message}"):
        load_config(path, {f"model.{key}": value for key, value in changes.items()})


@pytest.mark.parametrize("content", [b"a: [\n  1", b"\xff\xfe\x00"])
def test_a_file_that_is_not_yaml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.yaml cannot be read as YAML") as refused:
        load_config(tmp_path / "x.yaml")
    assert "\n" not in str(refused.value)


def test_a_plain_no_is_a_precision(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", MINIMAL)
    path.write_text(path.read_text() + "mixed_precision: no\n")
    assert load_config(path).mixed_precision == "no"


def test_a_host_is_frozen_only_where_it_has_weights_and_a_scorer(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="freeze_host trains the relation scorer alone: set relation_scoring"):
        load_config(write(tmp_path / "x.yaml", {**MINIMAL, "freeze_host": True, "relation_scoring": True}))


def test_keys_that_the_network_does_not_read_are_named(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "x.yaml", {**MINIMAL, "word_vectors": "glove.txt", "steps": 3}))
    assert config.unread_keys() == ["word_vectors is set, but arn does not read it; sttran, tr2, mosa, fremure do"]
