"""Paths as users write them."""

from __future__ import annotations

import os
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


def in_one_spelling(path: str | Path) -> str:
    """The one text for all ways to write a path: `./made` and, in the working folder, the absolute
    one are `made`. Links are not followed, so that what stands at the end of one may move.

    Raises:
        UserError: as `expanded`.
    """
    whole = Path(os.path.abspath(expanded(path)))  # noqa: PTH100 - `..` goes, links stay
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)
