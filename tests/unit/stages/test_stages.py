"""A stage's code and its version change together, or results of old code would pass for new.

After a change:  python tests/unit/stages/test_stages.py  (having raised the versions that need it).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from pathlib import Path

import mgd3
from mgd3.evaluation.protocols import PROTOCOLS
from mgd3.methods import METHODS
from mgd3.stages import JOBS, VERSIONS
from mgd3.stages.contract import Job

PACKAGE = Path(mgd3.__file__).parent
RECORD = Path(__file__).with_name("stage_closures.json")

# Methods and engines are imported by name when they run.
_METHODS = sorted({f"methods.{m.module}" for m in METHODS.values() if m.distils})
_ENGINES = sorted({f"evaluation.{p.engine}" for p in PROTOCOLS.values()})
BY_NAME: dict[str, list[str]] = {
    "sample": _METHODS,
    "tune-sample": _METHODS,
    "trajectory": ["methods.mgd3", "methods.manifoldgd"],
    "evaluate": _ENGINES,
    "tune-train": _ENGINES,
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


def entries(job: type[Job]) -> list[str]:
    """The modules that a job imports when it runs: those of its contract's own methods."""
    found = []
    for cls in job.__mro__[: job.__mro__.index(Job)]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        found += imports(tree, cls.__module__.removeprefix("mgd3."), False)
    return [*found, *BY_NAME.get(job.stage, ())]


def own(job: type[Job]) -> str:
    """A digest of the contract itself."""
    lines = [plain(ast.parse(textwrap.dedent(inspect.getsource(c)))) for c in job.__mro__[:-2]
             if c.__module__ != Job.__module__]  # fmt: skip
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]


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


def of_stage(name: str) -> dict[str, str]:
    return closure(entries(JOBS[name]))


def closures() -> dict[str, str]:
    return {
        name.replace("-", "_"): hashlib.sha256(
            json.dumps([own(job), closure(entries(job))], sort_keys=True).encode()
        ).hexdigest()
        for name, job in JOBS.items()
    }


def test_every_stage_has_a_version_and_an_entry():
    assert set(closures()) == set(VERSIONS)
    for name, job in JOBS.items():
        found = [entry for entry in entries(job) if file_of(entry)]
        assert any(entry.count(".") for entry in found), f"{name} runs nothing"


def test_closures_hold_what_a_stage_runs():
    assert {"", "discovery.modes", "generators.latents", "generators.vae", "base.seeding"} <= set(
        of_stage("modes")
    )
    assert {"diffusion.sampling", "diffusion.guidance", "data.embedded"} <= set(of_stage("sample"))
    assert "networks.augment" in of_stage("evaluate")
    assert not {"cli", "reporting.tables", "reporting.figures"} & set(of_stage("sample"))


def test_docstrings_and_comments_do_not_count():
    one = 'def f(x):\n    """Says."""\n    return x  # that\n'
    assert plain(ast.parse(one)) == plain(ast.parse("def f(x):\n    return x\n"))
    assert plain(ast.parse(one)) != plain(ast.parse("def f(x):\n    return -x\n"))


def test_the_code_of_each_stage_is_that_of_its_version():
    recorded, now = json.loads(RECORD.read_text()), closures()
    changed = [stage for stage in now if recorded.get(stage) != [VERSIONS[stage], now[stage]]]
    assert not changed, (
        f"the code of {', '.join(changed)} changed: where results change, raise the version of the "
        "contract in workflow/mgd3/stages/; then record it with "
        "`python tests/unit/stages/test_stages.py`"
    )


if __name__ == "__main__":
    record = {stage: [VERSIONS[stage], digest] for stage, digest in closures().items()}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"recorded {len(record)} stages")
