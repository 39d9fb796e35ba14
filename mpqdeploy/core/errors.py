"""Errors that are meant for people.

Everything a user can cause is a `UserError`: the command line prints its message and hint and
exits with code 2, without a traceback. Anything else is a defect of this project and keeps its
traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """What was wrong and where (`message`), and what to do about it (`hint`)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(UserError):
    """A configuration key that is unknown, missing or out of range."""


class DataError(UserError):
    """A data file that is missing, truncated or of another format."""


class CheckpointError(UserError):
    """A checkpoint whose names or shapes do not fit the model."""


class ModelError(UserError):
    """A model file that cannot be read, or a node that cannot be compiled."""


class BudgetError(UserError):
    """A budget that no network of the search space meets."""


class TargetError(UserError):
    """A target that this machine is not, or that lacks what a model needs."""


class BundleError(UserError):
    """A bundle with a missing or altered file."""
