"""A stage's code and its version change together, or results of old code would pass for new.

After a change:  python tests/unit/stages/test_stages.py  (having raised the versions that need it).
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import mgd3
from mgd3.evaluation.protocols import PROTOCOLS
from mgd3.methods import METHODS
from mgd3.stages import VERSIONS

PACKAGE = Path(mgd3.__file__).parent
RECORD = Path(__file__).with_name("stage_closures.json")

# Methods and engines are imported by name when they run.
_METHODS = sorted({f"methods.{m.module}" for m in METHODS.values() if m.distils})
_ENGINES = sorted({f"evaluation.{p.engine}" for p in PROTOCOLS.values()})
ENTRIES: dict[str, list[str]] = {
    "fetch_dataset": ["data.archives"],
    "index": ["data.index"],
    "train_vae": ["generators.training"],
    "train_generator": ["generators.training"],
    "finetune_generator": ["generators.finetuning"],
    "fetch_generator": ["generators.fetch"],
    "latents": ["generators.latents"],
    "modes": ["discovery.modes"],
    "train_teacher": ["teachers.training"],
    "fetch_teacher": ["teachers.pretrained"],
    "sample": ["methods.blocks", *_METHODS],
    "collect": ["methods.blocks"],
    "export": ["reporting.export"],
    "pixels": ["data.pixels"],
    "relabel": ["evaluation.relabel"],
    "evaluate": ["evaluation.stage", *_ENGINES],
    "tables": ["reporting.tables"],
    "cost": ["reporting.cost"],
    "claims": ["reporting.claims"],
    "settings_table": ["reporting.settings_table"],
    "tables_page": ["reporting.tables_page"],
    "embed": ["metrics.stage"],
    "measure": ["metrics.stage", "metrics.summary"],
    "tune_rung": ["tuning.rungs"],
    "tune_sample": ["tuning.trials", *_METHODS],
    "tune_proxy": ["tuning.trials"],
    "tune_train": ["tuning.trials", *_ENGINES],
    "tune_report": ["tuning.report", "tuning.surface"],
    "judge": ["metrics.judging"],
    "trajectory": ["methods.trajectories", "methods.mgd3", "methods.manifoldgd"],
    "plots": ["reporting.plots", "reporting.comparisons"],
    "figures": ["reporting.figures"],
    "exhibit": ["reporting.gallery.exhibit"],
    "gallery": ["reporting.gallery.page"],
}


def file_of(module: str) -> Path | None:
    """The file of a module of the package, by its dotted name ("": the package itself)."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def plain(node: object) -> object:
    """A tree as lists, the same in every Python: no positions, docstrings or empty fields."""
    if isinstance(node, list):
        return [plain(item) for item in node if not is_type_checking(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    ):
        fields["body"] = node.body[1:]
    return [
        type(node).__name__,
        *([name, plain(value)] for name, value in fields.items() if value not in (None, [])),
    ]


def imports(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """Modules of the package that a tree imports, also inside functions."""
    found = []
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.ImportFrom):
            parts = module.split(".") if module else []
            if child.level:
                up = child.level - is_package
                base = parts[: len(parts) - up] if up else parts
            elif (child.module or "").split(".")[0] == "mgd3":
                base = []
            else:
                continue
            name = (child.module or "").split(".") if child.module else []
            base = base + (name if child.level else name[1:])
            found += [".".join(base), *(".".join([*base, alias.name]) for alias in child.names)]
        elif isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
            found += [n.removeprefix("mgd3.") for n in names if n.startswith("mgd3.")]
        found += imports(child, module, is_package)
    return found


def closure(entries: list[str]) -> dict[str, str]:
    """Hash of every module reachable from the entries, by its dotted name."""
    hashes: dict[str, str] = {}
    todo = list(entries)
    while todo:
        module = todo.pop()
        file = file_of(module)
        if module in hashes or file is None:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        hashes[module] = hashlib.sha256(json.dumps(plain(tree)).encode()).hexdigest()[:16]
        todo += imports(tree, module, file.name == "__init__.py")
        todo += [module.rpartition(".")[0]]  # importing a module runs its package
    return hashes


def closures() -> dict[str, str]:
    return {
        stage: hashlib.sha256(json.dumps(closure(entries), sort_keys=True).encode()).hexdigest()
        for stage, entries in ENTRIES.items()
    }


def test_every_stage_has_a_version_and_an_entry():
    assert set(ENTRIES) == set(VERSIONS)
    for entries in ENTRIES.values():
        assert all(file_of(entry) for entry in entries)


def test_closures_hold_what_a_stage_runs():
    assert {"", "discovery.modes", "generators.latents", "generators.vae", "base.seeding"} <= set(
        closure(ENTRIES["modes"])
    )
    assert {"diffusion.sampling", "diffusion.guidance", "data.embedded"} <= set(
        closure(ENTRIES["sample"])
    )
    assert "networks.augment" in closure(ENTRIES["evaluate"])
    assert not {"cli", "reporting.tables", "reporting.figures"} & set(closure(ENTRIES["sample"]))


def test_docstrings_and_comments_do_not_count():
    one = 'def f(x):\n    """Says."""\n    return x  # that\n'
    assert plain(ast.parse(one)) == plain(ast.parse("def f(x):\n    return x\n"))
    assert plain(ast.parse(one)) != plain(ast.parse("def f(x):\n    return -x\n"))


def test_the_code_of_each_stage_is_that_of_its_version():
    recorded, now = json.loads(RECORD.read_text()), closures()
    changed = [stage for stage in now if recorded.get(stage) != [VERSIONS[stage], now[stage]]]
    assert not changed, (
        f"the code of {', '.join(changed)} changed: where results change, raise VERSIONS[...] in "
        "workflow/mgd3/stages/; then record it with `python tests/unit/stages/test_stages.py`"
    )


if __name__ == "__main__":
    record = {stage: [VERSIONS[stage], digest] for stage, digest in closures().items()}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"recorded {len(record)} stages")
