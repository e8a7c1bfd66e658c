"""Stage `cost`: what each row of the table took, added up from the records of its stages.

Seconds are those of the jobs that succeeded, with loading; attempts that were killed are not in
them. Memory is the GPU's where there was one, else the process's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.artifacts import save_text
from ..base.records import lineage, record_of
from ..base.tables import read_csv
from .tables.scores import load_scores

# Stages in the order of the work, and what a run pays them for.
_ONCE, _EACH, _JUDGED = "prepare", "distil", "evaluate"
STAGES = {
    "index": _ONCE,
    "fetch-generator": _ONCE,
    "train-vae": _ONCE,
    "train-generator": _ONCE,
    "finetune-generator": _ONCE,
    "latents": _ONCE,
    "modes": _EACH,
    "sample": _EACH,
    "collect": _EACH,
    "pixels": _JUDGED,
    "train-teacher": _JUDGED,
    "fetch-teacher": _JUDGED,
    "relabel": _JUDGED,
    "evaluate": _JUDGED,
}
# What methods on one generator find ready, so that their times do not differ by it.
MADE_ANYWAY = ("index", "fetch-generator", "train-vae", "train-generator")
COLUMNS = ["dataset", "ipc", "run", "label", "stage", "part", "jobs", "seconds", "device",
           "peak_memory_gb", "sets", "images"]  # fmt: skip


def load_costs(path: Path) -> pd.DataFrame:
    """The table that `cost` wrote. Raises UserError as `read_csv`."""
    return read_csv(
        path,
        text=["dataset", "run", "label", "stage", "part", "device"],
        numbers=["ipc", "jobs", "seconds", "peak_memory_gb", "sets", "images"],
        mend="give what `mgd3 cost` wrote",
    )


def cost(runs: Sequence[Mapping[str, Any]], scores: Sequence[Path], output: Path) -> None:
    """Write a CSV with one row per data set, IPC, run and stage, and a Markdown summary beside it.

    Work that several rows share (a generator, latents) is in each of them.

    Args:
        runs: the rows in order, each {"run": slug, "label", ...}.
        scores: the scores of all runs; those of other runs are left out.

    Raises:
        UserError: a score or a record cannot be read.
    """
    table = load_scores(scores)
    rows = []
    for run in runs:
        chosen = table[table["run"] == run["run"]]
        for (dataset, ipc), group in chosen.groupby(["dataset", "ipc"], sort=False):
            sets = group["generation_seed"].nunique()
            images = int(group.drop_duplicates("generation_seed")["n_train"].sum())
            named = {"dataset": dataset, "ipc": ipc, "run": run["run"], "label": run["label"]}
            for (stage, part), records in _by_stage(group["path"]).items():
                rows.append(
                    {
                        **named,
                        "stage": stage,
                        "part": part,
                        "jobs": len(records),
                        "seconds": sum(r["seconds"] for r in records),
                        "device": ", ".join(sorted({r["device"] for r in records})),
                        "peak_memory_gb": max(r["peak_memory_bytes"] for r in records) / 1e9,
                        "sets": sets,
                        "images": images,
                    }
                )
    found = pd.DataFrame(rows, columns=COLUMNS)
    save_text(output, found.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    save_text(output.with_suffix(".md"), markdown(found))


def _by_stage(scores: Sequence[Path]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Records by stage and by what they are paid for.

    A teacher and its images are part of the judging; one that the method needs, of its preparation.
    """
    records: dict[Path, dict[str, Any]] = {}
    for score in scores:
        if record_of(score).is_file():
            lineage(record_of(score), records)
    before: dict[Path, dict[str, Any]] = {}
    for path, record in records.items():
        if record["stage"] == "sample":
            lineage(path, before)
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for path, record in records.items():
        part = STAGES.get(record["stage"], _ONCE)
        if part == _JUDGED and path in before:
            part = _ONCE
        found[record["stage"], part].append(record)
    order = [*STAGES, *sorted({stage for stage, _ in found} - set(STAGES))]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


def markdown(found: pd.DataFrame) -> str:
    """The paper's row "computational cost", for each run: seconds and memory."""
    out = ["# Computational cost", ""]
    if found.empty:
        return "\n".join([*out, "No records: these scores were made by an older version.", ""])
    for (dataset, ipc), block in found.groupby(["dataset", "ipc"], sort=False):
        out += [f"## {dataset}, {ipc} per class", ""]
        out += ["| method | device | prepare once (s) | distil one set (s) | per image (s) "
                "| peak memory (GB) | evaluate (s) |"]  # fmt: skip
        out += ["|---|---|--:|--:|--:|--:|--:|"]
        for _, rows in block.groupby("run", sort=False):
            seconds = rows.groupby("part")["seconds"].sum()
            distil = rows[rows["part"] == _EACH]
            first = rows.iloc[0]
            label = str(first["label"]).replace("|", "\\|")
            each = seconds.get(_EACH, 0.0)
            cells = [
                label,
                ", ".join(sorted(set(distil["device"]))),
                f"{seconds.get(_ONCE, 0.0):.1f}",
                f"{each / first['sets']:.1f}",
                f"{each / first['images']:.3f}",
                f"{distil['peak_memory_gb'].max():.2f}",
                f"{seconds.get(_JUDGED, 0.0):.1f}",
            ]
            out.append(f"| {' | '.join(cells)} |")
        out.append("")
    out += [
        "* prepare: index, generator, latents, the method's teacher; shared by all that need them.",
        "* distil: mode discovery, sampling and collection, loading included.",
        "* evaluate: all trainings of all sets, with test images and the protocol's teacher.",
        "* Attempts that were killed are not counted. On a GPU, memory is what torch allocated.",
    ]
    return "\n".join(out) + "\n"
