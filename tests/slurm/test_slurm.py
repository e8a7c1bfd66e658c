"""The workflow on a real SLURM, through the profile that users edit."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from cluster import CPU_PARTITION, GPU_PARTITION, GPU_TYPE, SlurmJob, jobs, running
from submitted import ACCOUNT, clustered, seen

from mgd3.planning.config import resolve
from workplace import Workplace

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

ON_GPU = ("train_vae", "train_generator", "latents", "sample", "evaluate")
ON_CPU = ("index", "pixels", "modes", "collect", "grid")
LOCAL = {
    "view",
    "tables",
    "overview",
    "cost",
    "cost-plot",
    "claims",
    "settings-table",
    "tables-page",
}


def of_rule(rule: str) -> list[SlurmJob]:
    return [job for job in jobs() if job.rules.startswith(f"rule_{rule}_")]


def wait_for(what: str, happened: Callable[[], bool], limit: float = 90) -> None:
    end = time.monotonic() + limit
    while not happened():
        assert time.monotonic() < end, f"waited {limit:g} s in vain: {what}"
        time.sleep(0.2)


def test_every_rule_is_sent_where_the_profile_says(finished: Workplace) -> None:
    for rules, partition in ((ON_GPU, GPU_PARTITION), (ON_CPU, CPU_PARTITION)):
        for rule in rules:
            sent = of_rule(rule)
            assert sent, f"no job of {rule}"
            for job in sent:
                assert (job.state, job.partition, job.account) == ("COMPLETED", partition, ACCOUNT)
                assert job.gpus == (f"{GPU_TYPE}:1" if rules is ON_GPU else "")
    (index,), (latents,) = of_rule("index"), of_rule("latents")
    assert (index.memory, index.limit) == ("8000M", "01:00:00")
    assert (latents.memory, latents.limit) == ("32000M", "02:00:00")


def test_small_rules_run_beside_the_driver(finished: Workplace) -> None:
    stages = {run.stage for run in seen(finished) if run.job == "local"}
    assert stages == LOCAL


def test_every_job_has_a_gpu_of_its_own(finished: Workplace) -> None:
    for run in seen(finished):
        on_gpu = run.stage.replace("-", "_") in ON_GPU
        assert run.device.isdecimal() if on_gpu else run.device == "none"
    using = [run for run in seen(finished) if run.device != "none"]
    assert len({run.device for run in using}) > 1
    for one, other in itertools.combinations(using, 2):
        if one.start < other.end and other.start < one.end:
            assert (one.device != other.device) == (one.job != other.job)


def test_sampling_blocks_share_a_job_one_after_the_other(finished: Workplace) -> None:
    runs = [run for run in seen(finished) if run.stage == "sample"]
    sent = of_rule("sample")
    assert (len(runs), len(sent)) == (8, 2)
    for job in sent:
        mine = [run for run in runs if run.job == job.id]
        assert len(mine) == 4
        assert all(a.end <= b.start for a, b in itertools.pairwise(mine))
        # Time for four, one after the other; memory for one.
        assert (job.limit, job.memory) == ("04:00:00", "16000M")


def test_nothing_is_left_to_do(finished: Workplace) -> None:
    assert finished.planned(clustered()) == {}


def test_a_job_out_of_memory_is_sent_again_with_more(again: Workplace) -> None:
    before = len(of_rule("modes"))
    config = {**clustered(), "ipc": [3]}
    (target,) = again.paths(config, "modes", "/kmeans/")
    again.run(config, target, "--set-resources", "modes:mem_mb=250 * attempt ** 4")
    first, second = of_rule("modes")[before:]
    assert (first.state, first.memory) == ("FAILED", "250M")
    assert (second.state, second.memory) == ("COMPLETED", "4000M")
    assert (again.path / target).is_file()


def distilled_set(place: Workplace, config: dict[str, Any]) -> str:
    (folder,) = place.paths(config, "collect", f"/{resolve(config).runs[1].slug}/")
    return f"{folder}/images.safetensors"


def start_sampling(place: Workplace, config: dict[str, Any]) -> subprocess.Popen[str]:
    """A driver whose first block is being sampled by a job of the cluster."""
    before = len(seen(place))
    driver = place.start(config, distilled_set(place, config))
    wait_for("a sampling job", lambda: any(r.stage == "sample" for r in seen(place)[before:]))
    assert running()
    return driver


def test_ctrl_c_cancels_the_jobs(again: Workplace) -> None:
    config = clustered(steps=900)
    driver = start_sampling(again, config)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode != 0, output
    wait_for("an empty queue", lambda: not running())
    assert of_rule("sample")[-1].state == "CANCELLED"
    assert not (again.path / distilled_set(again, config)).exists()
    # No lock is left: a dry run can plan the rest.
    assert again.planned(config, distilled_set(again, config)) == {"sample": 4, "collect": 1}


def test_a_killed_driver_is_resumed(again: Workplace) -> None:
    before, config = again.times(), clustered(steps=13)
    driver = start_sampling(again, config)
    driver.kill()
    driver.communicate(timeout=60)
    # The job knows nothing of it and ends well.
    wait_for("the job's end", lambda: not running(), limit=180)
    assert of_rule("sample")[-1].state == "COMPLETED"
    status, output = again.snakemake(config, distilled_set(again, config))
    assert status != 0
    assert "--unlock" in output
    again.run(config, distilled_set(again, config), "--unlock")
    # What the job finished counts.
    assert again.run(config, distilled_set(again, config)) == {"collect": 1}
    after = again.times()
    assert {file: after[file] for file in before} == before
