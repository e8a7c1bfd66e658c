"""Stage `export`: a distilled set as others take it: PNG folders, one tensor file, and a card."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import __version__
from ..base import artifacts
from ..base.errors import UserError

IMAGES, TENSORS, SUMS, CARD = "images", "distilled.safetensors", "SHA256SUMS", "README.md"
_LONGEST = 80
# Names that a folder cannot have on Windows, where archives of images travel, too.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
# Half the time of PIL's default level 6, at the same size to a thousandth.
_COMPRESSION = 4
_CHUNK = 256
# Words, between other letters than a to z, by which Hugging Face `datasets` tells splits in a path.
_SPLIT_WORDS = re.compile(
    r"(?<![A-Za-z])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)"
    r"(?![A-Za-z])",
    re.I,
)


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder name for each class: itself (a wnid is), or a safe one of its own.

    Letters other than ASCII, spaces and punctuation become `_`, but none at the beginning where
    there are two; words that name a split get `class` before them. A name that was changed, that is
    reserved, or that another class shares but for its case, ends in 8 hex digits of its SHA-256.
    """
    folded = [name.casefold() for name in classes]

    def one(name: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST].strip(".") or "class"
        # Hugging Face `datasets` hides folders that begin with two, and takes words for splits.
        safe = safe.lstrip("_") if safe.startswith("__") else safe
        safe = _SPLIT_WORDS.sub(r"class\1", safe).lstrip(".") or "class"
        unclear = folded.count(name.casefold()) > 1 or safe.split(".")[0].lower() in _RESERVED
        if safe == name and not unclear:
            return safe
        return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    return [one(name) for name in classes]


def export(
    distilled: Path, manifest: Path, output: Path, context: Mapping[str, Any] | None = None
) -> None:
    """Write a distilled set into the folder `output`.

    It gets `images/{class}/{k}.png`, `distilled.safetensors` (a copy of the collected set),
    `SHA256SUMS` (of all those, for `sha256sum -c`) and `README.md`, a data-set card whose header
    the Hugging Face Hub reads. Files of an earlier export are replaced; the card comes last.

    Args:
        distilled: images.safetensors of the stage `collect`.
        manifest: its manifest.parquet.
        context: what made the set (`dataset`, `run`, `label`, ...), for the card.

    Raises:
        UserError: a file is missing, or the two do not belong together.
    """
    settings = artifacts.tensor_metadata(distilled)
    table = artifacts.load_table(manifest)
    count = artifacts.tensor_shape(distilled, "images")[0]
    if count != len(table) or settings["blocks"] != artifacts.table_metadata(manifest)["blocks"]:
        raise UserError(
            f"{manifest} is not the manifest of {distilled}",
            "delete both and run the workflow again to remake them",
        )
    folders = folder_names(settings["classes"])
    names = [
        f"{IMAGES}/{folders[label]}/{k}.png"
        for label, k in zip(table["label"], table["k"], strict=True)
    ]
    output.mkdir(parents=True, exist_ok=True)
    (output / CARD).unlink(missing_ok=True)
    digests = _write_images(distilled, names, output)
    with artifacts.atomic(output / TENSORS) as temporary:
        shutil.copyfile(distilled, temporary)
    digests[TENSORS] = artifacts.sha256_of(output / TENSORS)
    sums = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    artifacts.save_text(output / SUMS, sums)
    counts = table["label"].value_counts().sort_index().tolist()
    text = card(settings, folders, counts, digests, artifacts.sha256_of(output / SUMS), context)
    artifacts.save_text(output / CARD, text)
    print(f"{count} images of {len(folders)} classes in {output}", file=sys.stderr)


