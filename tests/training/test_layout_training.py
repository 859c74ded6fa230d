"""A layout network from files of relations to figures, as `vsg train` and `vsg evaluate --relations` do."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from torch import Tensor, nn

from export.join import Matched, join
from models.graph.bundle import Training
from models.networks.checkpoint import load_checkpoint
from models.networks.relations.layout import Layout
from models.networks.scored import Scored
from service.command_line import main
from training.configuration import load_config
from training.data.relations import Pair, Record, write_records
from training.objectives import make_objective
from training.objectives.layout import LayoutObjective


def vsg(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def kitchen(count: int = 200) -> list[Record]:
    """Cups that are held where they are at the height of the hands, chairs that are sat on, and a short video."""
    drawn = random.Random(0)
    records = []
    for number in range(count):
        held, left = drawn.random() < 0.5, drawn.uniform(0, 300)
        top = drawn.uniform(90, 110) if held else drawn.uniform(220, 260)
        cup = Pair(subject=0, object=1, predicates=("holding",) if held else (), asked=("holding",), related=held)
        chair = Pair(subject=0, object=2, predicates=("sitting_on",), asked=("sitting_on",), related=True)
        records.append(
            Record(
                source="kitchen",
                image=f"{number}.jpg",
                width=640,
                height=480,
                boxes=((left, 50, left + 80, 250), (left + 30, top, left + 50, top + 20), (left, 150, left + 90, 280)),
                labels=("person", "cup", "chair"),
                pairs=(cup, chair),
            )
        )  # fmt: skip
    moments = [
        Record(
            source="film",
            video="v",
            time=step / 4,
            boxes=((0, 0, 80, 200), (30 + 5 * step, 90, 50 + 5 * step, 110)),
            labels=("person", "cup"),
            pairs=(Pair(subject=0, object=1, predicates=("holding",), asked=("holding",)),),
        )
        for step in range(8)
    ]  # fmt: skip
    return records + moments


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relations")
    write_records(folder / "kitchen.jsonl", kitchen())
    return folder


def settings(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    small = {"network": "layout", "width": 32, "name_width": 8, "heads": 2, "feed_forward": 32, "dropout": 0.0}
    scorer = {"input_width": 1, "width": 16, "heads": 2, "feed_forward": 16, "temporal_layers": 1, "video_tokens": 2}
    return {
        "name": "tiny", "data": str(data), "output": str(output), "model": small, "relation_scoring": True,
        "scorer": scorer, "steps": 60, "batch_size": 32, "clip_length": 4, "learning_rate": 5e-3,
        "clip_gradient_norm": 1.0, "evaluate_every": 60, "relations": {"validation_share": 0.2}, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings(data, folder / "out")))
    result = vsg("train", folder / "tiny.yaml")
    assert result.exit_code == 0, result.output
    return folder / "out" / "checkpoint.pt"


def objective(data: Path, tmp_path: Path, **changes: Any) -> LayoutObjective:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings(data, tmp_path / "out", **changes)))
    made = make_objective(load_config(path), torch.device("cpu"))
    assert isinstance(made, LayoutObjective)
    return made


def test_the_checkpoint_says_what_it_was_trained_on(trained: Path) -> None:
    network, provenance = load_checkpoint(trained)
    assert isinstance(network, Scored)
    assert isinstance(network.host, Layout)
    assert provenance["data"] == "relations without pixels, photographs and moments of videos: film (8), kitchen (200)"
    asked = {name for name, column in network.vocabulary.predicate_index.items() if network.host.asked[column]}
    assert {"holding", "sitting_on"} <= asked
    assert "twisting" not in asked


def test_a_network_learns_where_a_held_cup_is(trained: Path, data: Path) -> None:
    result = vsg("evaluate", "--relations", data / "kitchen.jsonl", "--model", trained, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output)
    assert figures["predicates"]["holding"]["ap"] > 0.9
    assert figures["predicates"]["holding"]["asked"] == 208
    assert figures["related"] > 0.9


def test_the_table_names_every_figure(trained: Path, data: Path) -> None:
    output = vsg("evaluate", "--relations", data / "kitchen.jsonl", "--model", trained).output
    for words in ("holding", "mean", "related", "expected calibration error"):
        assert words in output


def test_a_joined_bundle_says_what_its_checkpoint_says(trained: Path, data: Path, tmp_path: Path) -> None:
    network, _ = load_checkpoint(trained)
    assert isinstance(network, Scored)
    renamed = [
        record.model_copy(
            update={"labels": tuple({"cup": "cup/glass/bottle"}.get(each, each) for each in record.labels)}
        )
        for record in kitchen(40)
    ]
    write_records(tmp_path / "renamed.jsonl", [*renamed, *kitchen(3)[:3]])
    table = {"person": "person", "cup": "cup/glass/bottle"}
    join(
        Brightness(), Matched(network, table, ()), tmp_path / "bundle", name="tiny", version="1", description="tiny",
        training=Training(data="", command=""),
    )  # fmt: skip
    result = vsg("evaluate", "--relations", tmp_path / "renamed.jsonl", "--model", tmp_path / "bundle", "--json")
    assert result.exit_code == 0, result.output
    assert "3 pairs are left out" in result.stderr
    write_records(tmp_path / "known.jsonl", [*renamed, *[without_cups(record) for record in kitchen(3)[:3]]])
    same = vsg("evaluate", "--relations", tmp_path / "known.jsonl", "--model", trained, "--json")
    assert json.loads(result.stdout)["mean"]["ap"] == pytest.approx(json.loads(same.stdout)["mean"]["ap"], abs=0.02)


class Brightness(nn.Module):
    """A person and a cup everywhere, the surer the brighter a frame is."""

    names = ("person", "cup")
    frame_size = (64, 64)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        bright = frames.float().mean((1, 2, 3)) / 255  # (N,)
        boxes = torch.tensor([[0.1, 0.1, 0.5, 0.9], [0.4, 0.4, 0.6, 0.6]]).expand(frames.shape[0], -1, -1)
        return boxes + bright[:, None, None] / 10, torch.eye(2) * bright[:, None, None]


def without_cups(record: Record) -> Record:
    return record.model_copy(update={"pairs": record.pairs[1:]})


def test_a_video_and_its_photographs_are_batched_apart(data: Path, tmp_path: Path) -> None:
    made = objective(data, tmp_path, relations={"validation_share": 0.0})
    items = [made.dataset[index] for index in range(len(made.dataset))]  # type: ignore[arg-type]
    assert sorted(len(item) for item in items) == [1] * 200 + [4, 4]
    shapes = {tuple(part.pairs.mask.shape[1:]) for part in made.collate(items)}
    assert shapes == {(1, 2), (4, 1)}


def test_photographs_are_also_shown_as_slideshows(data: Path, tmp_path: Path) -> None:
    made = objective(data, tmp_path)
    batch = made.collate([made.dataset[index] for index in range(32)])
    times = {made.prepare(batch, torch.Generator().manual_seed(seed))[0].pairs.mask.shape[1] for seed in range(20)}
    assert len(times) > 2


def test_labels_can_be_kept_from_training_and_sets_repeated(data: Path, tmp_path: Path) -> None:
    without = objective(data, tmp_path, relations={"without": ["chair"], "validation_share": 0.0})
    assert all(len(example) == 1 for index in range(len(without.dataset)) for example in without.dataset[index])  # type: ignore[arg-type]
    twice = objective(data, tmp_path, relations={"repeats": {"film": 2}, "validation_share": 0.0})
    assert len(twice.dataset) == 204  # type: ignore[arg-type]


def test_a_folder_without_relations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings(tmp_path / "empty", tmp_path / "out")))
    result = vsg("train", tmp_path / "tiny.yaml")
    assert result.exit_code == 1
    assert "has no *.jsonl file of relations: make one with `vsg data relations" in result.output


def test_relations_are_evaluated_by_themselves(data: Path, trained: Path) -> None:
    result = vsg("evaluate", "--relations", data / "kitchen.jsonl", "--model", trained, "--task", "sgdet")
    assert result.exit_code == 2
    assert "--relations goes with --model" in result.output
    assert vsg("evaluate", "--model", trained).exit_code == 2
