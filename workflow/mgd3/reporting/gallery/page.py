"""Stage `gallery`: one HTML page, all in it: pictures, style and script. No network, no other file.

Names come from folders of the user: everything that is not ours is escaped, and the page's policy
lets no script, style or request run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...base import artifacts
from ..tables import load_results

# Sides up to this are shown as they are; larger ones lossily, and no larger than an edition says.
_EXACT, _QUALITY = 96, 85
_NAMES = {"lambda": "λ", "t_sg": "t_SG", "cfg": "CFG"}


@dataclass(frozen=True)
class Edition:
    """How large a page may be.

    Attributes:
        limit: bytes; of classes and images as many are shown as fit.
        largest: side of an image, pixels.
        note: what the page says of itself.
    """

    limit: int
    largest: int
    note: str = ""


# Where not all of the images fits, more of them say more than larger ones.
LARGE = (Edition(20_000_000, 256), Edition(20_000_000, 128))
# A report holds the page as an address, and Chromium opens none of more than 2 MiB.
SMALL = Edition(1_500_000, _EXACT, "gallery.html, beside the tables, shows more than this page.")


@dataclass(frozen=True)
class Part:
    """A file of `exhibit`: tensors by name, and its metadata."""

    about: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _View:
    """How many classes are shown, how many images of each, and their largest side."""

    classes: int
    images: int
    edition: Edition


def gallery(
    parts: Sequence[Path],
    runs: Sequence[Mapping[str, Any]],
    results: Path,
    title: str,
    output: Path,
    small: Path,
) -> None:
    """Write the page, and the same in small for a report.

    Args:
        parts: files of `exhibit`, in the order of the page.
        runs: `run`, `label`, `method`, `generator`, `settings` of each, in the order of the page.
        results: `results.csv` of stage `tables`.
        title: the configuration's name.
        output, small: the two editions; equal where the whole is small enough.

    Raises:
        UserError: a file is missing or damaged.
    """
    held = [_read(path) for path in parts], runs, load_results(results), title
    for size in LARGE:
        whole, complete = edition(*held, size)
        if complete:
            break
    artifacts.save_text(output, whole)
    fits = len(whole.encode()) <= SMALL.limit
    artifacts.save_text(small, whole if fits else edition(*held, SMALL)[0])


def _read(path: Path) -> Part:
    return Part(artifacts.tensor_metadata(path), artifacts.load_arrays(path))


def edition(
    parts: Sequence[Part],
    runs: Sequence[Mapping[str, Any]],
    results: pd.DataFrame,
    title: str,
    size: Edition,
) -> tuple[str, bool]:
    """The page with as many classes, and images of each, as it can hold, at least one; and whether
    it has all that the parts hold."""
    most = max(len(part.about["classes"]) for part in parts)
    each = max(len(x) for part in parts for x in part.tensors.values())
    classes = images = 1
    text = page(parts, runs, results, title, _View(1, 1, size))
    while True:
        more = [(classes + 1, images), (classes, images + 1)]
        for c, k in sorted(more, key=lambda grown: (max(grown), grown[1])):
            if c <= most and k <= each:
                larger = page(parts, runs, results, title, _View(c, k, size))
                if len(larger.encode()) <= size.limit:
                    classes, images, text = c, k, larger
                    break
        else:
            return text, (classes, images) == (most, each)


def page(
    parts: Sequence[Part],
    runs: Sequence[Mapping[str, Any]],
    results: pd.DataFrame,
    title: str,
    view: _View,
) -> str:
    """The page as HTML."""
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(
        panel for p, part in enumerate(parts) for panel in _panel(p, part, runs, results, view)
    )
    name = escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}: gallery of distilled images</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<h1>Gallery of distilled images: <span class="name">{name}</span></h1>
{_legend(parts)}
</header>
{_controls(parts, runs)}
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _legend(parts: Sequence[Part]) -> str:
    guided = any(n.startswith("mode/") for part in parts for n in part.tensors)
    real = any("nearest" in part.about for part in parts)
    kinds = {}
    if guided:
        kinds["mode"] = (
            "<b>The mode</b>, decoded: where guidance drew the image to. A D4M image begins there; "
            "methods without modes have none."
        )
    kinds["made"] = (
        "<b>The distilled image</b>, numbered within its class. The same number begins with the "
        "same noise in every method that samples."
    )
    if real:
        kinds["near"] = (
            "<b>The nearest real image</b> of the class, among the training images and by the "
            "distance d of VAE latents. In × it is over the usual distance of a training image to "
            "its nearest neighbour: 0 is a copy, below 1 nearer than training images are to each "
            "other."
        )
    rows = "".join(
        f'<li><span class="frame {kind}"></span><span>{text}</span></li>'
        for kind, text in kinds.items()
    )
    none = (
        "" if real
        else '<p class="note">No run has a generator, so there is no latent space in which to '
        "seek the nearest real images.</p>"
    )  # fmt: skip
    return (
        "<p>Networks are trained from scratch on the distilled images alone and tested on real "
        "ones: the accuracies below. Each strip is one image; from top to bottom:</p>"
        f'<ul class="legend">{rows}</ul>{none}'
    )


def _controls(parts: Sequence[Part], runs: Sequence[Mapping[str, Any]]) -> str:
    """Hidden until the script, without which all is shown, has taken them over."""
    datasets = list(dict.fromkeys(part.about["of"]["dataset"] for part in parts))
    ipcs = list(dict.fromkeys(part.about["of"]["ipc"] for part in parts))
    held = {run for part in parts for run in part.about["runs"]}

    def select(
        name: str, label: str, options: Sequence[tuple[str, str]], hide: bool = False
    ) -> str:
        inner = "".join(f'<option value="{escape(v)}">{escape(t)}</option>' for v, t in options)
        hidden = " hidden" if hide else ""
        return f'<label{hidden}>{label} <select id="{name}">{inner}</select></label>'

    methods = [(str(r), run["label"]) for r, run in enumerate(runs) if run["run"] in held]
    fields = [
        select("dataset", "Data set", [(d, d) for d in datasets], len(datasets) < 2),
        select("ipc", "Images per class", [(str(i), str(i)) for i in ipcs], len(ipcs) < 2),
        select("class", "Class", [("", "all")]),
        '<span class="step"><button type="button" id="previous" aria-label="Previous class">‹'
        '</button><button type="button" id="next" aria-label="Next class">›</button></span>',
        select("method", "Method", [("", "all"), *methods]),
        select("size", "Size", [("1", "small"), ("2", "medium"), ("3", "large")]),
        '<label class="tick"><input type="checkbox" id="modes" checked> modes</label>',
        '<label class="tick"><input type="checkbox" id="reals" checked> nearest real</label>',
        '<output id="count" aria-live="polite"></output>',
    ]
    return f'<form id="controls" aria-label="What is shown" hidden>{"".join(fields)}</form>'


def _panel(
    p: int,
    part: Part,
    runs: Sequence[Mapping[str, Any]],
    results: pd.DataFrame,
    view: _View,
) -> Iterator[str]:
    """A data set and IPC."""
    of, classes = part.about["of"], part.about["classes"][: view.classes]
    images = min(view.images, part.about["held"])
    own = [(r, run) for r, run in enumerate(runs) if run["run"] in part.about["runs"]]
    dataset, ipc = escape(str(of["dataset"])), of["ipc"]
    yield (
        f'<section class="panel" data-dataset="{dataset}" data-ipc="{ipc}" '
        f'aria-labelledby="p{p}"><h2 id="p{p}">{dataset}, {ipc} images per class</h2>'
        f'<p class="note">{_left_out(part, len(classes), images, view)}</p>'
    )
    yield _methods(part, own, results, classes, images)
    for c, name in enumerate(classes):
        of_class = f"p{p}c{c}"
        real = part.about.get("originals", {}).get(name)
        count = f" <small>{real:,} training images</small>" if real else ""
        yield (
            f'<section class="class" data-class="{c}" aria-labelledby="{of_class}">'
            f'<h3 id="{of_class}"><span class="name">{escape(name)}</span>{count}</h3>'
        )
        for r, run in own:
            yield f'<section class="method" data-method="{r}"><h4>{escape(run["label"])}</h4>'
            strips = "".join(_strips(part, run["run"], name, images, view.edition.largest))
            yield f'<ol class="strips">{strips}</ol></section>'
        yield "</section>"
    yield "</section>"


def _left_out(part: Part, classes: int, images: int, view: _View) -> str:
    known, held, largest = part.about["known"], part.about["held"], view.edition.largest
    notes = [f"Generation seed {part.about['of']['generation_seed']}"]
    if classes < known:
        notes.append(f"the first {classes} of {known} classes")
    if images < held:
        notes.append(f"the first {images} of {held} images of each class")
    if (side := part.about["side"]) > largest:
        notes.append(f"images of {side} pixels shrunk to {largest}")
    said = ["; ".join(notes) + "."]
    if len(notes) > 1:
        said += [view.edition.note, "What is left out is in the sets."]
    return " ".join(filter(None, said))


def _methods(
    part: Part,
    own: Sequence[tuple[int, Mapping[str, Any]]],
    results: pd.DataFrame,
    classes: Sequence[str],
    images: int,
) -> str:
    """A table: settings, accuracies and usual distance to real images of each method."""
    of = part.about["of"]
    here = results[(results.dataset == of["dataset"]) & (results.ipc == of["ipc"])]
    judged = list(here[["protocol", "network"]].drop_duplicates().itertuples(index=False))
    real = "nearest" in part.about
    head = ["Method", *(f"{j.network}, {j.protocol}" for j in judged)]
    head += ["Nearest real (median ×)"] if real else []
    head += ["Generator", "Settings"]
    rows = []
    for r, run in own:
        cells = [_accuracy(here, run["run"], j.protocol, j.network) for j in judged]
        if real:
            found = part.about["nearest"].get(run["run"], {})
            ratios = [i["ratio"] for n in classes for i in found.get(n, [])[:images]]
            ratios = [x for x in ratios if x is not None]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "–")
        cells.append(escape(run["generator"] or "–"))
        cells.append(_settings(run["settings"]))
        inner = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(
            f'<tr data-method="{r}"><th scope="row">{escape(run["label"])}</th>{inner}</tr>'
        )
    heads = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    notes = []
    if judged:
        notes.append(
            "Test accuracy in per cent at the last evaluation: mean ± std over n trainings."
        )
    if real:
        notes.append("The median × is of the images shown.")
    return (
        f'<p class="note">{" ".join(notes)}</p>'
        '<div class="wide" role="region" aria-label="Methods" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _accuracy(here: pd.DataFrame, run: str, protocol: str, network: str) -> str:
    row = here[(here.run == run) & (here.protocol == protocol) & (here.network == network)]
    if row.empty or pd.isna(row.iloc[0].last_mean):
        return "–"
    first = row.iloc[0]
    spread = "" if pd.isna(first.last_std) else f" ± {first.last_std:.1f}"
    return f"{first.last_mean:.1f}{spread} <small>n = {int(first.n)}</small>"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f'<span class="setting">{escape(_NAMES.get(key, key))} {escape(_value(value))}</span>'
        for key, value in settings.items()
        if value is not None
    )


def _value(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _strips(part: Part, run: str, name: str, images: int, largest: int) -> Iterator[str]:
    """One image with what stands above and below it, each."""
    made = part.tensors[f"made/{run}/{name}"][:images]
    modes = part.tensors.get(f"mode/{run}/{name}", ())
    near = part.tensors.get(f"near/{run}/{name}", ())
    about = part.about.get("nearest", {}).get(run, {}).get(name, [])
    for k, image in enumerate(made):
        pictures, caption = [], f"<b>{k + 1}</b>"
        if k < len(modes):
            pictures.append(_picture(modes[k], "mode", f"mode {k + 1}, decoded", largest))
        pictures.append(_picture(image, "made", f"image {k + 1}", largest))
        if k < len(near):
            item = about[k]
            said = f"nearest real image: {item['image']}"
            pictures.append(_picture(near[k], "near", said, largest))
            ratio = "" if item["ratio"] is None else f"{item['ratio']:.2f}×"
            caption += (
                f' <span class="ratio">{ratio}</span>'
                f'<span class="real" title="{escape(item["image"])}">'
                f"{escape(item['image'].rpartition('/')[2])}</span>"
                f'<span class="real">d {item["distance"]:.2f}</span>'
            )
        yield (
            f'<li data-k="{k}"><figure>{"".join(pictures)}'
            f"<figcaption>{caption}</figcaption></figure></li>"
        )


def _picture(image: np.ndarray, kind: str, text: str, largest: int) -> str:
    """A uint8 [3 or 1, S, S] image as an element; its text says what it is."""
    smooth = " smooth" if image.shape[-1] > _EXACT else ""
    digest = hashlib.sha256(image.tobytes()).digest()
    uri = _ENCODED.get((digest, largest))
    if uri is None:
        uri = _ENCODED[digest, largest] = _data_uri(image, largest)
    return f'<img class="{kind}{smooth}" alt="{escape(" ".join(text.split()))}" src="{uri}">'


# A page is written several times until it is as large as it may be.
_ENCODED: dict[tuple[bytes, int], str] = {}


def _data_uri(image: np.ndarray, largest: int) -> str:
    """WebP, a fourth smaller than PNG: exactly the pixels of a small image."""
    from PIL import Image

    picture = Image.fromarray(np.repeat(image, 3 // image.shape[0], axis=0).transpose(1, 2, 0))
    exact = picture.width <= _EXACT
    if picture.width > largest:
        picture = picture.resize((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", lossless=exact, quality=100 if exact else _QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
