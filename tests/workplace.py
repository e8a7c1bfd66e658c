"""A copy of the workflow in a folder of its own, called as a user calls it."""

from __future__ import annotations

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "slurm", "envs")
TINY: dict[str, Any] = {
    "name": "tiny",
    "datasets": ["digits"],
    "ipc": [2],
    "generation_seeds": [0],
    "runs": [
        {"method": "random"},
        {"method": "nearest", "generator": "tiny-dit"},
        {"method": "unguided", "generator": "tiny-dit", "steps": 12},
        {"method": "mgd3", "generator": "tiny-dit", "lambda": [0.1], "t_sg": [10], "steps": 12},
    ],
    "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"], "training_seeds": 1}],
    "resources": {"device": "cpu", "batch": "auto", "classes_per_block": 5},
    "cache_dir": "results/cache",
}
MGD3_RUN = 3
# Seconds after which a command hangs: no machine is so slow that it still works.
HANGS = 1800
# Trainings of a few steps, where what they learn is not looked at: in a file, what becomes what.
SHORTER: dict[str, dict[str, str]] = {
    "workflow/mgd3/evaluation/protocols/hard.py": {
        "StepBudget(steps=300, min_epochs=30)": "StepBudget(steps=4, min_epochs=4)"
    },
    "workflow/mgd3/evaluation/protocols/soft.py": {
        "StepBudget(steps=100, min_epochs=30)": "StepBudget(steps=2, min_epochs=2)"
    },
    "workflow/mgd3/teachers/__init__.py": {"steps=150, min_epochs=3": "steps=4, min_epochs=1"},
    "workflow/mgd3/generators/registry.py": {"steps=150": "steps=20", "steps=400": "steps=60"},
}
# CPU seconds that only a plan which grows faster than its jobs takes: 1,800 sampling jobs take 7 on
# an idle machine, and 15 to 19 beside other work, which shares the processor's caches.
SLOWEST_PLAN = 45


def tiny(**changes: Any) -> dict[str, Any]:
    """The small configuration with some keys replaced."""
    return {**copy.deepcopy(TINY), **changes}


def tiny_mgd3(**settings: Any) -> dict[str, Any]:
    """The small configuration with some settings of its mgd3 run replaced."""
    config = tiny()
    config["runs"][MGD3_RUN] |= settings
    return config


def parse_jobs(text: str) -> dict[str, int]:
    """Rule -> count from the job table that Snakemake prints; empty when nothing is to be done."""
    if "Job stats:" not in text:
        return {}
    table = text.split("Job stats:", 1)[1].split("\ntotal", 1)[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


@dataclass
class Workplace:
    """A copy of the workflow in a folder of its own.

    Attributes:
        how: where jobs run, as options of `snakemake`.
        env: variables of its environment, over those of the tests.
    """

    path: Path
    how: tuple[str, ...] = ("--cores", "2")
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, path: Path) -> Workplace:
        path.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_symlink():
                (path / part).symlink_to(source.readlink())
            elif source.is_dir():
                # With its compiled modules: times are kept, so they count for the copy, too.
                shutil.copytree(source, path / part, ignore=shutil.ignore_patterns("*.egg-info"))
            else:
                shutil.copy2(source, path / part)
        return cls(path)

    def copy(self, path: Path) -> Workplace:
        """With its results and Snakemake's records of them, times of modification kept."""
        shutil.copytree(self.path, path, symlinks=True)
        return Workplace(path, self.how, self.env)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change the package of this copy, as a user would."""
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new))

    def shorten(self, *files: str) -> None:
        """Change the package of this copy to train for a few steps: in these files, or in all."""
        for file in files or SHORTER:
            for old, new in SHORTER[file].items():
                self.edit(file, old, new)

    def start(
        self, config: dict[str, Any], *arguments: str, **options: Any
    ) -> subprocess.Popen[str]:
        """`snakemake` as a user calls it, on the package of this copy.

        Args:
            options: of `Popen`.
        """
        (self.path / "tiny.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "SNAKEMAKE_"))}
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": tools, "PYTHONPATH": str(self.path / "workflow"), **self.env}
        return subprocess.Popen(
            ["snakemake", *arguments, *self.how, "--configfile", "tiny.yaml"],
            cwd=self.path,
            env={**kept, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job ignores Ctrl-C, and so would what it starts.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            **options,
        )

    def snakemake(self, config: dict[str, Any], *arguments: str) -> tuple[int, str]:
        """Exit status and everything printed."""
        process = self.start(config, *arguments)
        output, _ = process.communicate(timeout=HANGS)
        return process.returncode, output

    def typed(self, *words: str) -> tuple[int, str]:
        """A command as it is typed in this folder: exit status and everything printed."""
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": tools, "PYTHONPATH": str(self.path / "workflow"), **self.env}
        done = subprocess.run(
            words,
            cwd=self.path,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANGS,
        )
        return done.returncode, done.stdout

    def mgd3(self, *arguments: str) -> tuple[int, str]:
        """A command of this copy's package: exit status and everything printed."""
        done = subprocess.run(
            [sys.executable, "-m", "mgd3.cli", *arguments],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(self.path / "workflow")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout

    def paths(self, config: dict[str, Any], stage: str, holds: str = "") -> list[str]:
        """The artefacts of a stage that a configuration has here, made or not."""
        (self.path / "tiny.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
        status, output = self.mgd3("graph", "tiny.yaml")
        assert status == 0, output
        found = re.findall(rf"^(?:made|to do) +{stage} +(.+)$", output, re.M)
        return [path for path in found if holds in path]

    def run(self, config: dict[str, Any], *arguments: str) -> dict[str, int]:
        """Run to the end; the jobs that were planned."""
        status, output = self.snakemake(config, *arguments)
        assert status == 0, output
        return parse_jobs(output)

    def planned(self, config: dict[str, Any], *arguments: str) -> dict[str, int]:
        """The jobs of a dry run."""
        return self.run(config, "--dry-run", *arguments)

    def times(self) -> dict[str, int]:
        """When each artefact was last written."""
        files = [
            file
            for file in (self.path / "results").rglob("*")
            if file.is_file() and not {"logs", "benchmarks", "reports"} & set(file.parts)
        ]
        return {str(f.relative_to(self.path)): f.stat().st_mtime_ns for f in files}


def own_images(root: Path, classes: dict[str, int], folder: str = "train") -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label, (name, count) in enumerate(classes.items()):
        (root / folder / name).mkdir(parents=True)
        pictures = digits.images[digits.target == label][:count]
        for k, picture in enumerate(pictures):
            path = root / folder / name / f"image {k}.png"
            Image.fromarray((picture * 15.9).astype("uint8")).resize((32, 32)).save(path)


def own_config(**changes: Any) -> dict[str, Any]:
    dataset = {"name": "own", "root": "own images", "flip": False, "validation_fraction": 0.3}
    return tiny(datasets=[dataset], runs=[{"method": "random"}], **changes)
