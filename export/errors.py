"""Errors of the export package: ExportError is the root of all, DisagreementError one of them."""


class ExportError(Exception):
    """Root of all errors that `export` raises on purpose."""


class DisagreementError(ExportError):
    """A bundle does not give what its checkpoint gives; the message names the output, the shapes and the difference."""
