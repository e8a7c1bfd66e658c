"""Files that are either whole or absent: safetensors, Parquet and JSON with metadata.

Every file is written under a temporary name beside its target and renamed when complete, so a
process killed at any moment leaves nothing that looks finished. A file that is saved with an
identity says what it is, and whether it is sound: see `headers`. Readers that are told what to
expect refuse anything else.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import headers
from .errors import UserError, explained, require_file
from .headers import damaged as _damaged
from .headers import sha256_of as sha256_of
from .identity import Identity
from .shapes import misfit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

SCHEMA_VERSION = 1
_METADATA_KEY = "mgd3"


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` on success.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        discard_leftovers(path)
        mode = new_file_mode(temporary)
        yield temporary
        with temporary.open("rb") as file:
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        require_replaceable(path)
        temporary.replace(path)
    except Exception as error:
        _discard(temporary)
        if (mended := _disk_error(error, path)) is not None:
            raise mended from error
        raise
    except BaseException:
        _discard(temporary)
        raise


def require_replaceable(path: Path) -> None:
    """Raise UserError unless nothing stands at `path`, or a regular file, or a link to one.

    A folder, a pipe, a socket or a device is not ours to replace, nor a link that leads to one.
    """
    try:
        mode = path.stat().st_mode if path.exists() else stat.S_IFREG
        ours = stat.S_ISREG(mode) and not _of_the_system(path)
    except (OSError, ValueError) as error:
        known = explained(error) or UserError("it is no path", "name another file")
        raise UserError(f"cannot write {str(path)[:200]}: {known.what}", known.mend) from error
    if not ours:
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise UserError(f"cannot write {path}: {kind} stands there", "name another file")


def _of_the_system(path: Path) -> bool:
    """Whether a path lies where names stand for devices and processes, such as /dev/stdout."""
    found = (path.absolute().parts, Path(os.path.realpath(path)).parts)
    return any(p[1:2] in (("dev",), ("proc",), ("sys",)) and p[2:3] != ("shm",) for p in found)


@contextmanager
def named_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk inside the block into a UserError that names `path`."""
    try:
        yield
    except Exception as error:  # safetensors has one of its own
        if (mended := _disk_error(error, path)) is not None:
            raise mended from error
        raise


def temporary_beside(path: Path) -> Path:
    """The name under which this process writes `path` until it is whole."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def discard_leftovers(path: Path) -> None:
    """Delete what processes of this machine that were killed left of their writing of `path`."""
    begin, end = f".{path.name}.{_host()}-", ".tmp"
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(begin) and e.name.endswith(end)]
    for name in names:
        number = name[len(begin) : -len(end)]
        if number.isdecimal() and not _is_running(int(number)):
            leftover = path.with_name(name)
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                _discard(leftover)


def _host() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def new_file_mode(path: Path) -> int:
    """The mode that `open` gives a new file at `path`, which safetensors narrows to 0600.

    Found by making one: the umask cannot be read without setting it, which other threads would see.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def _discard(path: Path) -> None:
    # The folder may be the very thing that cannot be written: the first error is the one to show.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _disk_error(error: Exception, path: Path) -> UserError | None:
    # safetensors reports an OS error only inside its message.
    number, text = getattr(error, "errno", None), str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return UserError(
            f"the disk is full: cannot write {path}",
            "free some space, or move `cache_dir` to a larger disk, and run the command again",
        )
    denied = number in (errno.EACCES, errno.EPERM, errno.EROFS)
    # A file stands where a folder should be.
    denied |= number in (errno.ENOTDIR, errno.EEXIST)
    if denied or "Permission denied" in text or "Read-only file system" in text:
        return UserError(
            f"cannot write {path}: {error}",
            "make the folder writable, or run from a folder that is",
        )
    if (known := explained(error)) is None or isinstance(error, UserError):
        return None
    return UserError(f"cannot write {path}: {known.what}", known.mend)


def _require(path: str | Path, kind: str, expecting: Identity | str | None = None) -> Path:
    found = require_file(path, kind)
    if expecting is not None:
        headers.check(found, expecting)
    return found


# What the job that is running makes, and what tells it from others.
_MAKING: ContextVar[Identity | None] = ContextVar("making", default=None)
_JOB: ContextVar[str] = ContextVar("job", default="")


