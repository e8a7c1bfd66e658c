"""The command line: arguments of a wrong shape are named, never a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mgd3.cli import main


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--dataset", "digits"),
        ("--dataset", "5"),
        ("--dataset", '{"root": "x"}'),
        ("--dataset", "[" * 100_000),
        ("--classes", '"digit-1"'),
        ("--classes", "[1, 2]"),
        ("--settings", "[]"),
        ("--ipc", "-1"),
        ("--generation-seed", "one"),
    ],
)
def test_an_argument_of_a_wrong_shape_is_named(argument, value, capsys):
    held = {
        "--dataset": '"digits"', "--index": "x", "--method": "random", "--settings": "{}",
        "--classes": '["digit-1"]', "--ipc": "1", "--generation-seed": "0", "--output": "x",
        argument: value,
    }  # fmt: skip
    assert main(["sample", *(f"{key}={text}" for key, text in held.items())]) == 2
    printed = capsys.readouterr().err
    assert argument in printed and "Traceback" not in printed and len(printed) < 3000


def test_an_unknown_algorithm_is_named(capsys):
    arguments = ["--latents", "x", "--index", "x", "--discovery", "kmaens", "--ipc", "1"]
    assert main(["modes", *arguments, "--generation-seed", "0", "--output", "y"]) == 2
    said = capsys.readouterr().err
    assert "kmaens" in said and "did you mean 'kmeans'?" in said


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has imported."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    code = "from mgd3.cli import main\ntry: main(['sample', '--help'])\nexcept SystemExit: pass"
    heavy = {"torch", "numpy", "pandas", "diffusers", "torchvision", "sklearn", "yaml"}
    found = modules_after(code)
    assert "mgd3" in found and not heavy & found


def test_stages_without_a_network_import_none():
    """Both take seconds to import, and are what a short job would mostly do."""
    stages = ("discovery.modes", "methods.blocks", "metrics.stage", "reporting.tables")
    found = modules_after("\n".join(f"import mgd3.{stage}" for stage in stages))
    assert "torch" in found and not {"diffusers", "torchvision", "transformers"} & found
