"""Figures by matplotlib: one style, PNG and SVG, the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base.artifacts import atomic

MUTED = "#555555"
_STYLE = {
    "svg.hashsalt": "mgd3",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def figure(png: Path, width: float, height: float, layout: str | None = None) -> Iterator[Any]:
    """A figure to draw in, written to `png` and beside it as SVG when the block ends.

    Args:
        width, height: inches.
        layout: matplotlib's layout engine, for instance "constrained".
    """
    import matplotlib

    matplotlib.use("Agg")  # no display
    import matplotlib.pyplot as plt

    with plt.rc_context(_STYLE):
        plot = plt.figure(figsize=(width, height), layout=layout)
        try:
            yield plot
            for path, kind in ((png, "png"), (png.with_suffix(".svg"), "svg")):
                # Dates and versions of the software would make the bytes differ between runs.
                nothing = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
                with atomic(path) as temporary:
                    plot.savefig(temporary, format=kind, dpi=200, metadata=nothing)
        finally:
            plt.close(plot)


def trainings(counts: Iterable[float]) -> str:
    """How many trainings a point of a curve stands for, where points may differ."""
    found = sorted({int(n) for n in counts})
    noun = "training" if found == [1] else "trainings"
    return f"n = {', '.join(map(str, found))} {noun} a point"
