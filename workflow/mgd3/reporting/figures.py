"""Figures: grids of distilled images, and an overview of accuracies and gains.

Pixels are shown as they are: enlarged by whole numbers without smoothing, never shrunk. The same
input gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd

from ..base.artifacts import atomic, load_arrays, save_text, tensor_metadata
from ..base.errors import UserError
from ..data.splits import ipc_text
from . import drawing
from .statistics import excludes_zero

if TYPE_CHECKING:
    from PIL import Image, ImageFont

VERSION = 1

# Small images are enlarged to about this many pixels.
_CELL = 96
_MAX_CLASSES = 20
# Rows of a grid over t_SG, and modes of a class beside their samples.
_ROWS, _PAIRS = 10, 5
_INK, _PAPER, _MUTED = "#000000", "#ffffff", drawing.MUTED
_WRAP = 18


@dataclass(frozen=True)
class _Text:
    """A line of text; `anchor` is start, middle or end, `y` the middle of its height."""

    x: float
    y: float
    text: str
    size: int
    anchor: str = "start"
    colour: str = _INK


def grid(distilled: Path, output: Path, *, columns: int = 10) -> None:
    """Write a distilled set as a grid, a row per class.

    Args:
        distilled: safetensors with `images` uint8 [N, 3 or 1, S, S], `labels` int64 [N] and
            metadata `classes`, the class names in label order.
        output: `.png`, or `.svg` with the labels as text.
        columns: images of a class that are shown; a long data set shows its first 20 classes.

    Raises:
        UserError: the file is missing or is no image set, or `output` has another ending.
    """
    images, classes = _read(Path(distilled))
    image_grid({"": images}, classes, output, columns=columns)


def over_stops(
    runs: Sequence[Mapping[str, Any]], distilled: Sequence[Path], modes: Path, output: Path
) -> None:
    """Write the same images under several stops of the guidance (Figure 4b).

    A row a class, or a mode of it where there are few classes; a column a t_SG, beside the mode.
    The images of a row begin with the same noise.

    Args:
        runs: `method` and `settings` of each, rising in t_sg; one without guidance, too.
        distilled: their sets, in the same order.
        modes: of `decode_modes`; the classes that are shown.
        output: PNG; the SVG lies beside it.
    """
    decoded, classes = _read(modes)
    each = max(1, min(_ROWS // len(classes), min(map(len, decoded))))
    blocks = {"mode": decoded}
    for run, path in zip(runs, distilled, strict=True):
        found, names = _read(path)
        of_class = dict(zip(names, found, strict=True))
        blocks[_stop_text(run)] = [of_class[name] for name in classes]
    rows = [(c, k) for c in range(len(classes)) for k in range(each)]
    labels = [classes[c] + (f" mode {k + 1}" if each > 1 else "") for c, k in rows]
    shown = {label: [found[c][k : k + 1] for c, k in rows] for label, found in blocks.items()}
    note = f"a row has one mode and one noise; guided in steps i > t_SG{_of(classes, names)}"
    _both(shown, labels, output, note=note)


def trajectories(
    runs: Sequence[Mapping[str, Any]], recorded: Sequence[Path], modes: Path, output: Path
) -> None:
    """Write the clean images that the sampler predicts on its way, for several t_SG (Figure 9).

    A row a class and run, a column a step; a bar under an image says that its step was guided.

    Args:
        runs: as for `over_stops`.
        recorded: their files of stage `trajectory`, in the same order.
        modes: of `decode_modes`; the first mode of each class stands beside its rows.
        output: PNG; the SVG lies beside it.

    Raises:
        UserError: the runs have not the same steps.
    """
    about = [tensor_metadata(path) for path in recorded]
    steps, traced = about[0]["steps"], about[0]["classes"]
    if any(header["steps"] != steps for header in about):
        raise UserError("the runs have not the same steps", "compare runs of equal `steps`")
    decoded = dict(zip(*reversed(_read(modes)), strict=True))
    columns: dict[str, list[np.ndarray]] = {"mode": []}
    columns |= {f"i = {i}": [] for i in steps} | {"image": []}
    names, marked = [], set()
    for name in traced:
        for run, path, header in zip(runs, recorded, about, strict=True):
            held = load_arrays(path, [f"x0/{name}", f"image/{name}"])
            columns["mode"].append(decoded[name][: "t_sg" in run["settings"]])
            for i, image, guided in zip(steps, held[f"x0/{name}"], header["guided"], strict=True):
                columns[f"i = {i}"].append(image[None])
                marked |= {(f"i = {i}", len(names))} if guided else set()
            columns["image"].append(held[f"image/{name}"][None])
            # An underscore in a row's name becomes a space.
            names.append(f"{name} {_stop_text(run).replace('t_SG', 'stop')}")
    note = "the clean image predicted at step i; stop: t_SG; bar: a guided step"
    _both(columns, names, output, marked=marked, note=note)


def modes_and_samples(modes: Path, distilled: Path, output: Path) -> None:
    """Write decoded modes and, in the same order, the samples that they guided.

    Args:
        modes: of `decode_modes`; the classes that are shown.
        distilled: the set.
        output: PNG; the SVG lies beside it.
    """
    decoded, classes = _read(modes)
    found, names = _read(distilled)
    of_class = dict(zip(names, found, strict=True))
    blocks = {"modes, decoded": decoded, "samples": [of_class[name] for name in classes]}
    note = f"sample k was guided to mode k{_of(classes, names)}"
    _both(blocks, classes, output, columns=_PAIRS, note=note)


def _of(classes: Sequence[str], known: Sequence[str]) -> str:
    """The end of a note where not all classes are shown."""
    fewer = len(classes) < len(known)
    return f"; first {len(classes)} of {len(known)} classes" if fewer else ""


def _stop_text(run: Mapping[str, Any]) -> str:
    settings = run["settings"]
    return f"t_SG {settings['t_sg']}" if "t_sg" in settings else "unguided"


def _both(
    images: Mapping[str, Sequence[np.ndarray]],
    names: Sequence[str],
    output: Path,
    **more: Any,
) -> None:
    for suffix in (".png", ".svg"):
        image_grid(images, names, output.with_suffix(suffix), **more)


def _read(path: Path) -> tuple[list[np.ndarray], list[str]]:
    classes = tensor_metadata(path).get("classes")
    images, labels = load_arrays(path, ["images", "labels"]).values()
    if not classes or images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
        raise UserError(f"{path} is not a set of images", "delete it and run again to remake it")
    return [images[labels == c] for c in range(len(classes))], [str(c) for c in classes]


def image_grid(
    images: Mapping[str, Sequence[np.ndarray]],
    classes: Sequence[str],
    output: Path,
    *,
    columns: int = 10,
    max_classes: int = _MAX_CLASSES,
    marked: Collection[tuple[str, int]] = (),
    note: str = "",
) -> None:
    """Write images as rows of classes, one block of columns per method.

    Args:
        images: label of the method -> per class, uint8 [k, 3 or 1, S, S]. S may differ between
            methods. A single method with an empty label gets no heading.
        classes: class names, the labels of the rows.
        output: `.png`, or `.svg` with the labels as text over the embedded pixels.
        columns: most images per class and method.
        max_classes: most rows; what is left out is said below.
        marked: label and row of first images under which a bar is drawn.
        note: what is said below, besides.

    Raises:
        UserError: `output` has another ending.
    """
    from PIL import Image

    output = Path(output)
    if output.suffix not in (".png", ".svg"):
        raise UserError(f"{output} is no image file we write", "name it .png or .svg")
    shown = min(len(classes), max_classes)
    size = max(a.shape[-1] for arrays in images.values() for a in arrays[:shown])
    cell = size * max(1, round(_CELL / size))
    pad, gap = max(2, cell // 24), max(10, cell // 6)
    if marked:
        pad = max(9, cell // 8)
    font = max(12, round(cell / 6.5))

    names = [_wrapped(name) for name in classes[:shown]]
    left = 2 * pad + _text_width([line for name in names for line in name], font) + pad * 4
    head = 2 * font if any(images) else 2 * pad
    counts = {
        label: max(1, min(columns, max((len(a) for a in arrays[:shown]), default=1)))
        for label, arrays in images.items()
    }
    width = left + sum(n * (cell + pad) - pad for n in counts.values()) + gap * (len(counts) - 1)
    notes = "; ".join(filter(None, (note, _left_out(images, shown, len(classes), counts))))
    bottom = 2 * font if notes else 0
    height = head + shown * (cell + pad) - pad + bottom + 2 * pad

    canvas = Image.new("RGB", (math.ceil(width + 2 * pad), math.ceil(height)), _PAPER)
    texts = [
        _Text(
            left - 3 * pad,
            head + row * (cell + pad) + cell / 2 + (i - (len(lines) - 1) / 2) * font * 1.15,
            line,
            font,
            "end",
        )
        for row, lines in enumerate(names)
        for i, line in enumerate(lines)
    ]
    x = left
    for label, arrays in images.items():
        block = counts[label] * (cell + pad) - pad
        if label:
            texts.append(_Text(x + block / 2, head / 2, label, font, "middle"))
        for row, array in enumerate(arrays[:shown]):
            for column, image in enumerate(array[: counts[label]]):
                place = (x + column * (cell + pad), head + row * (cell + pad))
                canvas.paste(_enlarged(image, cell), place)
            if (label, row) in marked:
                below = head + row * (cell + pad) + cell
                canvas.paste(_INK, (x, below + pad // 3, x + cell, below + 2 * pad // 3))
        x += block + gap
    if notes:
        texts.append(
            _Text(left, height - pad - font * 0.9, notes, round(font * 0.9), "start", _MUTED)
        )
    _write_grid(canvas, texts, output)


def _enlarged(image: np.ndarray, cell: int) -> Image.Image:
    """A uint8 [3 or 1, S, S] image as a PIL image of about `cell` pixels, nearest neighbour."""
    from PIL import Image

    factor = max(1, cell // image.shape[-1])
    pixels = np.repeat(image, 3 // image.shape[0], axis=0).transpose(1, 2, 0)
    return Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def _wrapped(name: str) -> list[str]:
    """A class name in at most two lines; synonyms after a comma are left out."""
    name = name.split(",")[0].replace("_", " ").strip()
    return textwrap.wrap(name, _WRAP, max_lines=2, placeholder="…") or [""]


def _left_out(
    images: Mapping[str, Any], shown: int, classes: int, counts: Mapping[str, int]
) -> str:
    held = max((len(a) for arrays in images.values() for a in arrays[:shown]), default=0)
    parts = []
    if shown < classes:
        parts.append(f"first {shown} of {classes} classes")
    if held > max(counts.values()):
        parts.append(f"first {max(counts.values())} of {held} images per class")
    return ", ".join(parts)


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    # The font that matplotlib ships: the same on every machine, whatever fonts are installed.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _text_width(lines: Sequence[str], size: int) -> int:
    font = _font(size)
    return math.ceil(max((font.getlength(line) for line in lines), default=0))


def _write_grid(canvas: Image.Image, texts: Sequence[_Text], output: Path) -> None:
    if output.suffix == ".svg":
        save_text(output, _svg(canvas, texts))
        return
    from PIL import ImageDraw

    draw = ImageDraw.Draw(canvas)
    anchors = {"start": "lm", "middle": "mm", "end": "rm"}
    for t in texts:
        draw.text((t.x, t.y), t.text, t.colour, _font(t.size), anchors[t.anchor])
    with atomic(output) as temporary:
        canvas.save(temporary, format="PNG", optimize=False)


def _svg(canvas: Image.Image, texts: Sequence[_Text]) -> str:
    png = io.BytesIO()
    canvas.save(png, format="PNG")
    width, height = canvas.size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="DejaVu Sans, Arial, sans-serif">',
        f'<image width="{width}" height="{height}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"/>',
    ]
    lines += [
        f'<text x="{t.x:.1f}" y="{t.y:.1f}" font-size="{t.size}" text-anchor="{t.anchor}" '
        f'dominant-baseline="central" fill="{t.colour}">{escape(t.text)}</text>'
        for t in texts
    ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def accuracy_overview(csv: Path, png: Path, *, figure: str = "last") -> None:
    """Plot the rows of a results.csv: accuracies of all trainings, their mean, and the gain.

    Left, a dot per training and a bar at the mean; right, the paired gain over the reference with
    its 95 % interval, filled where the interval excludes 0. One pair of panels per data set, IPC,
    protocol and network. The shapes, not the colours, carry the meaning.

    Args:
        csv: from `tables`.
        png: output; the SVG lies beside it.
        figure: `last`, which chooses nothing, or `best`.

    Raises:
        UserError: the table is missing, damaged or holds no accuracy.
    """
    from .tables import load_results

    results = load_results(csv)
    results = results[results[f"{figure}_values"].notna() & results.n_test.notna()]
    if results.empty:
        raise UserError(f"{csv} holds no accuracies", "run the evaluation first")
    places = ["dataset", "ipc", "protocol", "network"]
    panels = [(keys, here) for keys, here in results.groupby(places, sort=False)]
    caption = _caption(results, figure)
    inches = [0.62 + 0.3 * len(here) for _, here in panels]
    foot = 0.1 + 0.15 * (caption.count("\n") + 1)
    labels = [_row_label(row) for row in results.itertuples()]
    width, total = 8.2, sum(inches) + 0.75 * len(panels) + foot
    with drawing.figure(png, width, total) as plot:
        left = 0.05 + max(map(_inches_wide, labels)) / width
        top = total
        for (keys, here), height in zip(panels, inches, strict=True):
            top -= 0.3
            box = (top - height) / total, height / total
            middle = left + (0.97 - left) * 0.56
            accuracies = plot.add_axes((left, box[0], middle - left - 0.02, box[1]))
            gains = plot.add_axes((middle + 0.01, box[0], 0.97 - middle - 0.01, box[1]))
            dataset, ipc, protocol, network = keys
            images = int(here.n_test.iloc[0])
            title = f"{dataset}, {ipc_text(ipc)} per class, {protocol}, {network}"
            title += f" ({images:,} test images)"
            accuracies.set_title(title, loc="left", fontsize=9, fontweight="bold")
            _plot_accuracies(accuracies, here, figure)
            _plot_gains(gains, here, figure)
            top -= height + 0.45
        plot.text(0.03, 0.08 / total, caption, fontsize=7.5, color=_MUTED, va="bottom")


def _row_label(row: Any) -> str:
    """At most two lines or so: a row is 0.3 inches high."""
    return textwrap.fill(f"{row.label} †" if row.deterministic else str(row.label), 36)


def _inches_wide(label: str) -> float:
    from matplotlib.textpath import TextPath  # slow to import

    points = max(TextPath((0, 0), line, size=9).get_extents().width for line in label.split("\n"))
    return float(points) / 72


def _plot_accuracies(axes: Any, here: pd.DataFrame, figure: str) -> None:
    labels = [_row_label(row) for row in here.itertuples()]
    for y, row in enumerate(here.itertuples()):
        values = [float(v) for v in str(getattr(row, f"{figure}_values")).split()]
        mean = getattr(row, f"{figure}_mean")
        axes.plot([mean, mean], [y - 0.32, y + 0.32], "-", color="black", lw=1.6)
        # Spread over the row's height, in the order of the seeds, so that equal values show.
        heights = y + (np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else 0.0)
        axes.plot(values, heights, "o", ms=4.5, mfc="white", mec="#555555", mew=0.9)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel(f"test accuracy, {figure} (%)", labelpad=2)
    axes.margins(x=0.08)
    _finish(axes, len(here))


def _plot_gains(axes: Any, here: pd.DataFrame, figure: str) -> None:
    axes.axvline(0, color="black", lw=0.8, zorder=1.5)
    for y, row in enumerate(here.itertuples()):
        mean = getattr(row, f"gain_{figure}")
        if row.reference == row.run:
            axes.annotate("reference", (0, y), (4, 0), textcoords="offset points", va="center",
                          fontsize=7.5, color=_MUTED)  # fmt: skip
            continue
        if pd.isna(mean):
            continue
        low, high = getattr(row, f"gain_{figure}_low"), getattr(row, f"gain_{figure}_high")
        axes.plot([low, high], [y, y], "-", color="black", lw=1.4, solid_capstyle="butt")
        fill = "black" if excludes_zero(low, high) else "white"
        axes.plot(mean, y, "D", ms=5.5, color="black", mfc=fill)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("gain over the reference (points)", labelpad=2)
    axes.margins(x=0.08)
    _finish(axes, len(here))


def _finish(axes: Any, rows: int) -> None:
    axes.set_ylim(rows - 0.4, -0.6)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _caption(results: pd.DataFrame, figure: str) -> str:
    seeds = sorted(
        {
            f"{int(row.n_generations)}×{int(row.n_trainings)}"
            if not pd.isna(row.n_trainings)
            else f"{int(row.n)}"
            for row in results.itertuples()
        }
    )
    chosen = {
        "last": "Accuracy after the last epoch.",
        "best": "Peak over the test evaluations, which chooses on the test set.",
    }[figure]
    text = (
        f"Circles: one training each; bar: mean; n = {', '.join(seeds)} (generation × training "
        f"seeds). {chosen} Diamonds: paired gain, same seeds and test images, with its 95 % "
        "bootstrap interval; filled where it excludes 0."
    )
    if results.deterministic.any():
        text += " †: one set, trained n times."
    return textwrap.fill(text, 128)
