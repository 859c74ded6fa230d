"""What a run writes, where something is missing, damaged or full: one line, and what was there before stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.errors import WeightsError
from models.networks.checkpoint import load_checkpoint
from tests.support.disk import no_room
from training.configuration import TrainingConfig
from training.data.caches import new_array
from training.errors import ConfigurationError, DataError, SaveError
from training.loop import train
from training.run_folder import RunFolder

Configure = Callable[..., TrainingConfig]


def test_a_full_disk_ends_a_run_in_one_line_and_keeps_the_state_before(configure: Configure, tmp_path: Path) -> None:
    train(configure(steps=2, save_every=2))
    with no_room(), pytest.raises(SaveError, match=r"the state of step 4 cannot be saved in \S+/state: ") as refused:
        train(configure(steps=4, save_every=2))
    assert "\n" not in str(refused.value)
    states = RunFolder(tmp_path / "run")
    assert states.newest_state() == (tmp_path / "run" / "state" / "step-00000002", 2)
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["step-00000002"], "the half is gone"
    train(configure(steps=4, save_every=2))


def test_a_full_disk_keeps_the_checkpoint_before(configure: Configure) -> None:
    checkpoint = train(configure(steps=2))
    before = checkpoint.read_bytes()
    with no_room(), pytest.raises(WeightsError, match=r"checkpoint\.pt cannot be written: File too large"):
        train(configure(steps=3, save_every=100))
    assert checkpoint.read_bytes() == before
    load_checkpoint(checkpoint)
    assert not list(checkpoint.parent.glob("*.partial"))


def test_a_cache_that_does_not_fit_onto_the_disk_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    with no_room(), pytest.raises(DataError, match=r"cannot hold a cache of 80 MB: File too large; make room, or set"):
        new_array(tmp_path / "x.npy", np.uint8, (80_000_000,))
    array = new_array(tmp_path / "y.npy", np.float32, (3, 2))
    array[1] = 2
    assert np.load(tmp_path / "y.npy").tolist() == [[0, 0], [2, 2], [0, 0]]


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("text_embeddings", "nowhere.npy"), ("initialise_from", "nowhere.pt"), ("detr_weights", "nowhere.pth"),
    ],
)  # fmt: skip
def test_a_file_that_is_missing_is_noticed_before_anything_else(configure: Configure, key: str, file: str) -> None:
    # Neither the data are there nor the folder of the run.
    config = configure(data="nothing", **{key: file})
    with pytest.raises(ConfigurationError, match=rf"^{key}: {file} is not a file$"):
        train(config)
    assert not config.output.exists()


def test_the_files_that_a_relation_network_needs_are_named_together(configure_relations: Configure) -> None:
    wanted = r"^detector: none\.pt is not a file; word_vectors: none\.txt is not a file$"
    with pytest.raises(ConfigurationError, match=wanted):
        train(configure_relations(detector="none.pt", word_vectors="none.txt"))


def test_files_that_are_not_read_may_be_missing(configure: Configure, tmp_path: Path) -> None:
    checkpoint = train(configure(steps=1))
    train(configure(steps=1, output=tmp_path / "next", initialise_from=checkpoint, text_embeddings="gone.npy"))


def test_text_embeddings_that_do_not_fit_are_noticed_before_frames_are_cached(
    configure: Configure, puppets: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(puppets, data, ignore=shutil.ignore_patterns("cache"))
    np.save(tmp_path / "text.npy", np.full((37, 26, 16), np.nan, np.float32))
    with pytest.raises(WeightsError, match=r"text\.npy holds values that are no numbers"):
        train(configure(data=data, cache_frames=True, text_embeddings=tmp_path / "text.npy"))
    assert not (data / "cache").exists()


def test_a_restart_that_is_refused_leaves_the_run_as_it_was(configure: Configure, tmp_path: Path) -> None:
    train(configure(steps=2, save_every=2))
    for changes in ({"text_embeddings": "gone.npy"}, {"validation_videos": 8}):
        with pytest.raises(ConfigurationError):
            train(configure(steps=2, **changes), resume=False)
    assert RunFolder(tmp_path / "run").newest_state() is not None


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_a_damaged_identity_is_said_in_one_line(configure: Configure, content: str, tmp_path: Path) -> None:
    train(configure(steps=1))
    (tmp_path / "run" / "run.json").write_text(content)
    with pytest.raises(SaveError, match=r"run\.json is damaged \(.*\); begin anew with --restart$"):
        train(configure(steps=2))
    train(configure(steps=2), resume=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["seed"] == 3


def test_an_output_that_is_a_file_is_refused(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("hello")
    with pytest.raises(ConfigurationError, match=r"output \S+/run cannot be written: File exists"):
        train(configure(steps=1))
