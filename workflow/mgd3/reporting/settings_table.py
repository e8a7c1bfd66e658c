"""Stage `settings-table`: what made each distilled set, from the records beside the files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.artifacts import save_text
from ..base.errors import UserError
from ..base.identity import slug_in
from ..base.records import lineage, record_of, records_for
from ..generators.registry import get_generator

# Parts of a pipeline folder that hold weights.
_WEIGHTS = ("vae", "transformer", "unet", "class_embedder", "text_encoder")
_FAISS = ("faiss-cpu", "faiss-gpu-cu12")
COLUMNS = [
    *("dataset", "ipc", "label", "generation_seed", "set_sha256", "settings", "method", "run"),
    *("generator", "fetched_from", "weights_sha256"),
    *("mgd3", "commit", "python", "torch", "diffusers", "faiss", "device"),
]
_SHOWN = 12


def settings_table(
    manifests: Sequence[Path], runs: Sequence[Mapping[str, Any]], output: Path
) -> None:
    """Write a CSV with one row a distilled set, and the same in short as Markdown beside it.

    A run without a set (`full`) has one row without a data set. What no record tells is empty.

    Args:
        manifests: of the sets, named as `Layout.distilled` does: `.../{dataset}/distilled/{run}/
            ipc{ipc}/gen{gen}~{id}/manifest.parquet`.
        runs: the rows in order, each {"run": slug, "label", "method", "generator", "settings"}.

    Raises:
        UserError: a record cannot be read.
    """
    by_slug = {run["run"]: run for run in runs}
    for path in manifests:
        _require_place(path, by_slug)
    records: dict[Path, dict[str, Any]] = {}
    rows = [_row(path, by_slug, records) for path in manifests]
    with_set = {row["run"] for row in rows}
    rows += [_of_run(run) for run in runs if run["run"] not in with_set]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.astype({"ipc": "Int64", "generation_seed": "Int64"})  # empty, not NaN
    save_text(output, table.to_csv(index=False, lineterminator="\n"))
    save_text(output.with_suffix(".md"), markdown(rows))


def _require_place(manifest: Path, runs: Collection[str]) -> None:
    parts = manifest.parts[-6:-1]
    if len(parts) < 5 or not re.fullmatch(r"ipc\d+/gen\d+(~[0-9a-f]+)?", "/".join(parts[3:])):
        raise UserError(
            f"{manifest} does not lie where distilled sets do",
            "give .../{dataset}/distilled/{run}/ipc{ipc}/gen{gen}~{id}/manifest.parquet",
        )
    if parts[2] not in runs:
        raise UserError(f"{manifest} is of run {parts[2]!r}", f"--runs has {', '.join(runs)}")


def _of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: run[key] for key in ("run", "label", "method")},
        "settings": json.dumps(run["settings"], ensure_ascii=False),
        "generator": run["generator"] or "",
        "fetched_from": _fetched_from(run["generator"]),
    }


def _row(
    manifest: Path, runs: Mapping[str, Mapping[str, Any]], records: dict[Path, dict[str, Any]]
) -> dict[str, Any]:
    dataset, _, run, ipc, gen = manifest.parts[-6:-1]
    row = {
        "dataset": dataset,
        "ipc": int(ipc.removeprefix("ipc")),
        "generation_seed": int(slug_in(gen).removeprefix("gen")),
        **_of_run(runs[run]),
    }
    images = manifest.with_name("images.safetensors")
    record = record_of(images)
    if not record.is_file():
        return row
    lineage(record, records)
    row["set_sha256"] = records[record]["files"].get(images.name, "")
    blocks = [
        records[source]
        for name in records[record]["inputs"]
        for source in records_for(manifest.parent / name)
        if source in records
    ]
    return row | _made_with(blocks)


def _made_with(blocks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the sampling jobs of a set used; several where they differ."""

    def versions(*names: str) -> str:
        return _joined(b["versions"].get(name) for b in blocks for name in names)

    weights = {
        f"{Path(name).parent.name}/{Path(name).name} {digest}"
        for block in blocks
        for name, digest in block["inputs"].items()
        if Path(name).parent.name in _WEIGHTS and name.endswith(".safetensors")
    }
    return {
        "weights_sha256": "; ".join(sorted(weights)),
        "mgd3": versions("mgd3"),
        "commit": _joined(block["revision"] for block in blocks),
        **{name: versions(name) for name in ("python", "torch", "diffusers")},
        "faiss": versions(*_FAISS),
        "device": _joined(block["device"] for block in blocks),
    }


def _joined(values: Any) -> str:
    return ", ".join(sorted({str(value) for value in values if value}))


def _fetched_from(generator: str | None) -> str:
    """Repositories of the Hub and their revisions."""
    if generator is None:
        return ""
    try:
        return ", ".join(f"{h.repository}@{h.revision}" for h in get_generator(generator).hub)
    except UserError:  # a folder that has gone since
        return ""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows by data set and IPC, hashes cut to 12 digits, and the versions once."""
    out = ["# Settings, hashes and versions", ""]
    places = list(dict.fromkeys((row.get("dataset"), row.get("ipc")) for row in rows))
    for dataset, ipc in places:
        own = [row for row in rows if (row.get("dataset"), row.get("ipc")) == (dataset, ipc)]
        out += [f"## {dataset}, {ipc} per class" if dataset else "## Without a distilled set", ""]
        out += [
            "| method | seed | set | generator | weights | settings |",
            "|---|--:|---|---|---|---|",
        ]
        for row in own:
            cells = [
                row["label"],
                row.get("generation_seed", ""),
                f"`{row['set_sha256'][:_SHOWN]}`" if row.get("set_sha256") else "",
                row["generator"],
                _short(row.get("weights_sha256", "")),
                f"`{row['settings']}`",
            ]
            out.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        out.append("")
    out += ["Hashes are SHA-256, their first 12 digits; whole ones are in the CSV.", ""]
    for name in (
        "fetched_from",
        "mgd3",
        "commit",
        "python",
        "torch",
        "diffusers",
        "faiss",
        "device",
    ):
        if found := _joined(row.get(name) for row in rows):
            out.append(f"* {name.replace('_', ' ')}: {found}")
    return "\n".join(out) + "\n"


def _short(weights: str) -> str:
    parts = [part.split(" ") for part in weights.split("; ") if part]
    return ", ".join(f"{name.split('/')[0]} `{digest[:_SHOWN]}`" for name, digest in parts)
