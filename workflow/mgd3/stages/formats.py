"""What the files that jobs read must be, seen from their headers before the work begins.

A file of another job is told at once, in one sentence; what is inside is the readers' to check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError, explained
from ..base.shapes import misfit, shortened
from .fields import InFile

_LONGEST_HEADER = 100_000_000


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: {tensor: {dtype, shape}}, and `__metadata__`."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _LONGEST_HEADER:
                raise ValueError("its header has no length")
            header = json.loads(file.read(length))
        if not isinstance(header, dict) or not all(isinstance(v, dict) for v in header.values()):
            raise ValueError("its header is none")
    except OSError as error:
        raise explained(error) from error  # type: ignore[misc]
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged, or no tensor file (safetensors)",
            "name the right file, or delete it and run again to remake it",
        ) from error
    return header


def tensors(
    made_by: str,
    metadata: Any,
    *,
    images: bool = False,
    entries: Sequence[str] = (),
    of_class: Mapping[str, tuple[str, int]] | None = None,
) -> Callable[[Path], None]:
    """A check of a safetensors file.

    Args:
        made_by: the stage that writes such files.
        metadata: the shape of its metadata.
        images: it holds `images` uint8 [N, 3, S, S] and `labels` [N].
        entries: further tensors that it holds.
        of_class: those that it holds of each of its classes: a name in which `{}` stands for the
            class, and the tensor's dtype and number of dimensions.
    """

    def check(path: Path) -> None:
        header = _header(path)
        try:
            held = json.loads(header.get("__metadata__", {}).get("mgd3", "{}"))
        except (ValueError, TypeError, RecursionError):
            held = {}
        clause = misfit(held, metadata)
        for name in (*entries, *(("images", "labels") if images else ())):
            if clause is None and name not in header:
                clause = f"has no {name!r}"
        if clause is None and images:
            clause = _no_images(header)
        for form, (dtype, dims) in (of_class or {}).items():
            for name in held["classes"] if clause is None else ():
                clause = clause or _unlike(header, form.format(name), dtype, dims)
        _require(path, clause, made_by)

    return check


def _unlike(header: dict[str, Any], name: str, dtype: str, dims: int) -> str | None:
    if not isinstance(found := header.get(name), dict):
        return f"has no {shortened(name)}"
    shape = found.get("shape")
    if found.get("dtype") != dtype or not isinstance(shape, list) or len(shape) != dims:
        return f"holds {shortened(name)} as {found.get('dtype')} {shape}"
    return None


def _no_images(header: dict[str, Any]) -> str | None:
    shape, labels = (header[name].get("shape") for name in ("images", "labels"))
    dtype = header["images"].get("dtype")
    if dtype != "U8" or not isinstance(shape, list) or len(shape) != 4 or shape[1] not in (1, 3):
        return f"holds images {dtype} {shape}, not uint8 [N, 3, S, S]"
    if header["labels"].get("dtype") not in ("I64", "I32", "I16", "U8") or labels != shape[:1]:
        return f"holds {shape[0]} images and labels {labels}"
    return "holds no image" if not shape[0] else None


def table(made_by: str, columns: Sequence[str], metadata: Any) -> Callable[[Path], None]:
    """A check of a Parquet file: its columns, and the shape of its metadata."""

    def check(path: Path) -> None:
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(path)
        except OSError as error:
            if error.errno is not None:
                raise explained(error) from error  # type: ignore[misc]
            schema = None
        except Exception:  # of many kinds, whatever the bytes lead to
            schema = None
        if schema is None:
            raise UserError(
                f"{path} is damaged, or no table (Parquet)",
                "name the right file, or delete it and run again to remake it",
            )
        absent = [name for name in columns if name not in schema.names]
        clause = f"has no column {absent[0]!r}" if absent else None
        if clause is None:
            try:
                held = json.loads((schema.metadata or {}).get(b"mgd3", b"{}"))
            except (ValueError, RecursionError):
                held = {}
            clause = misfit(held, metadata)
        _require(path, clause, made_by)

    return check


def json_of(made_by: str, shape: Any) -> Callable[[Path], None]:
    """A check of a JSON file: its shape."""

    def check(path: Path) -> None:
        from ..base import artifacts

        _require(path, misfit(artifacts.load_json(path), shape), made_by)

    return check


def _require(path: Path, clause: str | None, made_by: str) -> None:
    if clause is not None:
        raise UserError(
            f"{path} {clause}",
            f"give what `mgd3 {made_by}` wrote, or delete it and run again to remake it",
        )


_NAMED = {"classes": [str]}
_INDEX = table("index", ("class", "split", "image", "bytes"), _NAMED)
# A latent of each mode or image; pixels of each.
_Z, _PIXELS = ("F32", 4), ("U8", 4)


def _latents(path: Path) -> None:
    of_class = {"mean/{}": _Z, "logvar/{}": _Z}
    tensors("latents", {**_NAMED, "images": dict, "undecodable": dict}, of_class=of_class)(path)
    header = _header(path)
    held = json.loads(header["__metadata__"]["mgd3"])
    for name in held["classes"]:
        listed = held["images"].get(name), held["undecodable"].get(name)
        clause = misfit(listed[0], [str], "list of images") or misfit(listed[1], [str], "list")
        if clause is None and header[f"mean/{name}"]["shape"][0] != len(listed[0]):
            clause = "is of another number of images than its latents"
        _require(path, clause and f"holds class {shortened(name)}, whose {clause}", "latents")


_MEASURED = table(
    "measure",
    ("run", "class", "k", "space", "diversity", "representativeness", "originals"),
    {**_NAMED, "of": {"dataset": str, "ipc": int, "generation_seed": int}, "not_judged": dict},
)
_POINTS = table("measure", ("run", "class", "k", "x", "y"), {**_NAMED, "runs": [str]})
_SET = tensors("collect", _NAMED, images=True)
_TRIAL = {**_NAMED, "rung": int, "slot": int, "trial": int, "point": dict,
          "generation_seed": int}  # fmt: skip
_RUNG = {"rung": int, "settings": [{"trial": int, "point": dict}]}
_BLOCK = {**_NAMED, "method": str, "settings": dict, "generation_seed": int}
_EXHIBIT = {
    **_NAMED, "of": {"dataset": str, "ipc": int, "generation_seed": int}, "runs": [str],
    "known": int, "held": int, "side": int,
}  # fmt: skip
_LABELS = {
    "epochs": [int], "bytes": int, "settings": dict, "images": str, "generation_seed": int,
    "teacher": list,
}  # fmt: skip

Index = Annotated[Path, InFile(_INDEX)]
Latents = Annotated[list[Path], InFile(_latents, many=True)]
Modes = Annotated[Path, InFile(tensors("modes", {**_NAMED, "images": dict}, of_class={"{}": _Z}))]
Blocks = Annotated[
    list[Path], InFile(tensors("sample", _BLOCK, of_class={"{}": _PIXELS}), many=True)
]
ImageSet = Annotated[Path, InFile(_SET)]
ImageSets = Annotated[list[Path], InFile(_SET, many=True)]
Collected = Annotated[Path, InFile(tensors("collect", {**_BLOCK, "blocks": dict}, images=True))]
Manifest = Annotated[
    Path, InFile(table("collect", ("row", "class", "label", "k"), {**_NAMED, "blocks": dict}))
]
Manifests = Annotated[list[Path], InFile(table("collect", ("label", "k"), _NAMED), many=True)]
Trial = Annotated[Path, InFile(tensors("tune-sample", _TRIAL, images=True))]
Labels = Annotated[list[Path], InFile(tensors("relabel", _LABELS, entries=["logits"]), many=True)]
Embedded = Annotated[list[Path], InFile(tensors("embed", _NAMED, of_class={"{}": _Z}), many=True)]
_JUDGED = tensors("judge", {**_NAMED, "teacher": {"name": str, "accuracy": dict}},
                  of_class={"features/{}": ("F32", 2), "agrees/{}": ("BOOL", 1),
                            "log_probability/{}": ("F32", 1)})  # fmt: skip
Judged = Annotated[list[Path], InFile(_JUDGED, many=True)]
JudgedOriginals = Annotated[
    Path,
    InFile(
        tensors("judge-originals", _NAMED, of_class={"train/{}": ("F32", 2), "test/{}": ("F32", 2)})
    ),
]
Measured = Annotated[Path, InFile(_MEASURED)]
ManyMeasured = Annotated[list[Path], InFile(_MEASURED, many=True)]
Points = Annotated[Path, InFile(_POINTS)]
Recorded = Annotated[
    list[Path],
    InFile(
        tensors(
            "trajectory",
            {**_NAMED, "steps": [int], "guided": [bool]},
            of_class={"x0/{}": _PIXELS, "image/{}": ("U8", 3)},
        ),
        many=True,
    ),
]
Exhibits = Annotated[list[Path], InFile(tensors("exhibit", _EXHIBIT), many=True)]
Rung = Annotated[Path, InFile(json_of("tune-rung", _RUNG))]
# Their readers say what is wrong with these.
AnyFile = Annotated[Path, InFile()]
AnyFiles = Annotated[list[Path], InFile(many=True)]
