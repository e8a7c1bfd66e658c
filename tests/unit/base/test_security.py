"""No code of this tree loads what could run code, or hands text to a shell unquoted.

The scan reads syntax trees: a comment or a string that names `pickle` is no finding. Snakemake's
files are scanned as the Python that Snakemake makes of them.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.parser import parse

ROOT = Path(__file__).parents[3]
PYTHON = sorted(p for part in ("workflow", "tests") for p in (ROOT / part).rglob("*.py"))
SNAKEFILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]

# Modules whose readers run code that a file holds.
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp",
    "subprocess.getoutput", "subprocess.getstatusoutput", "torch.hub.load", "torch.jit.load",
    "pandas.read_pickle", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load",
    "yaml.full_load_all", "yaml.load", "yaml.load_all",
}  # fmt: skip
# A keyword that must have (or, if given, must not have another than) a literal value.
REQUIRED = {"torch.load": ("weights_only", True), "shutil.unpack_archive": ("filter", "data")}
ALLOWED_VALUE = {"shell": False, "allow_pickle": False, "trust_remote_code": False}
# Loading weights of networks; those of diffusers and transformers fall back to pickled files.
NO_WEIGHTS = ("Scheduler", "Tokenizer", "Config", "Processor")


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported as, for instance `np` -> `numpy`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`torch.load` for the function of a call, whatever the imports call it."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return "?"


def is_literal(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and repr(node.value) == repr(value)


def findings(tree: ast.AST, weights: bool = True) -> Iterator[tuple[int, str]]:
    """Line and reason of everything that is not allowed; `weights`: of `from_pretrained`, too."""
    names = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            held = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            # The error that `torch.load` raises is no reader.
            if {a.name for a in node.names} == {"UnpicklingError"}:
                continue
            for module in held:
                if (module or "").split(".")[0] in MODULES:
                    yield node.lineno, f"imports {module}"
        # A field may be called `compile`; what matters is who reads that name.
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            path = dotted(node, names)
            if path in CALLS:
                yield node.lineno, path
            if path.rpartition(".")[2] in ("read_pickle", "to_pickle"):
                yield node.lineno, path
        if not isinstance(node, ast.Call):
            continue
        path, given = dotted(node.func, names), {k.arg: k.value for k in node.keywords}
        last = path.rpartition(".")[2]
        if path in REQUIRED:
            key, value = REQUIRED[path]
            if not is_literal(given.get(key), value):
                yield node.lineno, f"{path} without {key}={value!r}"
        for key, value in ALLOWED_VALUE.items():
            if key in given and not is_literal(given[key], value):
                yield node.lineno, f"{path} with {key}"
        if last in ("extractall", "extract") and not is_literal(given.get("filter"), "data"):
            yield node.lineno, f"{path} without filter='data'"
        if weights and last == "from_pretrained":
            owner = path.rpartition(".")[0]
            safe = is_literal(given.get("use_safetensors"), True)
            # Our own pipelines pass it themselves.
            safe |= owner.endswith(NO_WEIGHTS) or ".ModeGuided" in owner
            if not safe:
                yield node.lineno, f"{path} without use_safetensors=True"


def parse_snakefile(path: Path) -> ast.AST:
    """The Python that Snakemake makes of one of its files."""
    source = SimpleNamespace(get_path_or_uri=lambda secret_free: str(path))
    cache = SimpleNamespace(open=lambda _: path.open(encoding="utf-8"))
    workflow = SimpleNamespace(sourcecache=cache, modifier=SimpleNamespace(path=str(path)))
    code, _ = parse(source, workflow, {})
    return ast.parse(code)


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_runs_no_code_from_files(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(findings(tree, weights=path.is_relative_to(ROOT / "workflow"))) == []


@pytest.mark.parametrize("path", SNAKEFILES, ids=lambda p: p.name)
def test_rules_run_no_code_from_files(path: Path) -> None:
    assert list(findings(parse_snakefile(path))) == []


FORBIDDEN = [
    "import pickle",
    "from pickle import loads",
    "from pickle import UnpicklingError, loads",
    "import joblib as j",
    "import torch\ntorch.load('x')",
    "import torch as t\nt.load('x', weights_only=False)",
    "from torch import load\nload('x')",
    "from torch import load as read\nread('x', weights_only=safe)",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import numpy as np\nnp.load('x', allow_pickle=flag)",
    "import yaml\nyaml.load(f, Loader=yaml.Loader)",
    "from yaml import unsafe_load\nunsafe_load(f)",
    "import pandas as pd\npd.read_pickle('x')",
    "table.to_pickle('x')",
    "eval(text)",
    "run = exec",
    "compile(text, 'x', 'exec')",
    "import os\nos.system('ls')",
    "import subprocess\nsubprocess.run('ls', shell=True)",
    "from subprocess import Popen\nPopen(c, shell=flag)",
    "archive.extractall('x')",
    "archive.extractall('x', filter='fully_trusted')",
    "import shutil\nshutil.unpack_archive('x')",
    "AutoencoderKL.from_pretrained('x')",
    "AutoModel.from_pretrained('x', use_safetensors=True, trust_remote_code=True)",
]
ALLOWED = [
    "'import pickle'  # eval(text)",
    "from pickle import UnpicklingError",
    "import torch\ntorch.load('x', weights_only=True)",
    "import re\nre.compile('x')",
    "model.eval()",
    "class Job:\n    compile: bool = False",
    "import torch\ntorch.compile(model)",
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "import yaml\nyaml.safe_load(f)",
    "import subprocess\nsubprocess.run(['ls'], shell=False)",
    "archive.extractall('x', filter='data')",
    "AutoencoderKL.from_pretrained('x', use_safetensors=True)",
    "DDPMScheduler.from_pretrained('x')",
]


@pytest.mark.parametrize("code", FORBIDDEN)
def test_the_scan_finds(code: str) -> None:
    assert list(findings(ast.parse(code)))


@pytest.mark.parametrize("code", ALLOWED)
def test_the_scan_lets_pass(code: str) -> None:
    assert not list(findings(ast.parse(code)))


def test_the_scan_reads_the_rules() -> None:
    names = {n.id for n in ast.walk(parse_snakefile(SNAKEFILES[1])) if isinstance(n, ast.Name)}
    assert "Layout" in names


def shell_commands(path: Path) -> Iterator[str]:
    """The text of each `shell:` of a Snakemake file."""
    with path.open(encoding="utf-8") as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    for position, token in enumerate(tokens):
        if token.string == "shell" and tokens[position + 1].string == ":":
            rest = tokens[position + 2 :]
            kinds = (tokenize.STRING, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT)
            command = []
            for part in rest:
                if part.type not in kinds:
                    break
                if part.type == tokenize.STRING:
                    command.append(ast.literal_eval(part.string))
            yield "".join(command)


def test_every_field_of_every_shell_command_is_quoted() -> None:
    commands = [c for path in SNAKEFILES for c in shell_commands(path)]
    assert len(commands) >= 12
    for command in commands:
        assert command.startswith("mgd3 ")
        fields = re.findall(r"(?<!\{)\{([^{}]+)\}", command)
        assert fields
        # `threads` is a number that Snakemake itself makes.
        unquoted = [f for f in fields if not f.endswith(":q") and f != "threads"]
        assert not unquoted, command
