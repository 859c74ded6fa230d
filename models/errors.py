"""Errors of the models package. `ModelError` is the base of all others."""


class ModelError(Exception):
    """Base of all errors that `models` raises on purpose."""


class BundleError(ModelError):
    """A bundle on disk is incomplete, altered or not understood; the message names the file and the field."""


class ConfigurationError(ModelError):
    """A model configuration contradicts itself; the message names the fields."""


class EngineError(ModelError):
    """An engine cannot run a bundle here; the message names the engine, the reason and what to do."""


class WeightsError(ModelError):
    """Weights cannot be read, or do not fit the network; the message names the file or the keys."""
