"""A process that starts and ends at once: what Python does besides the work, and need not.

Importing torch and diffusers makes a million objects that live until the end. While they are made,
the collector walks all of them again and again and finds nothing; when the last file is written,
the interpreter takes them down one by one. Together that is half of a short stage.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

# As if SIGPIPE had ended us: who read our output has seen enough of it (`mgd3 --help | head`).
_SIGPIPE = 141


def run(main: Callable[[], int]) -> NoReturn:
    """Call `main` and end the process with the exit status that it returns, without taking it down.

    Only for a command's entry point: nothing after it runs. What `main` raises, `SystemExit`
    included, ends the process in Python's usual way.
    """
    gc.callbacks.append(_ImportsAreFrozen())
    try:
        status = main()
    except BrokenPipeError:
        status = _SIGPIPE
    leave(status)


class _ImportsAreFrozen:
    """Called before each collection: takes what importing has made out of it.

    Stages import what they need when they need it, in many places, so that no line of the code
    begins the work. A collection that finds modules loaded since the last one comes while more are
    being imported, or right after: all that there is then will stay, and is frozen, and the
    collection has nothing to walk. Between imports, garbage is collected as ever.
    """

    def __init__(self) -> None:
        self._modules = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start" and len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            gc.freeze()


def leave(status: int) -> NoReturn:
    """End this process as Python does, but for the teardown of modules and objects.

    Threads are waited for, functions registered with `atexit` run (temporary folders are deleted,
    pools of processes joined, logs flushed), and the standard streams are flushed: one that cannot
    be, for instance because the disk is full, makes a success a failure, with Python's status 120.
    `multiprocessing` ends its children with the same calls.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            status = status or _SIGPIPE
        except (OSError, ValueError):
            status = status or 120
    os._exit(status)
