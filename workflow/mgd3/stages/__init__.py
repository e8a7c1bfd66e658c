"""The contract of every job, one file a family, and the commands beside them.

Importable in milliseconds: the work is imported when it runs. `VERSIONS` is what rules pass as a
parameter, by stage with underscores.
"""

from __future__ import annotations

from importlib import import_module

from .contract import CONTRACTS, Job

__all__ = ["CONTRACTS", "JOBS", "VERSIONS"]

# In the order of the work, which is that of `mgd3 --help`.
for _family in ("data", "generators", "discovery", "methods", "teachers", "evaluation", "metrics",
                "reporting", "tuning", "commands"):  # fmt: skip
    import_module(f"{__name__}.{_family}")

JOBS: dict[str, type[Job]] = {n: c for n, c in CONTRACTS.items() if issubclass(c, Job)}
VERSIONS: dict[str, int] = {name.replace("-", "_"): job.version for name, job in JOBS.items()}
