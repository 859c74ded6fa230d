"""Classifiers whose weights are text embeddings (eq 6 and 15)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.arn import Arn
from models.networks.arn.classifiers import PredicateClassifier, TextClassifier, TextEmbeddings, ThingClassifier
from tests.support.networks import SMALL_WORLD, tiny

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices
OBJECT_INDEX = ACTION_GENOME.object_index
PREDICATE_INDEX = ACTION_GENOME.predicate_index

TEXT = 16
ATTENTION, SPATIAL, CONTACTING = ACTION_GENOME.groups


@pytest.fixture
def embeddings() -> TextEmbeddings:
    generator = torch.Generator().manual_seed(0)
    # Like CLIP's: far from unit length, and within a narrow cone.
    return TextEmbeddings(
        objects=5 + torch.randn(35, TEXT, generator=generator),
        triplets=5 + torch.randn(35, 26, TEXT, generator=generator),
    )


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_similarity_equals_a_scaled_cosine_by_hand() -> None:
    classifier = TextClassifier(2, 2, 3, prior=0.5)  # a prior of one half is a bias of 0
    classifier.project.weight.data, classifier.project.bias.data = torch.eye(2), torch.zeros(2)
    classifier.text.data = torch.tensor(((3.0, 0.0), (0.0, 0.1), (-2.0, 0.0)))
    logits = classifier(torch.tensor((10.0, 0.0)))
    assert logits.tolist() == pytest.approx([1 / 0.07, 0, -1 / 0.07], abs=1e-5)


def test_a_prior_sets_what_an_unrelated_class_starts_from() -> None:
    classifier = TextClassifier(2, 2, 1, prior=0.02)
    classifier.project.weight.data, classifier.project.bias.data = torch.eye(2), torch.zeros(2)
    classifier.text.data = torch.tensor(((0.0, 1.0),))
    assert classifier(torch.tensor((1.0, 0.0))).sigmoid().item() == pytest.approx(0.02)


@pytest.mark.parametrize("centred", [False, True])
def test_text_is_copied_normalised_and_if_asked_for_centred(embeddings: TextEmbeddings, centred: bool) -> None:
    network = Arn(tiny(centred_text=centred))
    network.initialise_text(embeddings)

    def prepared(text: Tensor) -> Tensor:
        unit = F.normalize(text, dim=-1)
        return F.normalize(unit - unit.mean(0), dim=-1) if centred else unit

    torch.testing.assert_close(network.object_classifier.known.text.data, prepared(embeddings.objects))
    for group in GROUPS:
        wanted = prepared(embeddings.triplets[:, SLICES[group]].reshape(-1, TEXT))
        torch.testing.assert_close(network.predicate_classifiers[group].head.text.data, wanted)


def test_a_feature_that_is_a_triplets_embedding_scores_that_triplet_highest(embeddings: TextEmbeddings) -> None:
    classifier = PredicateClassifier(CONTACTING, ACTION_GENOME, TEXT, TEXT, triplets=True)
    classifier.initialise(embeddings, centred=False)
    head = classifier.head
    assert isinstance(head, TextClassifier)
    head.project.weight.data, head.project.bias.data = torch.eye(TEXT), torch.zeros(TEXT)
    thing, predicate = OBJECT_INDEX["broom"] - 1, PREDICATE_INDEX["wiping"]
    logits = classifier(embeddings.triplets[thing, predicate])
    assert logits.shape == (35, 17)
    assert divmod(int(logits.argmax()), 17) == (thing, predicate - SLICES["contacting"].start)


def test_a_predicate_scores_as_its_best_triplet() -> None:
    classifier = PredicateClassifier(ATTENTION, ACTION_GENOME, 4, 4, triplets=True)
    logits = torch.full((1, 35, 3), -9.0)
    logits[0, 4, 0], logits[0, 30, 0], logits[0, 7, 2] = 1.0, 2.0, -0.5
    wanted = [probability(2.0), probability(-9.0), probability(-0.5)]
    assert classifier.probabilities(logits)[0].tolist() == pytest.approx(wanted)


def test_without_triplets_text_changes_nothing(embeddings: TextEmbeddings) -> None:
    classifier = PredicateClassifier(SPATIAL, ACTION_GENOME, 4, 4, triplets=False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    classifier.initialise(embeddings, centred=True)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    logits = classifier(torch.zeros(2, 4))
    assert logits.shape == (2, 1, 6)
    assert classifier.probabilities(logits).flatten().tolist() == pytest.approx([0.02] * 12)


def test_softmax_object_scores_share_one_with_no_object() -> None:
    classifier = ThingClassifier(4, 4, ACTION_GENOME, text=False, sigmoid=False)
    logits = torch.zeros(2, 36)
    logits[1, 35] = math.log(65)  # no-object comes last
    probabilities = classifier.probabilities(logits)
    assert probabilities.shape == (2, 36)
    assert probabilities[:, 0].tolist() == [0, 0]
    assert probabilities[0, 1:].tolist() == pytest.approx([1 / 36] * 35)
    assert probabilities[1, 1:].tolist() == pytest.approx([0.01] * 35)


def test_sigmoid_object_scores_are_each_their_own() -> None:
    classifier = ThingClassifier(4, 4, ACTION_GENOME, text=False, sigmoid=True)
    assert classifier(torch.zeros(1, 4)).shape == (1, 35)
    logits = torch.linspace(-3, 3, 35)
    wanted = [0.0, *(probability(value) for value in logits.tolist())]
    assert classifier.probabilities(logits).tolist() == pytest.approx(wanted)


def test_embeddings_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(things, E\) and \(things, predicates, E\), not \(36, 8\) and"):
        TextEmbeddings(torch.zeros(36, 8), torch.zeros(35, 26, 8))


def test_embeddings_of_another_vocabulary_are_refused() -> None:
    embeddings = TextEmbeddings(torch.zeros(5, TEXT), torch.zeros(5, 5, TEXT))
    with pytest.raises(ConfigurationError, match="of 5 things and 5 predicates, but the vocabulary has 35 and 26"):
        Arn(tiny()).initialise_text(embeddings)


def test_things_are_spread_over_the_vocabularys_columns_and_subjects_stay_0() -> None:
    classifier = ThingClassifier(4, 4, SMALL_WORLD, text=False, sigmoid=True)
    logits = torch.linspace(-3, 3, 5)
    lamp, crate, bench, kettle, mop = (probability(value) for value in logits.tolist())
    assert classifier.probabilities(logits).tolist() == pytest.approx([0, lamp, 0, crate, bench, kettle, mop])
