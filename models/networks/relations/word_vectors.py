"""GloVe vectors of the object classes, the initial word embeddings of the published networks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.relations.network import RelationNetwork


def read_word_vectors(path: Path, width: int, vocabulary: Vocabulary = ACTION_GENOME) -> Tensor:
    """Reads a vector for each of the vocabulary's objects from a file in GloVe's text format.

    Returns (objects, width) float32. A class of several names takes the vector of the first, as in the published code:
    `cup/glass/bottle` takes that of `cup`. Raises WeightsError where the file cannot be read, has another width or
    lacks a word.
    """
    words = {name.split("/")[0]: index for index, name in enumerate(vocabulary.objects)}
    vectors = torch.full((len(vocabulary.objects), width), torch.nan)
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, *numbers = line.rstrip().split(" ")
                if word in words:
                    if len(numbers) != width:
                        raise WeightsError(
                            f"{path}, line {number}: {word!r} has {len(numbers)} numbers, but model.word_width is "
                            f"{width}: make them agree"
                        )
                    vectors[words[word]] = torch.tensor([float(each) for each in numbers])
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as GloVe vectors: {error}") from error
    missing = [word for word, index in words.items() if vectors[index].isnan().any()]
    if missing:
        raise WeightsError(f"{path} has no vector of {missing[0]!r}; give GloVe's own file, such as glove.6B.200d.txt")
    return vectors


@torch.no_grad()
def initialise_words(network: RelationNetwork, vectors: Tensor) -> None:
    """Copies the same vectors (objects, word width) into the word embeddings of the subject and of the object."""
    for embedding in (network.representation.obj_embed, network.representation.obj_embed2):
        embedding.weight.copy_(vectors)
