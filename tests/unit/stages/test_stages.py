"""Code and its version change together, or results of old code would pass for new.

Versions are of stages, and of the owners of settings that stages call: a method, a mode discovery
algorithm, a protocol, a generator family, a teacher. A stage's code is what it runs without the
owners' files; an owner's is what is reached from its own file, without what every job of its stage
runs. So a mend in one method asks about that method alone.

After a change:  python tests/unit/stages/test_stages.py  (having raised the versions that need it).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import json
import textwrap
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import mgd3
from mgd3.discovery import DISCOVERIES
from mgd3.evaluation.protocols import PROTOCOLS, Protocol
from mgd3.generators.families import FAMILIES
from mgd3.methods import METHODS
from mgd3.planning.owners import OWNERS, owner_version
from mgd3.stages import JOBS, VERSIONS
from mgd3.stages.contract import Job
from mgd3.teachers import TEACHERS, TeacherRecipe

PACKAGE = Path(mgd3.__file__).parent
RECORD = Path(__file__).with_name("stage_closures.json")


def _module(entry: Any) -> str:
    return getattr(entry, "__module__", type(entry).__module__).removeprefix("mgd3.")


# What an owner's code is reached from: of a method its file, of a protocol its kind and its engine.
OWN_ENTRIES: dict[tuple[str, str], list[str]] = {
    **{("method", name): [_module(entry)] for name, entry in METHODS.items()},
    **{("discovery", name): [_module(entry)] for name, entry in DISCOVERIES.items()},
    **{
        ("protocol", name): [type(entry).__module__[5:], f"evaluation.{entry.engine}"]
        for name, entry in PROTOCOLS.items()
    },
    **{("generator", name): [_module(entry)] for name, entry in FAMILIES.items()},
    **{("teacher", name): ["teachers"] for name in TEACHERS},
}
# What is not a module of its own: entries of a registry that one file holds.
OWN_DATA = {
    **{("protocol", name): repr(entry) for name, entry in PROTOCOLS.items()},
    **{("teacher", name): repr(entry) for name, entry in TEACHERS.items()},
}
# Files in which data of several owners stand.
ENTRY_FILES = {"teachers", *(f"evaluation.protocols.{kind}" for kind in ("hard", "soft", "glad"))}
# Owners' files, which are no part of a stage's code. The file of the teachers holds more.
OWNED = {module for modules in OWN_ENTRIES.values() for module in modules} - {"teachers"}
# The stage that calls the owners of a kind: its code is no part of theirs.
CALLER = {
    "method": "sample",
    "discovery": "modes",
    "protocol": "evaluate",
    "generator": "latents",
    "teacher": "train_teacher",
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


def entries(stage: str) -> list[str]:
    """The modules that a job imports when it runs: those of its contract's own methods."""
    job, found = JOBS[stage.replace("_", "-")], []
    for cls in job.__mro__[: job.__mro__.index(Job)]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        found += imports(tree, cls.__module__.removeprefix("mgd3."), False)
    return found


def contract(stage: str) -> str:
    """A digest of the contract itself."""
    job = JOBS[stage.replace("_", "-")]
    parts = job.__mro__[: job.__mro__.index(Job)]
    return digest([plain(ast.parse(textwrap.dedent(inspect.getsource(cls)))) for cls in parts])


def is_data(node: ast.AST, module: str) -> bool:
    """Whether a statement makes entries of a registry, which count for their owner alone."""
    names = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    if not (isinstance(node, ast.Assign | ast.AnnAssign) and len(names) == 1):
        return False
    value = getattr(importlib.import_module(f"mgd3.{module}"), getattr(names[0], "id", ""), None)
    held = value.values() if isinstance(value, dict) else value
    entries = held if not isinstance(held, str) and isinstance(held, Iterable) else [held]
    kinds = (Protocol, TeacherRecipe)
    return bool(entries) and all(isinstance(entry, kinds) for entry in entries)


def closure(begin: list[str], without: Container[str] = ()) -> dict[str, str]:
    """Hash of every module reachable from the entries, by its dotted name.

    Args:
        without: modules that are not entered.
    """
    hashes: dict[str, str] = {}
    todo = list(begin)
    while todo:
        module = todo.pop()
        if module in hashes or module in without or file_of(module) is None:
            continue
        hashes[module], imported = looked_at(module)
        todo += imported
    return hashes


@functools.cache
def looked_at(module: str) -> tuple[str, list[str]]:
    """The hash of a module, and what running it imports."""
    file = file_of(module)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if module in ENTRY_FILES:
        tree.body = [node for node in tree.body if not is_data(node, module)]
    found = hashlib.sha256(json.dumps(plain(tree)).encode()).hexdigest()[:16]
    # Importing a module runs its package.
    return found, [
        *imports(tree, module, file.name == "__init__.py"), module.rpartition(".")[0]
    ]  # fmt: skip


