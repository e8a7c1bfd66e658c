"""What README.md, docs/ and presets tell a user to type: commands and code, by their own parsers.

A block is found by its indentation or fence, a command also between backquotes. Whatever is of no
known kind, or cannot be run here, is listed below by name and reason.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgd3.cli import parse
from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS
from mgd3.stages.contract import CONTRACTS
from workplace import HANGS, ROOT, Workplace, own_images, parse_jobs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PRESETS = sorted((ROOT / "workflow/presets").glob("*.yaml"))
PROGRAMS = ("mgd3", "snakemake", "make", "python", "pytest")
# First words of shell lines that are no command of this project's.
FOREIGN = {
    "ln": "links to a folder that the user has",
    "tail": "follows a running job",
    "pip": "installs; tests/unit/test_logger.py draws with what it installs",
}
# Blocks that nobody types, by how they begin.
LISTINGS = {
    "mnist · 10 per class": "what make demo printed",
    "path/to/images/": "how a folder is laid out",
    "data/imagenet/train": "how a folder is laid out",
    "class       wnid": "a classes.tsv; tests/unit/data reads such files",
    "representativeness = ": "a formula",
    "flowchart": "a drawing",
    "DiT of digits: ": "what a log tells",
    '"dit-whole": ': "a line of the registry of generators, evaluated below",
}
# Names that stand for a file of the user's.
THEIRS = {
    "my.yaml", "mine.yaml", "workflow/presets/NAME.yaml",
    "results/reports/NAME/tuning/overlay.yaml",
}  # fmt: skip
# What reads an export; tests/unit/reporting/test_export.py does, in each of these ways.
OF_EXPORTS = 'torchvision.datasets.ImageFolder("images")'


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language or "", text) of each block of a page."""
    found, lines = [], iter(page.read_text(encoding="utf-8").splitlines())
    held: list[str] = []
    for line in lines:
        if line.startswith("```"):
            fenced = []
            for inner in lines:
                if inner.startswith("```"):
                    break
                fenced.append(inner)
            found.append((line[3:], "\n".join(fenced)))
        elif line.startswith("    ") or (held and not line):
            held.append(line[4:])
            continue
        if held:
            found.append(("", "\n".join(held).strip("\n")))
            held = []
    if held:
        found.append(("", "\n".join(held).strip("\n")))
    return found


def joined(text: str) -> str:
    """With each line that goes on behind a backslash in one."""
    return re.sub(r"\\\n\s*", " ", text)


def command(line: str) -> list[str]:
    """The words of a line that calls a program, without its comment; none of any other line."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]
    words[:1] = [word.removeprefix(".venv/bin/") for word in words[:1]]
    return words if words and words[0] in (*PROGRAMS, *FOREIGN) else []


def kind_of(language: str, text: str) -> str:
    """What a block is: shell, yaml, python, toml, listing; "" for what is none of these."""
    text = joined(text)
    first = text.lstrip().splitlines()[0]
    if any(first.startswith(beginning) for beginning in LISTINGS):
        return "listing"
    if language in ("python", "toml"):
        return language
    if command(next(line for line in text.splitlines() if not line.startswith("#"))):
        return "shell"
    with contextlib.suppress(yaml.YAMLError):
        if isinstance(yaml.safe_load(text), dict):
            return "yaml"
    try:
        ast.parse(text)
    except SyntaxError:
        return ""
    return "python"


def found(kind: str) -> list[Any]:
    held = [
        (page.name, text)
        for page in PAGES
        for language, text in blocks(page)
        if kind_of(language, text) == kind
    ]
    return [pytest.param(text, id=f"{page}-{k}") for k, (page, text) in enumerate(held)]


def commands(program: str) -> list[Any]:
    """Calls of a program, each once: from blocks, between backquotes, and of presets' heads."""
    calls: dict[tuple[str, ...], None] = {}
    heads = "\n".join(path.read_text(encoding="utf-8") for path in PRESETS)
    for line in re.findall(r"^#   (.*)$", heads, re.MULTILINE):
        if (words := command(line))[:1] == [program]:
            calls[tuple(words[1:])] = None
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        for language, block in blocks(page):
            if kind_of(language, block) == "shell":
                lines += joined(block).splitlines()
        for line in lines:
            words = command(line)
            if words[:1] == [program] and len(words) > 1:
                calls[tuple(words[1:])] = None
    return [pytest.param(list(words), id=" ".join(words)[:80]) for words in calls]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind(page):
    assert [text for language, text in blocks(page) if not kind_of(language, text)] == []
    shell = [text for language, text in blocks(page) if kind_of(language, text) == "shell"]
    for text in shell:
        for line in joined(text).splitlines():
            assert not line or line.lstrip().startswith("#") or command(line), line


