"""The benchmarks measure what they say: equal work in both arms, honest tables, one document."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench_gpu
import bench_load
import bench_precision
import bench_sampling
import bench_scaling
import run_all
import timing
from timing import Row, Seconds

from mgd3.diffusion.sampling import SamplingSettings
from mgd3.evaluation.stage import read_split
from mgd3.planning.config import read_configs, resolve


def test_both_arms_of_synthesis_make_the_same_images(tmp_path):
    generator = bench_sampling.make_generator(bench_sampling.SIZES["tiny"])
    items = bench_sampling.make_items(generator, 3)
    settings = SamplingSettings(steps=6, t_sg=2, lambda_=0.5)
    plain = bench_sampling.plain(generator, items, settings, tmp_path)
    ours = bench_sampling.ours(generator, items, settings, tmp_path)
    usual = torch.from_numpy(np.stack(plain)).permute(0, 3, 1, 2)
    assert (usual.int() - ours.int()).abs().max() <= 1
    assert len(list(tmp_path.glob("*.png"))) == 3
    # The images tell items and guidance apart, so that equality says something.
    unguided = bench_sampling.ours(generator, items, SamplingSettings(steps=6, t_sg=6), tmp_path)
    assert (ours[0] != ours[1]).any() and (unguided != ours).any()


def test_precisions_are_compared_pair_by_pair():
    def arm(shift: float, wrong: int) -> bench_precision.Found:
        right = [np.arange(100) >= wrong + seed for seed in range(2)]
        modes, images = torch.ones(4, 9), torch.full((4, 3, 2, 2), 100 + round(shift))
        accuracies = [100.0 - wrong - seed for seed in range(2)]
        moved = [modes * (1 + shift / 100)] * 2
        return bench_precision.Found(
            moved, [images] * 2, [50 + shift] * 2, accuracies, accuracies, right
        )

    found = {bench_precision.REFERENCE: arm(0, 4), "rounded": arm(2, 7)}
    reference, rounded = bench_precision.table(found, [0, 1])[2:]
    assert reference == "| float32 |  |  |  | 95.5 ± 0.5 | 95.5 ± 0.5 |  |"
    assert rounded.startswith(
        "| rounded | 2.0% (2.0%) | +4.00% | 2.00 | 92.5 ± 0.5 | 92.5 ± 0.5 | -3.00 ["
    )


def test_the_row_whose_precision_is_changed_is_the_demos():
    config = resolve(read_configs([bench_precision.ROOT / "config.yaml"]))
    row = bench_precision.the_row(config)
    chosen = {"lambda": 1, "t_sg": 10, "cfg": 1.5, "precision": "float32"}
    assert chosen.items() <= row.settings.items() and row.generator == "mnist-dit"


def test_both_arms_of_loading_give_the_same_set(tmp_path):
    file = bench_load.write_set(tmp_path, classes=3, ipc=2, side=16)
    images, labels = bench_load.from_folder(tmp_path / "export" / "images")
    split, _ = read_split(file, None)
    assert torch.equal(images, split.images) and torch.equal(labels, split.labels)


def test_arms_run_in_turn_and_medians_are_kept():
    order = []

    def arm(name: str, times: list[float]):
        def work() -> Seconds:
            order.append(name)
            return Seconds(times[len(order) // 2 % len(times)], 1.0)

        return work

    found = timing.interleaved(
        {"a": arm("a", [5.0, 1.0, 2.0]), "b": arm("b", [3.0])}, 3, warm_up=False
    )
    assert order == ["a", "b"] * 3
    assert found == {"a": Seconds(2.0, 1.0), "b": Seconds(3.0, 1.0)}


@pytest.mark.parametrize(("ours", "verdict"), [(1.0, "met"), (1.5, "missed")])
def test_a_row_says_whether_its_gate_is_met(ours, verdict, tmp_path, capsys):
    row = Row("work", Seconds(2.0, 1.8), Seconds(ours, 0.9), 1.5, 0.5, "the machine")
    options = timing.arguments("Doc.").parse_args(["--json", str(tmp_path / "r.json")])
    timing.report(options, [row], ["more"])
    line = timing.table([row])[-1]
    assert f"1.5 {verdict}" in line and f"{2 / ours:.2f} (2.00)" in line
    assert f"{0.5 / ours:.0%} of the machine" in line
    assert line in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    assert timing.rows_of(found) == [row] and found["lines"] == ["more"]


def test_rows_together_are_their_sums():
    rows = [Row("a", Seconds(4, 3), Seconds(2, 1), 9, 1.0), Row("b", Seconds(2, 2), Seconds(1, 1))]
    assert timing.together("both", rows, 1.5) == Row("both", Seconds(6, 5), Seconds(3, 2), 1.5)
    assert timing.together("twice", rows[:1] * 2, None).limit == 2


def test_operations_are_those_of_the_products():
    model = torch.nn.Linear(5, 7, bias=False)
    images = torch.randn(3, 5)
    assert timing.flops(lambda: model(images)) == 2 * 3 * 5 * 7
    assert timing.training_flops(model, images.requires_grad_()) == 3 * 2 * 5 * 7


def test_a_straight_line_is_found():
    line = bench_scaling.Line("steps", (1, 2, 4), (3.0, 5.0, 9.0))
    assert line.fit == pytest.approx((1.0, 2.0)) and line.worst < 1e-9
    assert bench_scaling.Line("steps", (1, 2, 4), (3.0, 6.0, 9.0)).worst > 0.05


def test_only_the_section_of_a_target_is_replaced():
    text = run_all.OUTPUT.read_text(encoding="utf-8")
    for target in ("bench", "bench-gpu"):
        new = run_all.put(text, target, "| a \\1 |")
        assert f"<!-- begin: make {target} -->\n| a \\1 |\n<!-- end: make {target} -->" in new
        assert run_all.put(new, target, "again") == run_all.put(text, target, "again")
        outside = re.compile(f"<!-- begin: make {target} -->.*?<!-- end: make {target} -->", re.S)
        assert outside.sub("", new) == outside.sub("", text)
    with pytest.raises(ValueError, match="no <!-- begin: make bench -->"):
        run_all.put("nothing", "bench", "text")


@pytest.mark.parametrize("device", [None, "a GPU"])
def test_a_section_says_what_was_run_where_and_has_every_row(device):
    row = {"what": "work", "reference": vars(Seconds(2, 2)), "ours": vars(Seconds(1, 1)), "gate": 1}
    result = {"rows": [row], "lines": ["more"]} | ({"device": device} if device else {})
    text = run_all.section("bench", [("Loading", "bench_load.py", ("--ipc", "5"), result)], 60, 3.0)
    assert text.startswith("`make bench`, ") and "1 minutes" in text
    assert "load before it 3.0" in text
    assert (device or f"{timing.machine()['cores']} cores") in text.splitlines()[0]
    assert "| work | 2 | 1 | 2.00 (2.00) | 1 met |" in text
    assert "### Loading\n\n    python tests/benchmarks/bench_load.py --ipc 5\n\nmore" in text


def test_a_section_of_a_result_from_elsewhere_is_of_that_machine_and_says_what_is_missing():
    there = {"cpu": "a CPU", "cores": 16, "python": "3.99", "torch": "9.9"}
    result = {"rows": [], "lines": ["more"], "device": "a GPU", "machine": there, "load": 0.5,
              "date": "1 May 2020", "seconds": 240,
              "missing": ["latents", "soft labels"]}  # fmt: skip
    text = run_all.section("bench-gpu", [("Full size", "bench_gpu.py", (), result)], 60, 3.0)
    first, _, second, *_ = text.splitlines()
    assert first.startswith(
        "`make bench-gpu`, 1 May 2020, 4 minutes: a GPU, Python 3.99, torch 9.9;"
    )
    assert first.endswith("load before it 0.5.")
    assert second == "Not measured, in whole or in part: latents, soft labels."


def test_a_part_that_fails_leaves_what_was_measured_and_the_other_parts(tmp_path, capsys):
    row = Row("work", Seconds(2.0, 1.8), Seconds(1.0, 0.9))
    file = tmp_path / "r.json"
    seen = []

    def fails():
        yield "half"
        raise RuntimeError("no compiler")

    def works():
        seen.append(json.loads(file.read_text()))
        yield "whole"
        yield row
        seen.append(json.loads(file.read_text()))

    options = timing.arguments("Doc.").parse_args(["--json", str(file)])
    options.device = "cpu"
    rows, missing = bench_gpu.measure(options, {"first": fails(), "second": works()})
    assert rows == [row] and missing == ["first"]
    told = capsys.readouterr()
    assert "not measured: the rest of first (RuntimeError)" in told.out
    assert "no compiler" in told.err
    # The file as a kill would have left it: after the first part, and within the second.
    assert [(found["lines"], found["missing"]) for found in seen] == [
        (["half"], ["first", "second"]),
        (["half", "", "whole"], ["first", "second"]),
    ]
    assert timing.rows_of(seen[1]) == [row]
    found = json.loads(file.read_text())
    assert timing.rows_of(found) == [row] and found["missing"] == ["first"]


def test_every_benchmark_that_is_run_is_there():
    for _, file, _ in (*run_all.CPU, *run_all.GPU):
        assert (run_all.HERE / file).is_file()


def test_without_a_gpu_there_is_one_clear_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    with pytest.raises(SystemExit, match=r"^no CUDA device here: [^.\n]*$"):
        bench_gpu.main()


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_in_small(monkeypatch, tmp_path, capsys):
    result = tmp_path / "result.json"
    arguments = ["bench_gpu.py", "--tiny", "--repeats", "1", "--json", str(result)]
    monkeypatch.setattr(sys, "argv", arguments)
    bench_gpu.main()
    rows = timing.rows_of(json.loads(result.read_text()))
    assert len(rows) == 5 and all(row.ours.wall > 0 for row in rows)
    said = capsys.readouterr().out
    assert "images/s" in said and "| compiled | 2 |" in said
