"""Stage `tables-page`: the Markdown tables of a report as one page for a browser.

Snakemake's report offers tables as downloads only; a page it shows.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from ..base.artifacts import save_text
from ..base.errors import UserError

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #1c1b19; --line: #d9d5cd; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16171a; --ink: #eceae6; --line: #3a3d44; }
}
body {
  margin: 0 auto; padding: 1rem clamp(0.75rem, 3vw, 2.5rem) 3rem; max-width: 100rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 0.95rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.4rem; margin: 2rem 0 0.5rem; } h2 { font-size: 1.1rem; margin: 1.5rem 0 0.5rem; }
p, ul { max-width: 60rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
:focus-visible { outline: 3px solid #2b7cd3; outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.85rem; overflow-wrap: normal; }
th, td { padding: 0.35rem 0.7rem; text-align: left; vertical-align: top; min-width: 4rem; }
tbody td { border-top: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
td:last-child code { display: inline-block; min-width: 24rem; }
"""


def tables_page(files: Sequence[Path], title: str, output: Path) -> None:
    """Write one HTML page of some Markdown files, in their order.

    It knows what our own tables hold: headings, tables, lists, paragraphs, code, escaped signs.

    Raises:
        UserError: a file is missing.
    """
    if missing := [path for path in files if not path.is_file()]:
        raise UserError(f"table not found: {missing[0]}", "run the stage that makes it")
    body = "\n".join(html(path.read_text(encoding="utf-8")) for path in files)
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    save_text(
        output,
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}: tables</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
""",
    )


def html(text: str) -> str:
    """Our Markdown as HTML; every sign of a name is text."""
    return "\n".join(_block(kind, lines) for kind, lines in _blocks(text))


def _kind(line: str) -> str:
    for kind, begin in (("heading", "#"), ("table", r"\|"), ("list", r"\* "), ("steps", r"\d+\. ")):
        if re.match(begin, line):
            return kind
    return "text"


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Lines that belong together, and what they are: a heading, a table, a list, a paragraph."""
    kind, block = "", []
    for line in [*text.splitlines(), ""]:
        own = _kind(line) if line.strip() else ""
        # An item of a list may go on in the next line.
        if own == "text" and kind in ("list", "steps"):
            own = kind
        if block and (own != kind or own == "heading"):
            yield kind, block
            block = []
        kind = own
        if own:
            block.append(line)


def _block(kind: str, lines: list[str]) -> str:
    if kind == "heading":
        marks, _, text = lines[0].partition(" ")
        return f"<h{len(marks)}>{_inline(text)}</h{len(marks)}>"
    if kind == "table":
        return _table(lines)
    if kind in ("list", "steps"):
        items = re.split(r"(?m)^(?:\*|\d+\.) ", "\n".join(lines))[1:]
        tag = "ul" if kind == "list" else "ol"
        return f"<{tag}>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</{tag}>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _table(lines: list[str]) -> str:
    head, rule, *rows = map(_cells, lines)
    right = [cell.endswith(":") for cell in rule]

    def row(cells: list[str], tag: str) -> str:
        kinds = [' class="number"' if number else "" for number in right]
        inner = (
            f"<{tag}{kind}>{_inline(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        )
        return f"<tr>{''.join(inner)}</tr>"

    return (
        '<div class="wide" role="region" aria-label="Table" tabindex="0"><table>'
        f"<thead>{row(head, 'th')}</thead>"
        f"<tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table></div>"
    )


def _cells(line: str) -> list[str]:
    """Of a row of a table; a bar that follows a backslash parts nothing."""
    return [cell.strip() for cell in re.findall(r"((?:\\.|[^\\|])*)\|", line.strip()[1:])]


def _inline(text: str) -> str:
    parts = re.split(r"((?<!\\)`[^`]*`)", text)
    found = []
    for k, part in enumerate(parts):
        if k % 2:
            found.append(f"<code>{escape(part[1:-1].replace(chr(92) + '|', '|'))}</code>")
        else:
            found.append(escape(re.sub(r"\\([\\|*_<`])", r"\1", part)))
    return "".join(found)