def test_nothing_is_excepted_that_is_not_there():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for beginning in LISTINGS:
        assert beginning in pages
    for name in (*THEIRS, OF_EXPORTS):
        assert name in pages
    for word in FOREIGN:
        assert any(
            command(line)[:1] == [word]
            for page in PAGES
            for _, text in blocks(page)
            for line in joined(text).splitlines()
        )


@pytest.mark.parametrize("words", commands("mgd3"))
def test_a_command_of_the_package_is_taken(words):
    stage, *rest = words
    if stage == "STAGE" or stage.startswith("-"):
        return
    assert stage in CONTRACTS
    # A stage's bare name names the stage; with more behind it, it is typed.
    if rest and rest != ["..."]:
        parse(stage, rest[: rest.index(">")] if ">" in rest else rest)


@cache
def targets() -> set[str]:
    """Rules, and presets as targets."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules += (ROOT / "Snakefile").read_text()
    named = re.findall(r"^\s*(?:rule|checkpoint) (\w+):", rules, re.MULTILINE)
    return {*named, *(preset.stem.replace("-", "_") for preset in PRESETS)}


@pytest.mark.parametrize("words", commands("snakemake"))
def test_a_call_of_snakemake_is_taken(words, monkeypatch):
    """By its own parser: what stands behind --configfile is read as a configuration."""
    from snakemake.cli import parse_args

    monkeypatch.chdir(ROOT)
    with contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            _, given = parse_args([word for word in words if word != "..."])
        except SystemExit:
            pytest.fail(told.getvalue())
    for file in map(str, given.configfile or []):
        assert file in THEIRS or (ROOT / file).is_file()
    named = {*given.targets, *(given.until or ()), *(given.forcerun or ())}
    assert named <= targets()


@pytest.mark.parametrize("words", commands("make"))
def test_a_call_of_make_is_taken(words):
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_reads_no_path_apart_that_holds_a_space(tmp_path):
    folder = tmp_path / "my work"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "envs"):
        (folder / name).symlink_to(ROOT / name)
    for target in ("demo", "test", "lint"):
        done = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ".venv/bin/python" in done.stdout
        words = [word for line in done.stdout.splitlines() for word in shlex.split(line)]
        assert not [word for word in words if word.endswith("/my") or word.startswith("work/")]


@pytest.mark.parametrize("words", [*commands("python"), *commands("pytest")])
def test_a_script_is_there_and_knows_its_options(words):
    if words[:2] in (["-m", "timeit"], ["-X", "importtime"]):
        for code in words[2:]:
            if not code.startswith("-"):
                ast.parse(code)
        return
    if words[0] == "-m":
        words = [f"workflow/{words[1].replace('.', '/')}.py", *words[2:]]
    text = (ROOT / words[0]).read_text(encoding="utf-8")
    shared = (ROOT / "tests/benchmarks/timing.py").read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in text + shared


@pytest.mark.parametrize("text", found("yaml"))
def test_a_part_of_a_configuration_is_taken(text, tmp_path):
    held = yaml.safe_load(text)
    if "account" in held:
        profile = (ROOT / "slurm/profile.v9+.yaml").read_text(encoding="utf-8")
        assert set(held) <= set(yaml.safe_load(profile)["__variables__"])
        return
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    if "datasets" in held:  # the demo's generator knows digits alone
        held = {"runs": [{"method": "random"}], **held}
    resolve({**config, "imagenet_root": str(tmp_path), **_there(held, tmp_path)})


def _there(held: dict[str, Any], folder: Path) -> dict[str, Any]:
    """With images and a table of classes where the block says that the user's lie."""
    if any("root" in entry for entry in held.get("datasets", ()) if isinstance(entry, dict)):
        own_images(folder / "images", {"cat": 3, "dog": 3})
        (folder / "classes.tsv").write_text(
            "class\twnid\tprompt\ncat\tnew\ta cat\ndog\tnew\ta dog\n"
        )
        places = {"root": str(folder / "images"), "classes": str(folder / "classes.tsv")}
        held["datasets"] = [
            entry | {key: places[key] for key in places if key in entry}
            if isinstance(entry, dict)
            else entry
            for entry in held["datasets"]
        ]
    return held


