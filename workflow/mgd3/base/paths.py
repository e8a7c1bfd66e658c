"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError


def expanded(path: str | Path) -> Path:
    """A path whose `~` or `~name` is that user's home, as in a shell.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path} begins with the home of a user that is not here", "write the path in full"
        ) from error
