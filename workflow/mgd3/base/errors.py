"""Errors that a user can mend: one sentence that names the thing, one that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something outside the program is wrong (a setting, a file, the machine).

    Args:
        what: names the thing that is wrong, and where it was found.
        mend: what the user can do about it.
    """

    def __init__(self, what: str, mend: str = "") -> None:
        self.what, self.mend = what, mend
        super().__init__(f"{what}\n  -> {mend}" if mend else what)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause naming the closest known word, or all of them when none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(word[:100], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."


def is_text(name: str) -> bool:
    """Whether a name can be written to a file: a file's name may be bytes that are no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def named_paths() -> Iterator[None]:
    """Inside the block, a path of the user's that cannot be looked at is a UserError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot look at {str(error.filename)[:200]}: {reason}",
            "mend the path in the config, or the permissions of its folders",
        ) from error