@contextmanager
def making(identity: Identity | None, job: str = "") -> Iterator[None]:
    """Artefacts that are saved inside the block have this identity where they are given none.

    Args:
        job: what tells the job from others: unfinished work of another is not gone on with.
    """
    tokens = _MAKING.set(identity), _JOB.set(job)
    try:
        yield
    finally:
        _MAKING.reset(tokens[0])
        _JOB.reset(tokens[1])


def running_job() -> str:
    """What tells the job that is running from others; "" outside of one."""
    return _JOB.get()


def _header(metadata: Mapping[str, Any], identity: Identity | None) -> dict[str, Any]:
    own = headers.header_of(identity) if identity else {}
    return {"schema": SCHEMA_VERSION, **own, **metadata}


def save_tensors(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any],
    identity: Identity | None = None,
) -> None:
    """Write a safetensors file. `metadata` is any JSON value; the schema version is added."""
    from safetensors.torch import save_file

    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    _write_tensors(path, save_file, contiguous, metadata, identity)


def save_arrays(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    identity: Identity | None = None,
) -> None:
    """Write the bytes that `save_tensors` writes for the same values, without importing torch."""
    import numpy as np
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _write_tensors(path, save_file, contiguous, metadata, identity)


def _write_tensors(
    path: str | Path,
    save_file: Callable[..., None],
    tensors: Mapping[str, Any],
    metadata: Mapping[str, Any],
    identity: Identity | None,
) -> None:
    identity = identity or _MAKING.get()
    header = {_METADATA_KEY: json.dumps(_header(metadata, identity))}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        if identity:
            headers.close_seal(temporary)


@contextmanager
def _opened(path: str | Path, framework: str = "numpy") -> Iterator[Any]:
    """A safetensors file; tensors are read from it as those of `framework`, which is imported."""
    from safetensors import SafetensorError, safe_open

    require_file(path, "tensor file")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise _damaged(path, error) from error


def load_tensors(
    path: str | Path,
    names: Iterable[str] | None = None,
    expecting: Identity | str | None = None,
) -> dict[str, torch.Tensor]:
    """Read named tensors (all by default) from a safetensors file, onto the CPU.

    Args:
        expecting: what the file must be; all of it is read to make sure.

    Raises:
        UserError: the file is missing, damaged, lacks one of `names`, or is not what is expected.
    """
    return _load(path, names, expecting, "pt")


def load_arrays(
    path: str | Path,
    names: Iterable[str] | None = None,
    expecting: Identity | str | None = None,
) -> dict[str, np.ndarray]:
    """`load_tensors` as NumPy arrays, without importing torch. There is no bfloat16 in NumPy.

    Raises:
        UserError: as `load_tensors`.
    """
    return _load(path, names, expecting, "numpy")


def _load(
    path: str | Path,
    names: Iterable[str] | None,
    expecting: Identity | str | None,
    framework: str,
) -> dict[str, Any]:
    _require(path, "tensor file", expecting)
    with _opened(path, framework) as file:
        wanted = list(file.keys()) if names is None else list(names)
        _require_entry(path, file, wanted)
        return {name: file.get_tensor(name) for name in wanted}


def _require_entry(path: str | Path, file: Any, names: list[str]) -> None:
    held = set(file.keys())
    if missing := [name for name in names if name not in held]:
        raise UserError(
            f"{path} has no entry for {missing[0]!r} ({len(missing)} missing)",
            "it was made for other classes or settings: delete it and run again",
        )


def tensor_shape(path: str | Path, name: str) -> tuple[int, ...]:
    """The shape of one tensor, read from the header. Raises UserError as `load_tensors`."""
    with _opened(path) as file:
        _require_entry(path, file, [name])
        return tuple(file.get_slice(name).get_shape())


def tensor_rows(path: str | Path, name: str, chunk: int) -> Iterator[np.ndarray]:
    """A tensor in pieces of `chunk` rows, as arrays, for one that is too large to hold.

    Raises:
        UserError: as `load_tensors`.
    """
    with _opened(path) as file:
        _require_entry(path, file, [name])
        rows = file.get_slice(name)
        count = rows.get_shape()[0]
        for start in range(0, count, chunk):
            yield rows[start : min(start + chunk, count)]


