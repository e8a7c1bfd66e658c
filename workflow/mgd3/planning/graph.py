"""Which jobs a configuration has, and which of them are left to do, without Snakemake.

A job is left to do where its artefact's path is not there: a path is an identity. So what a change
of a configuration makes anew is the difference of two graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import UserError, did_you_mean
from ..base.identity import Identity
from .config import read_configs, resolve
from .identities import identities_in
from .layout import Layout


@dataclass(frozen=True)
class Node:
    """A job by what it makes.

    Attributes:
        path: of the artefact: a file, or the folder of its files.
    """

    stage: str
    path: str
    identity: Identity

    @property
    def is_made(self) -> bool:
        return Path(self.path).exists()


def layout_of(configs: Sequence[Path], versions: Mapping[str, int]) -> Layout:
    """The layout of the configuration that some files make, as `snakemake --configfile` does."""
    return Layout(resolve(read_configs(configs)), Path.cwd(), versions)


def graph(layout: Layout) -> list[Node]:
    """The jobs behind the tables of a configuration, in the order of the work; the reports, which
    take seconds, are one."""
    made = layout.artefacts()
    wanted = [layout.identity_of(path) for path in (*layout.scores(), *_blocks(layout))]
    needed = {of.digest for of in _closure(wanted)}
    nodes = [
        Node(str(of.description["stage"]), path, of)
        for path, of in made.items()
        if of.digest in needed
    ]
    return [*nodes, Node("reports", layout.report("tables"), layout.report_id)]


def left(layout: Layout) -> list[Node]:
    """The jobs that a run would do: those whose artefacts are missing and needed. A sampling block
    is not made again where the set of it is there."""
    nodes = graph(layout)
    by_digest: dict[str, list[Node]] = {}
    for node in nodes:
        by_digest.setdefault(node.identity.digest, []).append(node)
    planned: set[str] = set()
    todo = [nodes[-1]]
    while todo:
        node = todo.pop()
        if node.path in planned or node.is_made:
            continue
        planned.add(node.path)
        todo += _read_by(layout, node, by_digest)
    return [node for node in nodes if node.path in planned]


def _read_by(layout: Layout, node: Node, by_digest: dict[str, list[Node]]) -> Iterator[Node]:
    if node.stage == "reports":
        read = [layout.identity_of(path) for path in layout.scores()]
    elif node.stage == "collect":
        paths = layout.blocks_of(node.identity)
        read = [layout.identity_of(path) for path in paths]
    else:
        read = [one for source in node.identity.inputs.values() for one in identities_in(source)]
    for of in read:
        yield from by_digest.get(of.digest, ())


def _blocks(layout: Layout) -> Iterator[str]:
    """Sampling jobs make blocks; the identity of a set does not say how it is cut."""
    for dataset in layout.datasets:
        for run in layout.distilling:
            for ipc in layout.config.ipc:
                for gen in layout.config.generation_seeds:
                    yield from layout.blocks(dataset, run.slug, ipc, gen)


def _closure(wanted: Iterable[Identity]) -> Iterator[Identity]:
    """Identities, and those of all they come of, each once."""
    seen: set[str] = set()
    todo = list(wanted)
    while todo:
        of = todo.pop()
        if of.digest in seen:
            continue
        seen.add(of.digest)
        yield of
        todo += [one for source in of.inputs.values() for one in identities_in(source)]


def of_run(layout: Layout, nodes: Sequence[Node], name: str) -> list[Node]:
    """The jobs that are of one run alone.

    Args:
        name: as it stands in paths, or in tables.

    Raises:
        UserError: no run is called that.
    """
    known = {run.label: run.slug for run in layout.config.runs} | {
        slug: slug for slug in layout.runs
    }
    if name not in known:
        raise UserError(f"no run {name!r}", did_you_mean(name, known))
    return [node for node in nodes if known[name] in Path(node.path).parts]


def listed(nodes: Sequence[Node]) -> list[str]:
    """One line a job, and the sum."""
    width = max((len(node.stage) for node in nodes), default=0)
    lines = [
        f"{'made' if node.is_made else 'to do':<6} {node.stage:<{width}} {node.path}"
        for node in nodes
    ]
    to_do = sum(not node.is_made for node in nodes)
    return [*lines, f"{len(nodes)} jobs, {to_do} to do"]
