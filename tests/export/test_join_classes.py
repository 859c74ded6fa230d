"""Classes of a detector that become objects of a relation network's vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.errors import ExportError
from export.join import ClassOptions, match_detector, read_relations
from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.checkpoint import save_checkpoint
from models.networks.relations.layout import Layout
from models.networks.relations.names import SHIPPED_TABLE, NameTable
from tests.support.networks import tiny_layout


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout network's checkpoint."""
    save_checkpoint(tmp_path / "layout.pt", tiny_layout(), {"data": "made up"})
    return tmp_path / "layout.pt"


def test_the_names_of_kept_classes_are_read(layout: Path) -> None:
    network, _ = read_relations(layout)
    matched = match_detector(("person", "couch", "kite"), network, ClassOptions(keep=True))
    embeddings = matched.relations.state_dict()["object_embeddings"]
    known = network.state_dict()["object_embeddings"]
    assert torch.equal(embeddings[0], known[ACTION_GENOME.object_index["person"]])
    assert not torch.equal(embeddings[1], embeddings[2])
    weights = network.state_dict().keys() - {"object_embeddings", "affordances"}
    assert (matched.relations.state_dict()["affordances"] == 1).all(), "nobody knows what is done with a kite"
    assert all(torch.equal(matched.relations.state_dict()[name], network.state_dict()[name]) for name in weights)
    with pytest.raises(WeightsError, match="qwxz"):
        match_detector(("person", "qwxz"), network, ClassOptions(keep=True))


def test_further_classes_join_the_vocabulary_behind_its_own(layout: Path) -> None:
    network, _ = read_relations(layout)
    assert isinstance(network, Layout)
    seldom = network.affordances
    seldom[ACTION_GENOME.object_index["bed"], 3] = 0
    names = ("person", "couch", "kite", "dog")
    matched = match_detector(names, network, ClassOptions(further=("dog",)))
    assert matched.relations.vocabulary.objects == (*ACTION_GENOME.objects, "dog")
    assert matched.table == {"person": "person", "couch": "sofa/couch", "dog": "dog"}
    assert list(matched.dropped) == ["kite"]
    host = matched.relations
    assert isinstance(host, Layout)
    torch.testing.assert_close(host.object_embeddings[-1], NameTable(SHIPPED_TABLE).embeddings(("dog",))[0])
    assert torch.equal(host.affordances[:-1], seldom), "what is seldom said of the others stays so"
    assert host.affordances[-1].min() == 1
    with pytest.raises(ExportError, match="further_objects has 'cat', which the detector does not know"):
        match_detector(names, network, ClassOptions(further=("cat",)))
    with pytest.raises(ExportError, match="further_objects has 'person', which the vocabulary has already"):
        match_detector(names, network, ClassOptions(further=("person",)))