def _write_images(distilled: Path, names: Sequence[str], output: Path) -> dict[str, str]:
    """Write row i as the PNG names[i], in threads (compression releases the interpreter lock).

    The folder of images is swapped in whole, so that none of an earlier export stays.
    """

    def write(path: Path, pixels: np.ndarray) -> str:
        Image.fromarray(pixels).save(path, format="PNG", compress_level=_COMPRESSION)
        return artifacts.sha256_of(path)

    digests: list[str] = []
    with (
        artifacts.named_disk_errors(output / IMAGES),
        tempfile.TemporaryDirectory(prefix=".export.", dir=output) as temporary,
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        new = Path(temporary)
        for folder in {Path(name).parent for name in names}:
            (new / folder).mkdir(parents=True)
        for rows in artifacts.tensor_rows(distilled, "images", _CHUNK):
            paths = [new / name for name in names[len(digests) : len(digests) + len(rows)]]
            digests += pool.map(write, paths, np.ascontiguousarray(rows.transpose(0, 2, 3, 1)))
        if (output / IMAGES).exists():
            (output / IMAGES).replace(new / "old")
        (new / IMAGES).replace(output / IMAGES)
    return dict(zip(names, digests, strict=True))


def card(
    settings: Mapping[str, Any],
    folders: Sequence[str],
    counts: Sequence[int],
    digests: Mapping[str, str],
    sums: str,
    context: Mapping[str, Any] | None = None,
) -> str:
    """The data-set card: Markdown with the header of Hugging Face's data-set repositories.

    Args:
        settings: the metadata of the collected set.
        folders, counts: of each class, in label order.
        digests: SHA-256 of each file.
        sums: SHA-256 of SHA256SUMS itself.
        context: as in `export`.
    """
    context = dict(context or {})
    dataset, total = context.get("dataset", "a data set"), sum(counts)
    made_by = context.get("label", settings["method"])
    each = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    header = {
        "pretty_name": f"{dataset} distilled by {made_by}",
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "mgd3"],
        "configs": [{"config_name": "default", "data_dir": IMAGES}],
    }
    facts = {
        "data set": _cell(dataset),
        "method": f"{_cell(made_by)} (`{context.get('run', settings['method'])}`)",
        "generator": _cell(context.get("generator") or "none"),
        "classes": len(counts),
        "images": f"{total} ({each} per class)",
        "generation seed": settings["generation_seed"],
        "made with": f"mgd3 {__version__}",
    }
    lines = [
        "---",
        # JSON is YAML, and quotes what needs it.
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()),
        "---",
        "",
        f"# {_cell(header['pretty_name'])}",
        "",
        "A distilled data set: a few images per class, made to train a classifier on in place of "
        "the full training set. The images are not photographs to rely on, and carry whatever "
        "terms apply to the data set and the generator they come from."
        if context.get("generator")
        else "A small data set to train a classifier on in place of the full training set. The "
        "images carry the terms of the data set they come from.",
        "",
        *_table(("", ""), [(key, str(value)) for key, value in facts.items()]),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(settings["settings"], indent=1, ensure_ascii=False),
        "```",
        "",
        "The noise of image `k` of a class is drawn from SHA-256 of (stage, generation seed, "
        "class, k); no other setting enters it.",
        "",
        "## Files",
        "",
        *_table(
            ("file", "SHA-256"),
            [(TENSORS, digests[TENSORS]), (f"{SUMS} (all files: `sha256sum -c {SUMS}`)", sums)]
            + [(f"source {name}", digest) for name, digest in settings["blocks"].items()],
        ),
        "",
        "```python",
        'torchvision.datasets.ImageFolder("images")',
        'datasets.load_dataset("imagefolder", data_dir="images")["train"]',
        f'safetensors.torch.load_file("{TENSORS}")  # images uint8 [{total}, 3, S, S], labels',
        "```",
        "",
        "The first two number classes by the folders' names in sorted order; the published order "
        "of labels, which the tensor file has, is:",
        "",
        *_table(
            ("label", "folder", "class", "images"),
            [
                (str(label), f"`{IMAGES}/{folder}`", _cell(name), str(count))
                for label, (folder, name, count) in enumerate(
                    zip(folders, settings["classes"], counts, strict=True)
                )
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Any text as a cell of a Markdown table."""
    return re.sub(r"([\\|*_<`\[])", r"\\\1", " ".join(text.split()))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(header)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
