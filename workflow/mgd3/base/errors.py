"""Errors that a user can mend: one sentence that names the thing, one that says what to do."""

from __future__ import annotations

import difflib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# How a job's log begins a line that is no mistake and that a user should see: the terminal shows it
# under `--logger mgd3`.
NOTE = "note: "


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


_DISK = "free some space, or choose a folder on a larger disk, and run the command again"
_MENDS = {
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or use another disk",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: the machine's open files are used up",
    errno.EIO: "the disk or the network drive fails: check it, or use another",
    errno.ENAMETOOLONG: "choose a shorter name or path",
    errno.ENOENT: "check the path, or run the stage that makes it",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a file stands where a folder should be: name another path, or move it away",
    errno.EEXIST: "something else stands there: name another path, or move it away",
    errno.ELOOP: "links lead in a circle there: name another path",
    errno.EACCES: "mend its permissions, or choose another place",
    errno.EPERM: "mend its permissions, or choose another place",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOMEM: "use a machine with more memory",
    errno.EPIPE: "what read the output went away",
}


def explained(error: BaseException) -> UserError | None:
    """What an error of the system means to a user: of any file and any errno; None for a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, UnicodeError):
        return UserError(
            f"a name or a file is not UTF-8 text: {error}",
            "save the file as UTF-8, or name things in UTF-8",
        )
    if isinstance(error, OSError):
        about = ": ".join(str(name)[:200] for name in (error.filename,) if name is not None)
        reason = error.strerror or str(error) or type(error).__name__
        what = f"{about}: {reason}" if about else f"the system refused a file: {reason}"
        mend = _MENDS.get(error.errno or 0, "check the path, its disk and its permissions")
        return UserError(what, mend)
    return None


def require_file(path: str | Path, kind: str = "file", mend: str = "") -> Path:
    """The path of a regular file, or of a link to one.

    Raises:
        UserError: nothing is there, or a folder, a pipe, a device; or it cannot be looked at.
    """
    path, mend = Path(path), mend or "run the stage that makes it"
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{kind} not found: {path}", mend) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        known = explained(error) or UserError(f"{str(path)[:200]!r} is no path", mend)
        raise UserError(f"{kind}: {known.what}", known.mend) from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder, not a {kind}", "name the file in it")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device, not a {kind}", mend)
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: permission denied", "mend its permissions")
    return path
