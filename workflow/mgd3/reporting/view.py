"""Which of the reports of one name is shown: `results/reports/{name}/tables` points to it."""

from __future__ import annotations

from pathlib import Path

from ..base.artifacts import save_text, temporary_beside
from ..base.errors import UserError

# What a folder of reports holds for people; not all of it is always made.
SHOWN = ("tables", "figures", "metrics", "tuning", "gallery", "gallery.html")
_MARK = ".shown"


def show(report: Path, mark: Path) -> None:
    """Point the links beside a folder of reports to what it holds, or will hold.

    Runs before the reports are made: where one cannot be made, nobody takes another
    configuration's for it.

    Args:
        report: the folder, `results/reports/{name}/~{identity}`.
        mark: written when the links point here; the marks of others beside it go.

    Raises:
        UserError: something that is no link of ours lies where a link belongs.
    """
    folder = report.parent
    for name in SHOWN:
        link = folder / name
        if link.exists() and not link.is_symlink():
            raise UserError(
                f"{link} lies where a link to {report.name}/{name} belongs",
                "move it away: the workflow keeps each configuration's reports in a folder of "
                "their own",
            )
        if "." not in name:
            (report / name).mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(link)
        temporary.symlink_to(f"{report.name}/{name}")
        temporary.replace(link)
    others = [other for other in folder.glob(f"{_MARK}~*") if other != mark]
    for other in others:
        other.unlink()
    if others:
        was = ", ".join(other.name.removeprefix(_MARK) for other in others)
        print(f"{folder} shows {report.name} now; {was}, of another configuration of that name, "
              "stays beside it")  # fmt: skip
    save_text(mark, "")