@pytest.mark.parametrize("text", found("toml"))
def test_entry_points_are_of_groups_that_are_read(text):
    groups = tomllib.loads(text)["project"]["entry-points"]
    known = "".join(path.read_text() for path in (ROOT / "workflow/mgd3").rglob("*.py"))
    assert all(f'"{group}"' in known for group in groups)


@pytest.mark.parametrize("text", found("python"))
def test_python_compiles(text):
    ast.parse(text)


def python(code: str, folder: Path) -> str:
    """What a program prints that has this code, in a folder of its own."""
    (folder / "program.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_line_of_the_registry_is_an_entry(tmp_path):
    (text,) = [t for page in PAGES for _, t in blocks(page) if t.startswith('"dit-whole"')]
    # The line has names of the module that it stands in.
    names = "from mgd3.generators import recipes, registry\nglobals().update(vars(recipes))\n"
    names += "globals().update(vars(registry))\n"
    entries = f"entries = {{{text}}}\nprint(*[e.finetune is not None for e in entries.values()])"
    printed = python(names + entries, tmp_path)
    assert printed.split() == ["True"]


def test_the_snippet_of_the_readme_runs_as_written(tmp_path):
    """On modes where the demo puts its own; the generator is that of the demo."""
    import torch
    from safetensors.torch import save_file

    (snippet,) = [
        text for language, text in blocks(ROOT / "README.md") if kind_of(language, text) == "python"
    ]
    config = resolve(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    run = next(
        run for run in config.runs if run.method == "mgd3" and run.settings["modes"] == "kmeans"
    )
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    file = tmp_path / Layout(config, ROOT, VERSIONS).modes("mnist", run, config.ipc[0], 0)
    file.parent.mkdir(parents=True)
    save_file({"digit-3": torch.zeros(2, 4, 8, 8)}, file)
    assert python(f"{snippet}\nprint(len(images))", tmp_path).split()[-1] == "2"
    # What the demo's own rows have.
    written = {"lambda": "mode_guidance_scale", "t_sg": "stop_guidance_step", "clamp": "clamp",
               "cfg": "guidance_scale", "cfg_channels": "guidance_channels"}  # fmt: skip
    (call,) = [
        node
        for node in ast.walk(ast.parse(snippet))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "pipe"
    ]
    given = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    assert {own: given[name] for own, name in written.items()} == {
        own: run.settings[own] for own in written
    }


def dry(place: Workplace, *words: str) -> str:
    status, output = place.typed("snakemake", "-n", *words)
    assert status == 0, output[-3000:]
    return output


def test_targets_of_the_readme_plan_together(tmp_path):
    """Presets are planned by test_preset_plans, each."""
    place = Workplace.make(tmp_path / "here")
    jobs = parse_jobs(dry(place, "--cores", "2", "metrics", "figures", "gallery", "export"))
    assert {"measures_table", "gallery", "export"} <= set(jobs)


def test_images_of_ones_own_plan_as_the_readme_says(tmp_path):
    place = Workplace.make(tmp_path / "here")
    (text,) = [text for _, text in blocks(ROOT / "README.md") if "name: mydata" in text]
    own_images(place.path / "path/to/images", {"cat": 20, "dog": 20})
    written = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    (place.path / "my.yaml").write_text(yaml.safe_dump({**written, **yaml.safe_load(text)}))
    assert "train_generator" in dry(place, "--cores", "2", "--configfile", "my.yaml")
