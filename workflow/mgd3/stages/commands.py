"""Commands: they show and check, and have no record, version or rule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError
from . import fields, formats
from .contract import CONTRACTS, Command, Job, Positional
from .fields import Path_, Text


class OneOrTwo(Path_):
    """One path or two."""

    many = True


Configs = Annotated[
    formats.AnyFiles, Positional(), "YAML files; later ones win, as with --configfile"
]


def _layout(configs: list[Path]) -> Any:
    from ..planning.graph import layout_of
    from . import VERSIONS

    return layout_of(configs, VERSIONS)


class Show(Command):
    """Print a table of results."""

    results: Annotated[formats.AnyFile, Positional(), "a results.csv"]

    def run(self) -> None:
        from ..base.records import sound_hash
        from ..reporting.tables import print_table

        sound_hash(self.results)
        print_table(self.results)


class Verify(Command):
    """Check a tree of results against the hashes in its records."""

    tree: Annotated[Path, Path_(), Positional(), "a folder of results"]

    def run(self) -> int:
        from ..base.records import print_verdict

        return 0 if print_verdict(self.tree) else 1


class Plan(Command):
    """What a configuration will cost: one batch of each stage, timed here."""

    configs: Configs
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..planning.config import preflight
        from ..planning.notes import notes
        from ..planning.plan import plan, table

        layout = _layout(self.configs)
        preflight(layout.config)
        device = pick_device(layout.config.device if self.device == "auto" else self.device)
        print(table(plan(layout, device), device))
        for note in notes(layout.config):
            print(f"note: {note}")


class Graph(Command):
    """The jobs of a configuration, and which are left to do."""

    configs: Configs

    def run(self) -> None:
        from ..planning.graph import graph, listed

        print("\n".join(listed(graph(_layout(self.configs)))))


class Where(Command):
    """Where the artefacts of a run lie."""

    run_name: Annotated[str, Text(), Positional(), "a run, as in paths or as in tables"]
    configs: Configs

    def run(self) -> None:
        from ..planning.graph import graph, listed, of_run

        layout = _layout(self.configs)
        print("\n".join(listed(of_run(layout, graph(layout), self.run_name))))


class Why(Command):
    """What an artefact is, or how it differs from another."""

    artefacts: Annotated[
        list[Path], OneOrTwo(), Positional(), "a file or folder with ~ and twelve digits; or two"
    ]
    results: Annotated[
        Path, Path_(), "the folder in which what they were made from is looked up"
    ] = Path("results")

    def run(self) -> None:
        from ..planning.why import Artefacts, compared, described

        if len(self.artefacts) > 2:
            raise UserError("mgd3 why takes one path or two", "name two, the older first")
        known = Artefacts(self.results)
        lines = (compared if len(self.artefacts) > 1 else described)(*self.artefacts, known)
        print("\n".join(lines))


class Schema(Command):
    """Print the schema of the configuration."""

    def run(self) -> None:
        import yaml

        from ..planning.config import schema

        header = "# Made from the registries by `mgd3 schema`; a test checks that it is current.\n"
        sys.stdout.write(header + yaml.safe_dump(schema(), sort_keys=False, allow_unicode=True))


class Stages(Command):
    """Print the table of stages: what each takes, reads and writes (docs/stages.md)."""

    def run(self) -> None:
        sys.stdout.write(stages_table())


def stages_table() -> str:
    """Every job, then every command, as Markdown."""
    lines = [
        "# Stages",
        "",
        "Made from the contracts by `mgd3 stages > docs/stages.md`; a test checks that it is "
        "current. `mgd3 STAGE --help` tells more of each.",
        "",
        "| job | version | does | takes |",
        "| --- | --: | --- | --- |",
    ]
    for contract in CONTRACTS.values():
        if issubclass(contract, Job):
            lines.append(
                f"| `{contract.stage}` | {contract.version} | {contract.doc} | {_takes(contract)} |"
            )
    lines += ["", "| command | does | takes |", "| --- | --- | --- |"]
    for contract in CONTRACTS.values():
        if issubclass(contract, Command):
            lines.append(f"| `{contract.stage}` | {contract.doc} | {_takes(contract)} |")
    return "\n".join([*lines, ""])


def _takes(contract: type[Job] | type[Command]) -> str:
    found = (f"`{f.flag}`" if f.required else f"[`{f.flag}`]" for f in contract.fields())
    return " ".join(found)
