"""Results for people: Markdown, LaTeX and a terminal, from the same blocks of text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from ...data.splits import ipc_text
from ..knowledge import legend, more
from ..sizes import size_note
from ..statistics import LEVEL, REPLICATES
from .paper import ON_ANOTHER
from .results import CONTROL

NONE = "n/a"
ABSENT = "–"
# Of a row that is the highest of its place, or cannot be told from it.
HIGHEST = "°"
_WIDTH = 120
# Columns of text, which are set to the left: data set, method, what it knows.
_TEXTS = {0, 2, 3}
_COLUMNS = (
    *("n", "labels", "best", "paper", "best − paper", "reported", "last", "σ sets/trainings"),
    *("selected", "over random (last)", "gain (last)"),
)
# What a terminal leaves out where the table is too wide for it.
_WIDE = "over random (last)"
# Where nothing is held of these, they would be columns of dashes.
_PRINTED = {
    "labels": "label_bytes",
    # Where no row has several sets and several trainings of each, the two are not told apart.
    "σ sets/trainings": "variance_last_generation",
    "paper": "paper_printed",
    "best − paper": "difference_paper",
    "reported": "reported_printed",
    "over random (last)": "gain_random",
    "gain (last)": "reference",
}


@dataclass
class Block:
    """One protocol's table: leading columns, then groups of columns, one per network."""

    protocol: str
    networks: list[str]
    lead: list[str]
    groups: list[list[str]]
    rows: list[list[str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # rows at which a data set or IPC begins

    @property
    def header(self) -> list[str]:
        several = len(self.networks) > 1
        names = [
            f"{network} {column}" if several else column
            for network, columns in zip(self.networks, self.groups, strict=True)
            for column in columns
        ]
        return [*self.lead, *names]


def _missing(value) -> bool:
    return value is None or bool(pd.isna(value))


def spread(mean, std) -> str:
    """`91.2 ± 0.4`; the std of a single value is n/a, not 0."""
    if _missing(mean):
        return NONE
    return f"{mean:.1f} ± {NONE if _missing(std) else format(std, '.1f')}"


def gain(row: pd.Series, figure: str = "last") -> str:
    """`+1.20 [+0.35, +2.04] *`, the star when the adjusted p-value says that it is not 0."""
    mean, low, high = (row[f"gain_{figure}{s}"] for s in ("", "_low", "_high"))
    if figure != CONTROL and row.reference == row.run:
        return "reference"
    if _missing(mean):
        return NONE
    adjusted = row[f"gain_{figure}_holm"]
    star = " *" if not _missing(adjusted) and adjusted < 1 - LEVEL else ""
    pairs = row[f"gain_{figure}_n"]
    fewer = f" (n = {int(pairs)})" if pairs != row.n else ""
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]{star}{fewer}"


def _seeds(row: pd.Series) -> str:
    if _missing(row.n):
        return ABSENT
    if _missing(row.n_trainings) or _missing(row.n_generations):
        return str(int(row.n))
    return f"{int(row.n_generations)}×{int(row.n_trainings)}"


def _label(row: pd.Series) -> str:
    return f"{row.label} †" if bool(row.deterministic) else str(row.label)


def _cells(row: pd.Series, columns: Sequence[str]) -> list[str]:
    text = {
        "n": _seeds(row),
        "paper": ABSENT if _missing(row.paper_printed) else str(row.paper_printed),
        "best − paper": ABSENT
        if _missing(row.difference_paper)
        else f"{row.difference_paper:+.1f}",
        "reported": ABSENT if _missing(row.reported_printed) else str(row.reported_printed),
        "labels": ABSENT if _missing(row.label_bytes) else byte_text(row.label_bytes),
        "σ sets/trainings": _components(row),
        "gain (last)": gain(row),
        "over random (last)": gain(row, CONTROL),
        **{f: spread(row[f"{f}_mean"], row[f"{f}_std"]) for f in ("last", "best", "selected")},
    }
    if row.like_highest is True or row.like_highest == 1:
        text["last"] += f" {HIGHEST}"
    return [text[c] for c in columns]


def byte_text(count: float) -> str:
    """`1.5 GB`, in powers of ten; whole bytes below a thousand."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _components(row: pd.Series) -> str:
    """Standard deviations between sets and between trainings: roots of the two variances."""
    sets, trainings = row.variance_last_generation, row.variance_last_training
    if _missing(trainings):
        return NONE
    between = NONE if _missing(sets) else f"{sets**0.5:.1f}"
    return f"{between}/{trainings**0.5:.1f}"


def _columns(held: pd.DataFrame) -> list[str]:
    return [c for c in _COLUMNS if c not in _PRINTED or held[_PRINTED[c]].notna().any()]


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(cells[i]) for cells in [header, *rows]) for i in range(len(header))]


def blocks(results: pd.DataFrame, width: int = _WIDTH) -> list[Block]:
    """Tables whose columns are networks, as many side by side as fit in `width` characters."""
    made = []
    for protocol in results.protocol.unique():
        held = results[results.protocol == protocol]
        block: Block | None = None
        for network in held.network.unique():
            if block is not None:
                wider = _block(held, protocol, [*block.networks, network])
                if sum(_widths(wider.header, wider.rows)) + 3 * len(wider.header) <= width:
                    block = made[-1] = wider
                    continue
            block = _block(held, protocol, [network])
            made.append(block)
    return made


def _block(held: pd.DataFrame, protocol: str, networks: list[str]) -> Block:
    held = held[held.network.isin(networks)]
    groups = [_columns(held[held.network == network]) for network in networks]
    block = Block(protocol, networks, ["data set", "IPC", "method", "knows"], groups)
    previous = None
    for keys in held[["dataset", "ipc", "run"]].drop_duplicates().itertuples(index=False):
        here = held[
            (held.dataset == keys.dataset) & (held.ipc == keys.ipc) & (held.run == keys.run)
        ]
        cells = [keys.dataset, ipc_text(keys.ipc), _label(here.iloc[0]), here.iloc[0].knows]
        for network, columns in zip(networks, groups, strict=True):
            match = here[here.network == network]
            cells += _cells(match.iloc[0], columns) if len(match) else [ABSENT] * len(columns)
        if previous != (keys.dataset, keys.ipc):
            block.starts.append(len(block.rows))
        previous = (keys.dataset, keys.ipc)
        block.rows.append(cells)
    return block


def notes(results: pd.DataFrame) -> list[str]:
    """What the figures are, in sentences. `code` is in backquotes."""
    ddof = "/".join(str(int(d)) for d in sorted(results.ddof.dropna().unique()))
    measured = sorted({int(n) for n in results.n.dropna()})
    said = [
        f"Accuracy on the test images in per cent, mean ± standard deviation (ddof {ddof}) over "
        "n = generation seeds × training seeds"
        + (f" (here {', '.join(map(str, measured))} trainings)" if measured else "")
        + f"; the deviation of a single training is {NONE}.",
        "`last`: after the last epoch; chooses nothing. `best`: the peak over the evaluations on "
        "the test images, as the field publishes it; it chooses on the test set and flatters every "
        "row. `selected`: the evaluation with the highest accuracy on a validation split of the "
        f"real training images; {NONE} where there is no such split.",
    ]
    said += _size_notes(results)
    said += _knowledge_notes(results)
    said += _tuning_notes(results)
    over, at_random = results.gain_last.notna(), results.gain_random.notna()
    gained = results[over | at_random]
    if len(gained):
        whom = {
            "the reference run (gain)": over,
            "the first row of real images drawn at random (over random)": at_random,
        }
        named = " and to ".join(who for who, held in whom.items() if held.any())
        said.append(
            f"Paired difference of `last` to {named}, in percentage points, with "
            "the same generation and training seeds and the same test images, and its "
            f"{LEVEL * 100:.0f} % interval: the wider of a two-way bootstrap over seed pairs and "
            f"test images ({REPLICATES:,} replicates) and Student's t over generation seeds. "
            f"* marks a difference that is not 0 at {100 - LEVEL * 100:.0f} % after Holm's "
            f"adjustment for {_comparisons(gained)}."
        )
        said.append(
            f"{HIGHEST} marks the highest `last` of each data set, IPC and network, and the rows "
            "that cannot be told from it (paired and adjusted likewise): none of these is the best."
        )
        seed_pairs = gained.gain_last_n.where(over[gained.index], gained.gain_random_n)
        if (seed_pairs == 1).any():
            said.append(
                "With one seed pair an interval speaks of the test images only: it says nothing "
                "about other seeds."
            )
    if over.any():
        names = dict(zip(results.run, results.label, strict=True))
        pairs = results[over][["label", "reference"]].drop_duplicates()
        rivals = list(pairs.reference.unique())
        if len(rivals) == 1:
            said.append(f"The reference is {names.get(rivals[0], rivals[0])} (`{rivals[0]}`).")
        else:
            for rival in rivals:
                of = ", ".join(dict.fromkeys(pairs[pairs.reference == rival].label))
                said.append(f"The reference of {of} is {names.get(rival, rival)} (`{rival}`).")
    if results.variance_last_generation.notna().any():
        said.append(
            "`σ sets/trainings`: standard deviation of `last` between the distilled sets of a "
            "method and between trainings on one set, from the two variance components (one-way "
            "random effects); a negative estimate is 0, and "
            f"{NONE} where there is one set only."
        )
    if results.label_bytes.notna().any():
        said.append(
            "`labels`: bytes of the stored soft labels, which come on top of the images: two for "
            "each class, image and epoch."
        )
    if results.deterministic.astype(bool).any():
        said.append("† The method draws nothing: one distilled set, trained on n times.")
    if results.paper_printed.notna().any():
        said.append(
            "`paper`: the published figure, to be put beside the measured `best`, where data set, "
            "IPC, protocol, network, method, generator, sampler and variant are the same; two "
            f"where the paper prints two (the difference is to the first); {ABSENT} where it "
            "prints none."
        )
    if any(ON_ANOTHER in str(text) for text in results.paper_printed.dropna()):
        said.append(
            f"{ON_ANOTHER} The published figure is of the method on StyleGAN-XL, which is none of "
            "the generators here: the rows differ in more than chance, and no difference is taken."
        )
    if results.reported_printed.notna().any():
        rerun = results[results.reported_printed.notna()]
        sources = dict.fromkeys(zip(rerun.reported_source, rerun.reported_note, strict=True))
        said.append(
            "`reported`: others' reruns of the method. "
            + " ".join(f"{source}: {note}." for source, note in sources)
        )
    if (results.network == "cross_mean").any():
        said.append(
            "`cross_mean`: mean over alexnet, vgg11, resnet18 and vit, of means and of standard "
            "deviations; `imagenet-a-e`: the same over ImageNet-A to E. The paper does not settle "
            "whether its own row is of the protocol `glad` or `hard-cross`: it stands beside both."
        )
    return said


def _size_notes(results: pd.DataFrame) -> list[str]:
    """One sentence for each data set and protocol that judges it at another size than its own."""
    places = results[results.image_size.notna()][["dataset", "image_size", "protocol"]]
    told = [
        size_note(dataset, int(size), protocol)
        for dataset, size, protocol in places.drop_duplicates().itertuples(index=False, name=None)
    ]
    return [f"{note[0].upper()}{note[1:]}." for note in told if note]


def _knowledge_notes(results: pd.DataFrame) -> list[str]:
    """What stands in the column `knows`, and which rows know more than what they are compared
    with: their gain may be that knowledge's."""
    said = [
        "`knows`: what generator, teacher, chooser and labels were trained on. "
        f"{legend(results.knows.dropna())}."
    ]
    known = dict(zip(results.run, results.knows, strict=True))
    at_random = results[results.method == CONTROL].run
    found: dict[tuple[str, str], list[str]] = {}
    for row in results.itertuples():
        rivals = [row.reference] if not _missing(row.reference) else []
        if not _missing(row.gain_random) and len(at_random):
            rivals.append(at_random.iloc[0])
        for rival in rivals:
            if beyond := more(row.knows, known.get(rival, row.knows)):
                labels = found.setdefault((rival, " and ".join(beyond)), [])
                labels += [row.label] if row.label not in labels else []
    for (rival, beyond), labels in found.items():
        said.append(
            f"More is known than by `{rival}`, and a gain may come of that, by "
            f"{', '.join(labels)}: {beyond}."
        )
    return said


def _tuning_notes(results: pd.DataFrame) -> list[str]:
    """How many settings each row's were chosen from, and whether all had as many."""
    rows = results.drop_duplicates("run")
    tuned, others = rows[rows.trials.notna()], rows[rows.trials.isna()]
    if tuned.empty:
        return ["No row was tuned: all have published or default settings."]
    counts = {label: int(n) for label, n in zip(tuned.label, tuned.trials, strict=True)}
    said = "Settings chosen on the validation split, of so many: "
    said += ", ".join(f"{label} {n}" for label, n in counts.items()) + "."
    if len({*counts.values()}) > 1:
        said += " They are not equally many: a row with more has had more luck to choose from."
    if len(others):
        said += f" Not tuned: {', '.join(dict.fromkeys(others.label))}."
    return [said]


def _comparisons(gained: pd.DataFrame) -> str:
    """How many comparisons a star is adjusted for."""
    counts = sorted({int(n) for f in ("last", CONTROL) for n in gained[f"gain_{f}_of"].dropna()})
    number = " or ".join(map(str, counts))
    return f"{number} comparison{'s' if counts != [1] else ''} with one reference"


def markdown(results: pd.DataFrame, title: str) -> str:
    """GitHub-flavoured Markdown, columns aligned in the source too."""
    out = [f"# {title}", ""]
    for block in blocks(results):
        out += [f"## {_heading(block)}", ""]
        header = [_escape_markdown(c) for c in block.header]
        rows = [[_escape_markdown(c) for c in row] for row in block.rows]
        widths = [max(3, w) for w in _widths(header, rows)]
        rules = ["-" * w if i in _TEXTS else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        lines = [_align(cells, widths, _TEXTS) for cells in [header, *rows]]
        lines.insert(1, rules)
        out += [f"| {' | '.join(cells)} |" for cells in lines] + [""]
    out += [f"* {_escape_stars(note)}" for note in notes(results)]
    return "\n".join(out) + "\n"


def _heading(block: Block) -> str:
    plural = "s" if len(block.networks) > 1 else ""
    return f"Protocol {block.protocol}, network{plural} {', '.join(block.networks)}"


def _escape_stars(text: str) -> str:
    return text.replace("*", "\\*")


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*_<`])", r"\\\1", text)


def _align(cells: Sequence[str], widths: Sequence[int], left: set[int]) -> list[str]:
    return [
        cell.ljust(w) if i in left else cell.rjust(w)
        for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
    ]


_TEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "_%&#$"},
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "λ": r"$\lambda$",
    "σ": r"$\sigma$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    HIGHEST: r"$^{\circ}$",
    "–": "--",
    "−": "$-$",
    "*": r"$^{*}$",
}


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it; backquoted words become typewriter."""
    escaped = "".join(_TEX.get(c, c) for c in text)
    return re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)


def _tex_number(text: str) -> str:
    # A sign that belongs to a number is set as a minus.
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", escape_latex(text))


def latex(results: pd.DataFrame, title: str) -> str:
    """A `table` per block; needs the packages booktabs and graphicx."""
    out = [
        "% Made by mgd3 tables. Needs \\usepackage{booktabs,graphicx}.",
        "% Text is UTF-8: the default of LaTeX since 2018.",
    ]
    for block in blocks(results):
        lead = len(block.lead)
        spans, rules, column = [" & " * (lead - 1)], [], lead + 1
        for network, columns in zip(block.networks, block.groups, strict=True):
            spans.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{escape_latex(network)}}}")
            rules.append(rf"\cmidrule(lr){{{column}-{column + len(columns) - 1}}}")
            column += len(columns)
        names = [*block.lead, *(c for columns in block.groups for c in columns)]
        out += [
            r"\begin{table}",
            r"\centering\footnotesize",
            rf"\caption{{{escape_latex(f'{title}. {_heading(block)}.')}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{lrll{'r' * (len(names) - lead)}}}",
            r"\toprule",
            " & ".join(spans) + r" \\",
            " ".join(rules),
            " & ".join(map(escape_latex, names)) + r" \\",
        ]
        for i, row in enumerate(block.rows):
            starts = i in block.starts
            out += [r"\midrule"] if starts else []
            cells = row if starts else ["", "", *row[2:]]
            out.append(" & ".join(map(_tex_number, cells)) + r" \\")
        out += [r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""]
    out += [rf"{{\footnotesize {escape_latex(note)}\par}}" for note in notes(results)]
    return "\n".join(out) + "\n"


def terminal(results: pd.DataFrame, width: int = 110) -> str:
    """Aligned plain text: one block per data set, protocol, network and IPC."""
    out, cut = [], False
    places = results[["dataset", "protocol", "network", "ipc"]].drop_duplicates()
    for dataset, protocol, network, ipc in places.itertuples(index=False, name=None):
        here = results[
            (results.dataset == dataset)
            & (results.protocol == protocol)
            & (results.network == network)
            & (results.ipc == ipc)
        ]
        columns = _columns(here)
        header, rows, widths = _terminal_table(here, columns)
        if sum(widths) + 2 * len(header) - 2 > width and _WIDE in columns:
            columns.remove(_WIDE)
            cut = True
            header, rows, widths = _terminal_table(here, columns)
        widths[0] -= max(0, sum(widths) + 2 * len(header) - 2 - width)
        widths[0] = max(widths[0], 12)
        shorten = [[_shorten(row[0], widths[0]), *row[1:]] for row in rows]
        images = here.n_test.iloc[0]
        tested = "" if _missing(images) else f" · {int(images):,} test images"
        out.append(f"{dataset} · {ipc_text(ipc)} per class · {protocol} · {network}{tested}")
        gain_column = len(header) - 1
        for cells in [header, ["-" * w for w in widths], *shorten]:
            out.append("  ".join(_align(cells, widths, {0, gain_column})).rstrip())
        out.append("")
    told = results.assign(gain_random=None) if cut else results
    out += _wrap([note.replace("`", "") for note in notes(told)], width)
    return "\n".join(out) + "\n"


def _terminal_table(
    here: pd.DataFrame, columns: Sequence[str]
) -> tuple[list[str], list[list[str]], list[int]]:
    header = ["method", "knows", *columns]
    rows = [[_label(row), row.knows, *_cells(row, columns)] for _, row in here.iterrows()]
    return header, rows, _widths(header, rows)


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _wrap(lines: Sequence[str], width: int) -> list[str]:
    import textwrap

    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ")]
