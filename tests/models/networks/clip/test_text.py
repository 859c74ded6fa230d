"""CLIP text embeddings: the prompts, a file of them, and open_clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.clip import text as clip_text
from models.networks.clip.text import object_prompt, photo_prompt, text_embeddings, triplet_prompt
from tests.support.paths import SHARED

PREDICATES = ACTION_GENOME.predicates
PREDICATE_INDEX = ACTION_GENOME.predicate_index

SHARED_FILE = SHARED / "clip" / "tr2_clip_sentence.npy"


@pytest.mark.parametrize(
    ("thing", "predicate", "prompt"),
    [
        ("laptop", "looking_at", "The person is looking at the laptop"),
        ("laptop", "unsure", "The person is unsure at the laptop"),
        ("cup/glass/bottle", "in_front_of", "The cup or glass or bottle is in front of the person"),
        ("broom", "wiping", "a photo of a person maybe wiping the broom"),
        ("bag", "have_it_on_the_back", "a photo of a person maybe have it on the back the bag"),
    ],
)
def test_triplets_are_put_into_the_words_of_the_paper(thing: str, predicate: str, prompt: str) -> None:
    assert triplet_prompt(thing, predicate) == prompt


@pytest.mark.parametrize(
    ("thing", "predicate", "prompt"),
    [
        ("bed", "sitting_on", "a photo of a person sitting on a bed"),
        ("laptop", "looking_at", "a photo of a person looking at a laptop"),
        ("cup/glass/bottle", "in_front_of", "a photo of a cup or glass or bottle in front of a person"),
        ("closet/cabinet", "in", "a photo of a person in a closet or cabinet"),
        ("bag", "have_it_on_the_back", "a photo of a person having a bag on the back"),
        ("food", "other_relationship", "a photo of a person and a food"),
    ],
)
def test_tr2_has_sentences_of_its_own(thing: str, predicate: str, prompt: str) -> None:
    assert photo_prompt(thing, predicate) == prompt


def test_objects_are_put_into_the_words_of_the_paper() -> None:
    assert object_prompt("sofa/couch") == "a photo of person and a sofa or couch"


def test_all_910_prompts_differ_and_none_shows_a_separator() -> None:
    prompts = [triplet_prompt(thing, predicate) for thing in ACTION_GENOME.things for predicate in PREDICATES]
    assert len(set(prompts)) == 35 * 26
    assert not any("_" in prompt or "/" in prompt or " at at " in prompt for prompt in prompts)


def test_a_file_is_read_without_its_background_and_person_rows(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(37, 26, 8)).astype(np.float16)
    np.save(tmp_path / "text.npy", table)
    embeddings = text_embeddings(tmp_path / "text.npy")
    assert embeddings.triplets.dtype == torch.float32
    np.testing.assert_array_equal(embeddings.triplets.numpy(), table[2:])
    np.testing.assert_array_equal(embeddings.objects.numpy(), table[2:, PREDICATE_INDEX["other_relationship"]])


@pytest.mark.parametrize("shape", [(36, 26, 8), (37, 25, 8), (37, 26)])
def test_a_table_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "text.npy", np.zeros(shape, np.float32))
    with pytest.raises(WeightsError, match=r"text\.npy has shape .*; text embeddings are \(37, 26, E\)"):
        text_embeddings(tmp_path / "text.npy")


def test_a_file_that_is_missing_or_no_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"text\.npy cannot be read"):
        text_embeddings(tmp_path / "text.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(WeightsError, match=r"text\.npy cannot be read"):
        text_embeddings(tmp_path / "text.npy")


def test_a_pickle_in_the_file_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"text\.npy cannot be read"):
        text_embeddings(tmp_path / "text.npy")


@pytest.mark.skipif(not SHARED_FILE.is_file(), reason=f"the embeddings to train with are not there: {SHARED_FILE}")
def test_the_shared_embeddings_place_alike_triplets_side_by_side() -> None:
    embeddings = text_embeddings(SHARED_FILE)
    assert embeddings.triplets.shape == (35, 26, 512)
    unit = F.normalize(embeddings.triplets - embeddings.triplets.mean((0, 1)), dim=-1)
    cup, laptop, sofa = (ACTION_GENOME.things.index(name) for name in ("cup/glass/bottle", "laptop", "sofa/couch"))
    holding, carrying = PREDICATE_INDEX["holding"], PREDICATE_INDEX["carrying"]
    same_thing = unit[cup, holding] @ unit[cup, carrying]
    assert same_thing > unit[cup, holding] @ unit[laptop, carrying]
    assert same_thing > unit[cup, holding] @ unit[sofa, carrying]


def test_without_a_file_open_clip_embeds_each_prompt_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    # Random weights stand in for the published ones, which take a download; text by text is all that is tested.
    monkeypatch.setattr(clip_text, "CLIP_WEIGHTS", None)
    create = open_clip.create_model
    made = []
    # Embedding 945 prompts is what takes the time.
    narrow = {"width": 64, "heads": 2, "layers": 2}
    small = {"text_cfg": {"context_length": 77, "vocab_size": 49408, **narrow}}

    def keep(name: str, **arguments: object) -> torch.nn.Module:
        torch.manual_seed(0)
        made.append(create(name, **small, **arguments))
        return made[-1]

    monkeypatch.setattr(open_clip, "create_model", keep)
    embeddings = text_embeddings()
    assert embeddings.triplets.shape == (35, 26, 512)
    thing, predicate = 16, PREDICATE_INDEX["beneath"]
    tokens = open_clip.get_tokenizer(clip_text.CLIP_MODEL)(
        [
            triplet_prompt(ACTION_GENOME.things[thing], PREDICATES[predicate]),
            object_prompt(ACTION_GENOME.things[thing]),
        ]
    )
    with torch.no_grad():
        triplet, thing_alone = made[0].encode_text(tokens)
    torch.testing.assert_close(embeddings.triplets[thing, predicate], triplet, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embeddings.objects[thing], thing_alone, atol=1e-4, rtol=1e-4)


def test_without_a_network_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(WeightsError, match=r"no route to host.*text_embeddings: FILE\.npy"):
        text_embeddings()
