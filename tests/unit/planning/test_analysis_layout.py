"""Which teacher judges, which runs make a curve, and which figures a configuration permits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mgd3.planning.config import resolve
from mgd3.planning.layout import Judge, Layout
from mgd3.stages import VERSIONS
from workplace import ROOT, own_images, tiny

MGD3 = {"method": "mgd3", "generator": "mnist-dit", "cfg": 1.5}
UNGUIDED = {"method": "unguided", "generator": "mnist-dit", "cfg": 1.5}


def layout(*runs: dict[str, Any], **changes: Any) -> Layout:
    return Layout(resolve(tiny(datasets=["mnist"], runs=list(runs), **changes)), ROOT, VERSIONS)


def evaluated(*protocols: str) -> list[dict[str, Any]]:
    networks = {"hard-small": "convnet3"}
    return [{"protocol": p, "networks": [networks.get(p, "conv3")]} for p in protocols]


def test_the_judge_is_the_teacher_that_the_configuration_has():
    small = Judge("mnist", "resnet10-64")
    assert layout(UNGUIDED).judge("mnist") == small
    herding = {"method": "herding", "teacher": "resnet18"}
    assert layout(UNGUIDED, herding).judge("mnist") == Judge("mnist", "resnet18")
    soft = {"evaluation": evaluated("hard-small", "soft-small")}
    assert layout(UNGUIDED, herding, **soft).judge("mnist") == small


def test_large_images_have_no_judge_unless_they_are_given_one(tmp_path: Path):
    own_images(tmp_path, {"one": 5, "two": 5})
    own_images(tmp_path, {"one": 5, "two": 5}, "val")
    data = {"name": "own", "root": str(tmp_path), "size": 128}
    runs = [{"method": "random"}]
    place = Layout(resolve(tiny(datasets=[data], runs=runs)), ROOT, VERSIONS)
    assert place.judge("own") is None
    assert place.verdicts("own", 2, 0) == place.verdict_on_originals("own") == []
    runs.append({"method": "herding", "teacher": "resnet18"})
    place = Layout(resolve(tiny(datasets=[data], runs=runs)), ROOT, VERSIONS)
    assert place.judge("own") == Judge("own", "resnet18")
    assert len(place.verdicts("own", 2, 0)) == 2


def test_a_teacher_of_imagenet_is_asked_in_wnids(tmp_path: Path):
    own_images(tmp_path, {"one": 5, "two": 5})
    own_images(tmp_path, {"one": 5, "two": 5}, "val")
    (tmp_path / "classes.tsv").write_text("class\twnid\none\tn01440764\ntwo\tn02102040\n")
    data = {"name": "own", "root": str(tmp_path), "classes": str(tmp_path / "classes.tsv")}
    evaluation = [{"protocol": "soft-imagenet-teacher", "networks": ["conv3"]}]
    config = tiny(datasets=[data], runs=[{"method": "random"}], evaluation=evaluation)
    judge = Layout(resolve(config), ROOT, VERSIONS).judge("own")
    assert judge == Judge("imagenet1k", "resnet18", ["n01440764", "n02102040"])


def slugs(runs: list[Any]) -> list[str]:
    return [run.slug for run in runs]


def test_stops_are_the_runs_that_differ_in_nothing_else():
    place = layout(
        UNGUIDED,
        {**UNGUIDED, "variant": "ddim"},
        {**MGD3, "lambda": 1, "t_sg": [30, 0, 10]},
        {**MGD3, "lambda": 0.5, "t_sg": 10},
        {**MGD3, "lambda": 1, "t_sg": 10, "variant": "ddim"},
    )
    plain, ddim, late, never, mid, weak, other = (run.slug for run in place.config.runs)
    for run in (late, never, mid):
        assert slugs(place.stops(run)) == [never, mid, late]
        assert slugs(place.unguided(run)) == [plain]
    assert slugs(place.stops(weak)) == [weak]
    assert slugs(place.unguided(other)) == [ddim]


def test_five_stops_of_many_are_traced_the_ends_among_them():
    place = layout({**MGD3, "t_sg": list(range(0, 51, 5))})
    runs = [run.slug for run in place.config.runs]
    assert [run.settings["t_sg"] for run in place.traced(runs[3])] == [0, 10, 25, 40, 50]
    assert place.unguided(runs[0]) == []


def test_figures_are_those_that_the_runs_permit():
    place = layout(UNGUIDED, {**MGD3, "t_sg": [0, 10]}, {**MGD3, "modes": "random", "t_sg": 10})
    files = place.figures()
    counts = {name: len(found) for name, found in files.items()}
    assert counts == {
        "figure3": 1, "figure4a": 1, "figure4b": 1, "figure5": 1, "figure6": 2, "figure7": 2,
        "figure9": 1, "appendix_e": 0, "modes_and_samples": 2,
    }  # fmt: skip
    of_one = layout(UNGUIDED, {**MGD3, "t_sg": [0, 10]}, ipc=[1]).figures()
    assert of_one["figure6"] == of_one["figure7"] == [], "a single image has no diversity"
    assert of_one["figure4b"] and of_one["figure9"]
    for target in ("figures", "metrics", "figure7"):
        assert all(path.startswith("results/reports/") for path in place.target(target))
    (reason,) = place.target("appendix_e")
    assert reason.startswith("appendix_e needs runs that differ in lambda only")
    assert not {"{", "}", "\n"} & set(reason), "it stands as a path"


def test_of_runs_with_the_same_modes_the_one_that_is_guided_most_stands_beside_them():
    place = layout({**MGD3, "lambda": [0, 1, 0.3], "t_sg": [50, 0, 10]})
    (file,) = place.figures()["modes_and_samples"]
    assert "lambda1_stop0_" in file


def test_without_a_generator_there_is_nothing_to_measure():
    place = layout({"method": "random"})
    assert not any(place.figures().values())
    for target in ("metrics", "figures", "figure3"):
        (reason,) = place.target(target)
        assert reason.startswith(f"{target} needs a run with a generator")


def test_a_gallery_needs_images_only():
    place = layout({"method": "random"}, ipc=[2, 5])
    assert place.gallery() == [place.report("gallery.html")]
    assert len(place.exhibits()) == 2 and place.from_modes == []
    assert place.target("gallery") == place.gallery()
    (reason,) = layout({"method": "full"}).target("gallery")
    assert reason.startswith("gallery needs a run that makes images")


def test_modes_stand_beside_what_is_sampled_from_them():
    generator = {"generator": "mnist-dit"}
    drawn = [{"method": "d4m", **generator}, {**MGD3, "t_sg": 10}]
    others = [{"method": method, **generator} for method in ("nearest", "decoded-modes")]
    place = layout(*others, UNGUIDED, *drawn)
    assert [run.method for run in place.from_modes] == ["d4m", "mgd3"]


def test_without_a_sweep_every_guided_run_has_its_trajectories():
    place = layout({**MGD3, "t_sg": 10}, {**MGD3, "modes": "random", "t_sg": 10})
    assert len(place.figures()["figure9"]) == 2
