"""CLIP text embeddings of the triplet prompts (ARN §3.2), from open_clip or from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.arn.classifiers import TextEmbeddings

CLIP_MODEL = "ViT-B-32-quickgelu"
"""OpenAI trained ViT-B/32 with its own approximation of GELU. With any other, its weights embed wrongly."""
CLIP_WEIGHTS = "openai"
_BACKGROUND_AND_PERSON = 2
_TABLE = (len(ACTION_GENOME.things) + _BACKGROUND_AND_PERSON, len(ACTION_GENOME.predicates))


def object_prompt(thing: str, vocabulary: Vocabulary = ACTION_GENOME) -> str:
    """Returns ARN's prompt of a thing, beside the first of the vocabulary's subjects."""
    return f"a photo of {spoken(vocabulary.subjects[0])} and a {spoken(thing)}"


def triplet_prompt(thing: str, predicate: str, vocabulary: Vocabulary = ACTION_GENOME) -> str:
    """Returns the prompt of a triplet.

    For Action Genome it is ARN's, whose form depends on the predicate's group. For any other vocabulary it is the
    sentence that the vocabulary's phrases make.
    """
    group = vocabulary.group_of(predicate)
    if not vocabulary.same_columns(ACTION_GENOME):
        said, noun = group.phrase(predicate), f"the {vocabulary.noun(thing).singular}"
        said = said.replace("{}", noun) if "{}" in said else f"{said} {noun}"
        return f"The {vocabulary.noun(vocabulary.subjects[0]).singular} {said}"
    words = predicate.replace("_", " ")
    match group.name:
        case "attention":
            return (
                f"The person is {words} at the {spoken(thing)}"
                if not words.endswith(" at")
                else f"The person is {words} the {spoken(thing)}"
            )
        case "spatial":
            return f"The {spoken(thing)} is {words} the person"
        case _:
            return f"a photo of a person maybe {words} the {spoken(thing)}"


def photo_prompt(thing: str, predicate: str, vocabulary: Vocabulary = ACTION_GENOME) -> str:
    """Returns TR²'s prompt of a triplet, such as `a photo of a person sitting on a bed`.

    They are those of its published `gene_clip_sentence.py`. MoSA compares with sentences of the same kind, whose words
    its paper does not give. For any other vocabulary it is what `triplet_prompt` returns.
    """
    if not vocabulary.same_columns(ACTION_GENOME):
        return triplet_prompt(thing, predicate, vocabulary)
    words = predicate.replace("_", " ")
    if predicate == "have_it_on_the_back":
        return f"a photo of a person having a {spoken(thing)} on the back"
    if predicate == "other_relationship":
        words = "and"
    if vocabulary.group_of(predicate).name == "spatial" and predicate != "in":
        return f"a photo of a {spoken(thing)} {words} a person"
    return f"a photo of a person {words} a {spoken(thing)}"


Prompt = Callable[[str, str, Vocabulary], str]
"""Makes the sentence of a thing and a predicate of a vocabulary."""


def spoken(thing: str) -> str:
    """Returns a thing's name for a prompt: `cup or glass or bottle` for `cup/glass/bottle`."""
    return thing.replace("/", " or ")


def text_embeddings(
    path: Path | None = None, vocabulary: Vocabulary = ACTION_GENOME, prompt: Prompt = triplet_prompt
) -> TextEmbeddings:
    """Returns the embeddings of a vocabulary's prompts by open_clip's ViT-B/32, whose weights it downloads once.

    prompt: makes the sentences of triplets.

    With a `path` they come from a .npy file instead, (37, 26, E), of Action Genome's words. The first axis of the file
    is the field's class index (0 background, 1 person), the second the predicate id, as in TR2's `clip_sentence.npy`.
    Its sentences for `other_relationship` ("a photo of a person and a …") serve as the object prompts.

    Raises WeightsError where the file cannot be read, does not fit or comes with another vocabulary, or where the
    weights cannot be downloaded.
    """
    if path is None:
        return _from_open_clip(vocabulary, prompt)
    if not vocabulary.same_columns(ACTION_GENOME):
        raise WeightsError(f"{path}: files of text embeddings hold Action Genome's words; leave `text_embeddings` out")
    try:
        table = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as an array of text embeddings: {error}") from error
    if table.dim() != 3 or table.shape[:2] != _TABLE:
        raise WeightsError(f"{path} has shape {tuple(table.shape)}; text embeddings are (37, 26, E)")
    if not table.isfinite().all():
        raise WeightsError(f"{path} holds values that are no numbers; write the text embeddings again")
    triplets = table[_BACKGROUND_AND_PERSON:]
    return TextEmbeddings(objects=triplets[:, ACTION_GENOME.predicate_index["other_relationship"]], triplets=triplets)


def load_clip() -> nn.Module:
    """Returns open_clip's ViT-B/32 in evaluation mode, downloaded once. Raises WeightsError where that fails."""
    import open_clip

    try:
        model: nn.Module = open_clip.create_model(CLIP_MODEL, pretrained=CLIP_WEIGHTS)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"CLIP {CLIP_MODEL} could not be loaded ({error}); in the configuration, give text embeddings as a file "
            "(`text_embeddings: FILE.npy`), and leave `model.mimicry` and `model.clip_features` off"
        ) from error
    return model.eval()


@torch.no_grad()
def _from_open_clip(vocabulary: Vocabulary, prompt: Prompt) -> TextEmbeddings:
    import open_clip

    model: Any = load_clip()
    tokenize = open_clip.get_tokenizer(CLIP_MODEL)

    def embed(prompts: list[str]) -> Tensor:
        return torch.cat(
            [model.encode_text(tokenize(prompts[start : start + 128])) for start in range(0, len(prompts), 128)]
        )

    things = vocabulary.things
    triplets = embed([prompt(thing, predicate, vocabulary) for thing in things for predicate in vocabulary.predicates])
    return TextEmbeddings(
        objects=embed([object_prompt(thing, vocabulary) for thing in things]),
        triplets=triplets.unflatten(0, (len(things), -1)),
    )