def stage_closure(stage: str) -> dict[str, str]:
    return closure(entries(stage), OWNED - set(entries(stage)))


def owner_closure(kind: str, name: str) -> dict[str, str]:
    """What is reached from an owner's files, but for what each job of its stage runs."""
    own = OWN_ENTRIES[kind, name]
    shared = stage_closure(CALLER[kind]).keys() - set(own)
    # One owner of a kind may use another: a prior begins with the images of the method `random`.
    return closure(own, shared)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def closures() -> dict[str, list[Any]]:
    """[version, digest] of every stage and owner."""
    stages = {
        stage: [version, digest([contract(stage), stage_closure(stage)])]
        for stage, version in VERSIONS.items()
    }
    owners = {
        f"{kind} {name}": [
            owner_version(kind, name),
            digest([owner_closure(kind, name), OWN_DATA.get((kind, name))]),
        ]
        for kind, name in OWN_ENTRIES
    }
    return {**stages, **owners}


def test_every_stage_runs_something():
    for stage in VERSIONS:
        assert stage_closure(stage), stage


def test_closures_hold_what_a_stage_runs():
    assert {"", "discovery.modes", "generators.latents", "generators.vae", "base.seeding"} <= set(
        closure(entries("modes"))
    )
    assert {"diffusion.sampling", "diffusion.guidance"} <= set(owner_closure("method", "mgd3"))
    assert "data.embedded" in closure(entries("sample"))
    assert "networks.augment" in closure(entries("evaluate"))
    assert not {"cli", "reporting.tables", "reporting.figures"} & set(closure(entries("sample")))


def test_docstrings_and_comments_do_not_count():
    one = 'def f(x):\n    """Says."""\n    return x  # that\n'
    assert plain(ast.parse(one)) == plain(ast.parse("def f(x):\n    return x\n"))
    assert plain(ast.parse(one)) != plain(ast.parse("def f(x):\n    return -x\n"))


def test_every_owner_has_an_entry():
    assert set(OWN_ENTRIES) == {(kind, name) for kind, of in OWNERS.items() for name in of}
    for own in OWN_ENTRIES.values():
        assert all(file_of(entry) for entry in own)


def test_an_owner_s_code_is_its_own():
    """A mend of one touches neither the others nor the stages."""
    rded, herding = owner_closure("method", "rded"), owner_closure("method", "herding")
    assert {"methods.rded", "methods.selection.rded"} <= set(rded)
    assert not {"methods.rded", "methods.selection.rded"} & set(herding)
    for stage in VERSIONS:
        held = set(stage_closure(stage))
        assert not {"methods.rded", "methods.matching.idc", "discovery.gmm"} & held, stage
        assert not {"evaluation.protocols.soft", "evaluation.soft"} & held - set(entries(stage))
    assert "evaluation.soft" not in owner_closure("protocol", "hard")
    assert "methods.matching.idc" in owner_closure("method", "idc")
    assert "methods.matching.idc" not in owner_closure("method", "dc")
    assert "discovery.gmm" not in owner_closure("discovery", "kmeans")
    assert "generators.unet" not in owner_closure("generator", "dit")
    # What one loop does to all images is of all methods that match.
    for name in ("dc", "dm", "idc", "sre2l", "glad-vae"):
        assert "methods.matching.loop" in owner_closure("method", name)


def test_every_module_that_a_job_can_run_is_of_a_stage_or_an_owner():
    recorded = {m for stage in VERSIONS for m in stage_closure(stage)}
    recorded |= {m for owner in OWN_ENTRIES for m in owner_closure(*owner)}
    once = {m for stage in VERSIONS for m in closure(entries(stage))}
    once |= {m for own in OWN_ENTRIES.values() for m in closure(own)}
    assert once <= recorded


def test_entries_of_a_registry_count_for_their_owner_alone():
    tree = ast.parse(file_of("evaluation.protocols.hard").read_text(encoding="utf-8"))
    left = [node for node in tree.body if not is_data(node, "evaluation.protocols.hard")]
    assert len(left) < len(tree.body)
    assert {node.name for node in left if isinstance(node, ast.ClassDef)} >= {"HardProtocol"}
    assert len({OWN_DATA["protocol", name] for name in PROTOCOLS}) == len(PROTOCOLS)


def test_the_code_of_each_stage_and_owner_is_that_of_its_version():
    recorded, now = json.loads(RECORD.read_text()), closures()
    changed = [owner for owner in now if recorded.get(owner) != now[owner]]
    assert not changed, (
        f"the code of {', '.join(changed)} changed: where results change, raise VERSIONS[...] in "
        "workflow/mgd3/stages/, or the owner's `version`; then record it with "
        "`python tests/unit/stages/test_stages.py`"
    )


if __name__ == "__main__":
    record = closures()
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"recorded {len(VERSIONS)} stages and {len(OWN_ENTRIES)} owners")
