"""Embeddings of names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.layout import NAME_WIDTH
from models.networks.relations.names import NameTable


@pytest.fixture
def small(tmp_path: Path) -> NameTable:
    path = tmp_path / "names.npz"
    np.savez(path, names=np.array(["cup", "glass", "tea"]), embeddings=np.eye(3, dtype=np.float16))
    return NameTable(path)


def test_the_shipped_table_knows_action_genomes_objects() -> None:
    embeddings = NameTable().embeddings(ACTION_GENOME.objects)
    assert embeddings.shape == (36, NAME_WIDTH)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(36))


def test_names_of_like_things_are_near_each_other() -> None:
    mug, cup, elephant = NameTable().embeddings(["mug", "cup", "elephant"])
    assert mug @ cup > mug @ elephant + 0.2


def test_a_name_of_several_things_is_the_mean_of_them(small: NameTable) -> None:
    torch.testing.assert_close(small.embeddings(["cup/glass"])[0], torch.tensor([1.0, 1.0, 0.0]) / 2**0.5)


def test_a_name_of_several_words_is_the_mean_of_its_words(small: NameTable) -> None:
    torch.testing.assert_close(small.embeddings(["Tea_cup"])[0], torch.tensor([1.0, 0.0, 1.0]) / 2**0.5)


def test_an_unknown_name_is_refused(small: NameTable) -> None:
    with pytest.raises(WeightsError, match="no embedding of 'tea/zeppelin'"):
        small.embeddings(["tea/zeppelin"])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.npz"
    path.write_text("cup")
    with pytest.raises(WeightsError, match="cannot be read as a table of names"):
        NameTable(path)
