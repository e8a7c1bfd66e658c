"""A job that reads images of the user's refuses a folder that changed since the run was planned."""

from __future__ import annotations

from typing import Any


def require_planned_images(job: Any) -> None:
    """Compare the images of a job that has read them with those that its plan knew.

    For `job`, of a stage with a data set, that is told what it makes; the images of a stage that
    reads an index are those of the index.

    Raises:
        UserError: they changed.
    """
    from ..base import headers
    from ..data import make_dataset
    from ..data.fingerprint import require_unchanged

    index = getattr(job, "index", None)
    of = job.identity if index is None else headers.identity_of(index)
    if of is not None:
        # Of the whole data set, or of the classes of a block.
        names = getattr(job, "classes", None) if index is None else None
        source = make_dataset(job.dataset).source
        require_unchanged(source, of.description["inputs"]["images"], names)
