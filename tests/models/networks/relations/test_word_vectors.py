"""GloVe vectors: the right word for every class, and errors that name what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.sttran import Sttran, SttranConfig
from models.networks.relations.word_vectors import initialise_words, read_word_vectors

OBJECTS = ACTION_GENOME.objects
OBJECT_INDEX = ACTION_GENOME.object_index

WIDTH = 4


def write(path: Path, leave_out: str = "", width: int = WIDTH) -> Path:
    """Every class's first name with its index in each column, between other words."""
    lines = [f"the {' '.join(['0.5'] * width)}"]
    lines += [
        " ".join([name.split("/")[0], *[str(index)] * width])
        for index, name in enumerate(OBJECTS)
        if not name.startswith(leave_out) or not leave_out
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_class_of_several_names_takes_the_vector_of_the_first(tmp_path: Path) -> None:
    vectors = read_word_vectors(write(tmp_path / "glove.txt"), WIDTH)
    assert vectors.tolist() == [[float(index)] * WIDTH for index in range(len(OBJECTS))]
    assert OBJECT_INDEX["cup/glass/bottle"] == int(vectors[OBJECT_INDEX["cup/glass/bottle"], 0])


def test_subject_and_object_embeddings_start_from_the_word_vectors(tmp_path: Path) -> None:
    network = Sttran(
        SttranConfig(
            feature_width=6, union_channels=3, union_size=2, visual_width=8, word_width=WIDTH, heads=2, feed_forward=8
        )
    )
    vectors = read_word_vectors(write(tmp_path / "glove.txt"), WIDTH)
    initialise_words(network, vectors)
    assert torch.equal(network.representation.obj_embed.weight, vectors)
    assert torch.equal(network.representation.obj_embed2.weight, vectors)


def test_a_missing_word_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no vector of 'doorknob'"):
        read_word_vectors(write(tmp_path / "glove.txt", leave_out="doorknob"), WIDTH)


def test_a_vector_of_another_width_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"line 2: .person. has 3 numbers, but model\.word_width is 4"):
        read_word_vectors(write(tmp_path / "glove.txt", width=3), WIDTH)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.txt cannot be read as GloVe vectors"):
        read_word_vectors(tmp_path / "nothing.txt", WIDTH)
