"""Errors of training, data and evaluation.

* TrainingError
  x DataError
    + ForbiddenPickleError
  x ConfigurationError
  x EvaluationError
  x DivergedError
  x SaveError

Every message names the thing, the value found and what to do about it, on one line.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class TrainingError(Exception):
    """Root of everything that `training` raises on purpose; its message is fit to be shown to a user as it is."""


class DataError(TrainingError):
    """A data folder, an annotation or a prediction file is missing, malformed or not what it claims to be."""


class ForbiddenPickleError(DataError):
    """A pickle asks for something that annotation files never need, such as calling a function of the system."""


class ConfigurationError(TrainingError):
    """A training configuration has a key that is unknown, missing or contradicts another."""


class EvaluationError(TrainingError):
    """Arrays handed to the evaluator do not have the shape, range or size that the protocol asks for."""


class DivergedError(TrainingError):
    """Training cannot go on: the loss is no longer a number, or the weights have grown beyond use."""


class SaveError(TrainingError):
    """A state of a run cannot be written or read."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """`object class 'cup' is not in the vocabulary; the nearest is 'cup/glass/bottle'`: for use in a message."""
    # Who writes `cup` means `cup/glass/bottle`.
    name_of = {part: each for each in valid for part in (each, *each.split("/"))}
    # Every name resembles some other a little: a cutoff of 0 always proposes one.
    nearest = get_close_matches(str(name), name_of, n=1, cutoff=0.0)[0]
    return f"{kind} {name!r} is not in the vocabulary; the nearest is {name_of[nearest]!r}"
