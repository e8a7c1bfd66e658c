"""How far a job is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from tqdm import tqdm

# A log gets a line after each of these, and one at the end.
LOG_SECONDS = 10.0


class Progress:
    """Counts what is done; tells the share, the rate and the time left on stderr.

    Args:
        total: how many there are.
        what: what the job does, for instance "DiT of mnist".
        unit: of what, in the plural: "images", "steps".
        done: how many an earlier attempt has done; they do not enter the rate.
    """

    def __init__(self, total: int, what: str, unit: str, done: int = 0) -> None:
        self.total, self.what, self.unit = total, what, unit
        self.done: float = done
        self._begin, self._notes = done, ""
        self._started = self._told = time.monotonic()
        self._told_at: float | None = None
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            # tqdm shows nothing where a terminal does not tell its size.
            columns, lines = shutil.get_terminal_size()
            self._bar = tqdm(
                total=total, initial=done, desc=what, unit=f" {unit}", ncols=columns, nrows=lines
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._told_at != self.done:
            self._tell()

    def update(self, count: float = 1) -> None:
        """`count` more are done; a part of one is well."""
        self.reach(self.done + count)

    def reach(self, done: float) -> None:
        """`done` are done in all."""
        if self._bar is not None:
            self._bar.update(int(done) - int(self.done))
        self.done = done
        if self._bar is None and time.monotonic() - self._told >= LOG_SECONDS:
            self._tell()

    def note(self, **figures: str) -> None:
        """Figures to show with the next line, for instance the loss."""
        self._notes = "".join(f", {name} {value}" for name, value in figures.items())
        if self._bar is not None:
            self._bar.set_postfix(figures, refresh=False)

    def _tell(self) -> None:
        self._told, self._told_at = time.monotonic(), self.done
        spent = max(self._told - self._started, 1e-9)
        rate = (self.done - self._begin) / spent
        share = 100 * self.done / self.total if self.total else 100
        left = f"{clock((self.total - self.done) / rate)} left" if rate else "time left unknown"
        end = f"{clock(spent)} in all" if self.done >= self.total else left
        print(
            f"{self.what}: {int(self.done):,}/{self.total:,} {self.unit} ({share:.0f} %), "
            f"{_figure(rate)} {self.unit}/s, {end}{self._notes}",
            file=sys.stderr,
            flush=True,
        )


def clock(seconds: float) -> str:
    """Seconds as 0:00:00."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
