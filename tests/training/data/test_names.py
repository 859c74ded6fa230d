"""Tables of name embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from models.networks.relations.layout import NAME_WIDTH
from models.networks.relations.names import NameTable
from service.command_line import main
from training.data.names import extend_name_table


def vsg(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights."""
    transformers = pytest.importorskip("transformers", reason="transformers, which `vsg data names` needs, is not here")
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "zeppelin", "flux"]))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=7, hidden_size=NAME_WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_new_names_join_the_shipped_ones(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("zeppelin\ncup\nFlux/zeppelin\n")
    result = vsg("data", "names", tmp_path / "names.txt", tmp_path / "table.npz", "--encoder", encoder)
    assert result.exit_code == 0, result.output
    assert "2 new names" in result.output
    table = NameTable(tmp_path / "table.npz")
    cup, zeppelin = table.embeddings(["cup", "zeppelin"])
    torch.testing.assert_close(cup, NameTable().embeddings(["cup"])[0])
    assert zeppelin.norm() == pytest.approx(1, abs=1e-3)


def test_known_names_need_no_encoder(tmp_path: Path) -> None:
    assert extend_name_table(["cup", "Dining Table"], tmp_path, tmp_path / "table.npz") == 0
    with np.load(tmp_path / "table.npz") as table:
        assert table["embeddings"].shape[1] == NAME_WIDTH
