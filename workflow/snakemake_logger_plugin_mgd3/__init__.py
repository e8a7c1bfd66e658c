"""`snakemake --logger mgd3`: a line for each finished job, and its log's notes; of a failed one the
end of its log."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# Wildcards that are bare numbers.
_WORDS = {"ipc": "ipc", "gen": "gen", "seed": "seed", "b": "block"}
# How a job's log begins a line that a person should see: mgd3.base.errors.NOTE.
_NOTES = ("note: ", "warning: ")
_TAIL = 8  # lines of a failed job's log
# What Snakemake says at level INFO, without an event, that a person waits for.
_SAID = ("Nothing to be done", "This was a dry-run", "Will exit after finishing")


class LogHandler(LogHandlerBase):
    """Writes to stderr. Snakemake's own log file has everything."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._jobs: dict[int, Any] = {}
        self._finished: list[str] = []
        self._started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for line in self.lines(record):
                print(line, file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)

    def lines(self, record: logging.LogRecord) -> list[str]:
        """What a record adds to the terminal."""
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                return [f"{record.stats['total']:,} jobs"] if "total" in record.stats else []
            case LogEvent.JOB_INFO:
                self._jobs[record.jobid] = record
            case LogEvent.JOB_FINISHED:
                job = self._jobs.pop(record.job_id, None)
                self._finished.append(self._title(job))
                return _notes(job.log if job is not None else [])
            case LogEvent.PROGRESS:
                return self._progress(record.done, record.total)
            case LogEvent.JOB_ERROR:
                job = self._title(self._jobs.get(record.jobid))
                return [f"FAILED  {job}", *_tails(record.log)]
            case LogEvent.GROUP_ERROR:
                logs = [file for info in record.job_error_info for file in info["log"]]
                return [f"FAILED  group {record.groupid}", *_tails([*record.aux_logs, *logs])]
            case None | LogEvent.ERROR:
                text = record.getMessage()
                # One word about the folder's own profile is said at each start.
                if record.levelno >= logging.ERROR or text.startswith(_SAID):
                    return [text]
                if record.levelno >= logging.WARNING and not text.startswith("Using workflow"):
                    return [text]
        return []

    def _progress(self, done: int, total: int) -> list[str]:
        seconds = int(time.monotonic() - self._started)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        lines = [
            f"{done:>{len(str(total))}} of {total}  {clock}  {name}" for name in self._finished
        ]
        self._finished = []
        return lines

    @staticmethod
    def _title(record: Any) -> str:
        """Rule and wildcards of a job, for instance `evaluate  mnist random ipc10 gen0`."""
        if record is None:
            return "a job"
        values = [
            f"{_WORDS[key]}{value}" if key in _WORDS else str(value)
            for key, value in record.wildcards.items()
            if str(value)
        ]
        return "  ".join([record.rule_name, " ".join(values)]).rstrip()


def _notes(logs: list[str]) -> list[str]:
    """Lines of a finished job's log that are meant for the terminal, too."""
    texts = (Path(log).read_text(errors="replace") for log in logs if Path(log).is_file())
    return [line for text in texts for line in text.splitlines() if line.startswith(_NOTES)]


def _tails(logs: list[str]) -> list[str]:
    lines = []
    for log in map(Path, logs):
        text = log.read_text(errors="replace") if log.is_file() else ""
        lines += [f"    its log {log} ends:", *(f"    | {line}" for line in _last(text))]
    return lines


def _last(text: str) -> list[str]:
    # A progress bar rewrites its line: what was seen last counts.
    return [line.rsplit("\r", 1)[-1] for line in text.rstrip().split("\n")][-_TAIL:]
