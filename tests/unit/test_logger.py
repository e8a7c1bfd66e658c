"""`snakemake --logger mgd3`, on a workflow that takes no time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from workplace import ROOT

SNAKEFILE = """
rule all:
    input: "mnist/ipc10/gen1.txt", config.get("more", [])

rule sample:
    output: "{dataset}/ipc{ipc}/gen{gen}.txt"
    log: "logs/{dataset}_ipc{ipc}_gen{gen}.log"
    shell:
        "(echo begun; echo 'note: 2 of 9 images left out:'; echo '    a.png') > {log}"
        " && touch {output}"

rule broken:
    output: "broken.txt"
    log: "logs/broken.log"
    shell: "(seq -f 'line %g' 20; echo 'error: no cat') > {log}; exit 1"
"""


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    (folder / "Snakefile").write_text(SNAKEFILE)
    done = subprocess.run(
        ["snakemake", "--cores", "1", *arguments, "--logger", "mgd3"],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "workflow"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_line_for_each_job_and_nothing_else(tmp_path):
    status, output = snakemake(tmp_path)
    assert status == 0
    lines = output.strip().splitlines()
    assert lines[0] == "2 jobs" and len(lines) == 4
    assert lines[1] == "note: 2 of 9 images left out:"
    assert re.fullmatch(r"1 of 2  \d:\d\d:\d\d  sample  mnist ipc10 gen1", lines[2])
    assert re.fullmatch(r"2 of 2  \d:\d\d:\d\d  all", lines[3])
    status, output = snakemake(tmp_path)
    assert status == 0 and output.startswith("Nothing to be done")


def test_of_a_failed_job_the_end_of_its_log(tmp_path):
    status, output = snakemake(tmp_path, "--config", "more=broken.txt")
    assert status != 0
    failed = output[output.index("FAILED") :]
    assert re.match(r"FAILED +broken\n +its log logs/broken.log ends:\n", failed)
    assert "| error: no cat" in failed and "| line 20" in failed and "| line 1\n" not in failed


def test_what_is_wrong_with_the_workflow_is_said(tmp_path):
    status, output = snakemake(tmp_path, "nothing/like/this")
    assert status != 0 and "No rule to produce nothing/like/this" in output