def tensor_metadata(path: str | Path, shape: Any = object) -> dict[str, Any]:
    """The metadata written by `save_tensors`.

    Args:
        shape: what they must hold: see `mgd3.base.shapes.misfit`.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    with _opened(path) as file:
        return _metadata(path, (file.metadata() or {}).get(_METADATA_KEY, "{}"), shape)


def _metadata(path: str | Path, text: str | bytes, shape: Any = object) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(value, dict):
        raise _damaged(path, "its metadata are no JSON object")
    if clause := misfit(value, shape):
        raise UserError(
            f"{path} is another file than is read here: it {clause}",
            "name the right file, or delete it and run the workflow again to remake it",
        )
    return value


def save_json(path: str | Path, value: Any, identity: Identity | None = None) -> None:
    """Write JSON. With an identity the header is the first entry of `value`, if it is an object."""
    identity = identity or _MAKING.get()
    if identity and isinstance(value, dict):
        value = {headers.KEY: headers.header_of(identity), **value}
    _write_json(path, value, sealed=isinstance(value, dict) and identity is not None)


def save_folder_header(folder: Path, identity: Identity) -> None:
    """Write `mgd3.json` into a folder whose files only work together, when all are there."""
    value = headers.folder_header(folder, identity)
    _write_json(folder / headers.FOLDER_HEADER, value, sealed=True)


def _write_json(path: str | Path, value: Any, sealed: bool) -> None:
    with atomic(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if sealed:
            headers.close_seal(temporary)


def load_json(
    path: str | Path, shape: Any = object, expecting: Identity | str | None = None
) -> Any:
    """What was saved, without its header.

    Args:
        shape: what it must be: see `mgd3.base.shapes.misfit`.

    Raises:
        UserError: the file is missing, not JSON, of another shape, or not what is expected.
    """
    try:
        value = json.loads(_require(path, "JSON file", expecting).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}", "delete it and run again") from error
    except OSError as error:
        raise explained(error) from error  # type: ignore[misc]
    own = value.get(headers.KEY) if isinstance(value, dict) else None
    if isinstance(own, dict) and headers.SEAL in own:
        del value[headers.KEY]
    if clause := misfit(value, shape):
        raise UserError(f"{path} is another file than is read here: it {clause}",
                        "delete it and run again, or name the right file")  # fmt: skip
    return value


def save_text(path: str | Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_table(
    path: str | Path,
    table: pd.DataFrame,
    metadata: Mapping[str, Any],
    identity: Identity | None = None,
) -> None:
    """Write a Parquet file with JSON metadata in its schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    own = _header(metadata, identity or _MAKING.get())
    # The schema is written twice, the second time encoded, and a seal must stand in one place.
    seal = own.pop(headers.SEAL, None)
    header = {_METADATA_KEY: json.dumps(own)}
    arrow = arrow.replace_schema_metadata({**arrow.schema.metadata, **header})
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, arrow.schema, write_page_checksum=True) as writer:
            writer.write_table(arrow)
            if seal:
                writer.add_key_value_metadata({f"{_METADATA_KEY}-{headers.SEAL}": seal})
        if seal:
            headers.close_seal(temporary)


def load_table(
    path: str | Path, columns: Iterable[str] = (), expecting: Identity | str | None = None
) -> pd.DataFrame:
    """The table of a Parquet file.

    Args:
        columns: that it must have.

    Raises:
        UserError: the file is missing or damaged, has not these columns, or is not what is
            expected.
    """
    import pyarrow.parquet as pq

    _require(path, "table", expecting)
    try:
        table = pq.read_table(path, page_checksum_verification=True).to_pandas()
    except Exception as error:  # of many kinds, whatever the damaged bytes lead to
        raise _damaged(path, error) from error
    if missing := [name for name in columns if name not in table]:
        raise UserError(
            f"{path} is another table than is read here: it has no column {missing[0]!r}",
            "name the right file, or delete it and run the workflow again to remake it",
        )
    return table


def table_metadata(path: str | Path, shape: Any = object) -> dict[str, Any]:
    """The metadata written by `save_table`. `shape` and errors as for `tensor_metadata`."""
    import pyarrow.parquet as pq

    require_file(path, "table")
    try:
        header = pq.read_schema(path).metadata or {}
    except Exception as error:  # as in `load_table`
        raise _damaged(path, error) from error
    return _metadata(path, header.get(_METADATA_KEY.encode(), b"{}"), shape)
