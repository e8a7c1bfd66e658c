"""`mgd3 STAGE ...`: the command line, built from the contracts; one door for errors."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .base import process
from .base.device import out_of_memory
from .base.errors import UserError, did_you_mean, explained
from .stages import CONTRACTS
from .stages.contract import Contract, Field, Job


class _Parser(argparse.ArgumentParser):
    """Tells mistakes as this program does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}", f"see `{self.prog} --help`")


def _overview() -> str:
    width = max(map(len, CONTRACTS))
    return "\n".join(
        [
            "usage: mgd3 [--help] [--version] STAGE ...",
            "",
            "Dataset distillation with mode-guided diffusion, stage by stage.",
            "`mgd3 STAGE --help` tells what a stage takes:",
            "",
            *(f"  {name:<{width}}  {contract.doc}" for name, contract in CONTRACTS.items()),
        ]
    )


def _add(parser: argparse.ArgumentParser, field: Field, helping: bool) -> None:
    kind = field.kind
    known = kind.choices() if helping else ()
    told = [field.help, f"one of {', '.join(known)}" if known else ""]
    if field.default not in (None, False):
        told.append(f"default: {field.default}")
    options: dict[str, Any] = {"help": "; ".join(filter(None, told)).replace("%", "%%")}
    if kind.flag:
        options |= {"action": "store_true"}
    else:
        options |= {"metavar": kind.shows, "nargs": "+" if kind.many else None}
    if not field.positional:
        options["required"] = field.required
    parser.add_argument(field.flag, **options)


def parse(stage: str, texts: Sequence[str]) -> Contract:
    """A stage with the values that the command line gives it.

    Raises:
        UserError: an unknown stage or argument, a missing argument, a value that is not taken.
    """
    if stage not in CONTRACTS:
        raise UserError(f"unknown stage {stage[:80]!r}", did_you_mean(stage, CONTRACTS))
    contract = CONTRACTS[stage]
    parser = _Parser(prog=f"mgd3 {stage}", description=contract.__doc__, allow_abbrev=False)
    fields = contract.fields()
    for field in fields:
        _add(parser, field, helping=bool({"-h", "--help"} & {*texts}))
    given = vars(parser.parse_args(texts))
    held = ((field, given[field.name]) for field in fields)
    return contract(**{f.name: f.read(texts) for f, texts in held if texts is not None})


def _recorded(stage: Contract) -> AbstractContextManager[Any]:
    """The record of what a job makes, as a context to run it in."""
    from .base import records

    if not isinstance(stage, Job) or (record := stage.record_path()) is None:
        return nullcontext()
    return records.recorded(
        record,
        stage.stage,
        settings=json.loads(json.dumps(stage.recorded_settings(), default=str)),
        inputs=stage.files_read(),
        outputs=stage.files_written(),
        more=stage.more(),
    )


def run(stage: Contract) -> int:
    """Check what a stage names, and do its work; the exit status."""
    from .base.device import claim_gpu, keep_freed_memory, prepare

    job = stage if isinstance(stage, Job) else None
    prepare(getattr(stage, "threads", None), online=job is not None and job.online)
    stage.check()
    if getattr(stage, stage.device_field() or "", None) in ("auto", "cuda"):
        claim_gpu()
    if job is not None and job.keeps_freed_memory:
        keep_freed_memory()
    with _recorded(stage) as made:
        if job is None:
            return stage.run() or 0
        from .base.artifacts import making, save_folder_header

        job.made, folder = made, job.headed_folder()
        # Its identity holds all versions; a job that is not told it has at least its stage's.
        own = job.identity.digest if job.identity else f"{job.stage}, version {job.version}"
        with making(None if folder else job.identity, own):
            status = job.run() or 0
        if job.identity and job.reads_images:
            from .stages.unchanged import require_planned_images

            require_planned_images(job)
        if folder and job.identity:
            save_folder_header(folder, job.identity)
        return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage. A mistake that the user can mend is one message and exit status 2; what is left
    is a bug, one line and exit status 1."""
    texts = list(sys.argv[1:] if argv is None else argv)
    if not texts or texts[0] in ("-h", "--help", "--version"):
        print(__version__ if texts[:1] == ["--version"] else _overview())
        return 0 if texts else 2
    try:
        return run(parse(texts[0], texts[1:]))
    except Exception as error:
        mended = explained(error) or out_of_memory(error, texts[0])
        if mended is None:
            print(f"bug in {texts[0]}, traceback in {_kept_traceback(texts)}", file=sys.stderr)
            return 1
        print(f"error: {mended}", file=sys.stderr)
        return 2


def _kept_traceback(texts: Sequence[str]) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"mgd3-{texts[0]}-", suffix=".txt", delete=False, errors="backslashreplace"
    ) as file:
        print("mgd3", *map(repr, texts), file=file)
        traceback.print_exc(file=file)
    return Path(file.name)


def console() -> NoReturn:
    """The command `mgd3`: `main`, in a process of its own."""
    process.run(main)


if __name__ == "__main__":
    console()
