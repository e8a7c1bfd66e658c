"""Which teacher judges, which runs make a curve, and which figures a configuration permits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mgd3.base.errors import UserError
from mgd3.planning.config import resolve
from mgd3.planning.judges import Judge
from mgd3.planning.layout import Layout
from mgd3.planning.wiring import Wiring, compact
from mgd3.stages import VERSIONS
from workplace import ROOT, own_images, tiny

MGD3 = {"method": "mgd3", "generator": "mnist-dit", "cfg": 1.5}
UNGUIDED = {"method": "unguided", "generator": "mnist-dit", "cfg": 1.5}


def layout(*runs: dict[str, Any], **changes: Any) -> Layout:
    return Layout(resolve(tiny(datasets=["mnist"], runs=list(runs), **changes)), ROOT, VERSIONS)


def evaluated(*protocols: str) -> list[dict[str, Any]]:
    networks = {"hard-small": "convnet3"}
    return [{"protocol": p, "networks": [networks.get(p, "conv3")]} for p in protocols]


HERDING = {"method": "herding", "teacher": "resnet10-64"}


def test_a_network_that_had_a_part_in_a_row_does_not_judge_it():
    small, other = Judge("mnist", "resnet10-64"), Judge("mnist", "conv3-32")
    assert layout(UNGUIDED).judge("mnist") == small
    # There is another one at hand, which has no part in anything.
    place = layout(UNGUIDED, HERDING)
    assert place.judge("mnist") == other and place.judgings["mnist"].not_judged == {}
    soft = {"evaluation": evaluated("hard-small", "soft-small")}
    assert layout(UNGUIDED, **soft).judge("mnist") == other
    place = layout(UNGUIDED, {**HERDING, "teacher": "resnet18"})
    assert place.judge("mnist") == small and len(place.verdicts("mnist", 2, 0)) == 2


def test_a_row_is_not_judged_by_the_network_that_the_configuration_names_if_it_chose():
    place = layout(UNGUIDED, HERDING, judge="resnet10-64")
    run = place.config.runs[1].slug
    why = {run: "resnet10-64 made or chose the images (method herding)"}
    assert place.judgings["mnist"].not_judged == why
    (file,) = place.verdicts("mnist", 2, 0)
    assert place.config.runs[0].slug in file
    assert not any(f"/judged/mnist/resnet10-64/{run}/" in path for path in place.artefacts())
    asked = Wiring(place).judged(SimpleNamespace(dataset="mnist", ipc=2, gen=0))
    assert asked[:2] == ["--judged", file] and asked[-2:] == ["--not-judged", compact(why)]


def test_a_network_that_labels_every_row_judges_none():
    soft = {"evaluation": evaluated("soft-small"), "judge": "resnet10-64"}
    place = layout(UNGUIDED, {"method": "random"}, **soft)
    assert place.judge("mnist") is None
    assert place.verdicts("mnist", 2, 0) == place.verdict_on_originals("mnist") == []
    why = "resnet10-64 labels the images for students (protocol soft-small)"
    assert place.judgings["mnist"].not_judged == {run.slug: why for run in place.config.runs}


def test_a_network_that_chose_settings_does_not_judge_what_it_chose():
    tuned = {"tuning": [{"method": "mgd3", "grid": {"lambda": [0.5, 1]}}], "judge": "conv3-32"}
    data = {"datasets": [{"name": "mnist", "validation_fraction": 0.1}]}
    runs = [UNGUIDED, {**MGD3, "lambda": [0.5, 2]}]

    def out(**changes: Any) -> dict[str, str]:
        config = resolve({**tiny(runs=runs, **changes), **data})
        return Layout(config, ROOT, VERSIONS).judgings["mnist"].not_judged

    (run,) = out(**tuned)
    assert "lambda0.5" in run
    assert out(judge="conv3-32") == {}, "nothing says that it was tuned"
    assert out(**{**tuned, "judge": "resnet10-64"}) == {}


def test_large_images_have_no_judge_unless_they_are_given_one(tmp_path: Path):
    own_images(tmp_path, {"one": 5, "two": 5})
    own_images(tmp_path, {"one": 5, "two": 5}, "val")
    data = {"name": "own", "root": str(tmp_path), "size": 128}
    runs = [{"method": "random"}]
    place = Layout(resolve(tiny(datasets=[data], runs=runs)), ROOT, VERSIONS)
    assert place.judge("own") is None
    assert place.verdicts("own", 2, 0) == place.verdict_on_originals("own") == []
    (why,) = place.judgings["own"].not_judged.values()
    assert why.startswith("no network to judge with")
    # A method's teacher judges the rows of the others.
    runs.append({"method": "herding", "teacher": "resnet18"})
    place = Layout(resolve(tiny(datasets=[data], runs=runs)), ROOT, VERSIONS)
    assert place.judge("own") == Judge("own", "resnet18")
    assert len(place.verdicts("own", 2, 0)) == 1
    place = Layout(resolve(tiny(datasets=[data], runs=runs[:1], judge="resnet18")), ROOT, VERSIONS)
    assert place.judge("own") == Judge("own", "resnet18")
    place = Layout(
        resolve(tiny(datasets=[data], runs=runs, judge="efficientnet-lite0")), ROOT, VERSIONS
    )
    with pytest.raises(UserError, match="class 'one' of 'own' has no wnid of them"):
        place.judge("own")


def test_a_network_of_imagenet_is_asked_in_wnids(tmp_path: Path):
    own_images(tmp_path, {"one": 5, "two": 5})
    own_images(tmp_path, {"one": 5, "two": 5}, "val")
    (tmp_path / "classes.tsv").write_text("class\twnid\none\tn01440764\ntwo\tn02102040\n")
    data = {"name": "own", "root": str(tmp_path), "classes": str(tmp_path / "classes.tsv")}
    evaluation = [{"protocol": "soft-imagenet-teacher", "networks": ["conv3"]}]
    config = tiny(datasets=[data], runs=[{"method": "random"}], evaluation=evaluation)
    named = {"judge": "efficientnet-lite0"}
    place = Layout(resolve({**config, **named}), ROOT, VERSIONS)
    wnids = ["n01440764", "n02102040"]
    assert place.judge("own") == Judge("imagenet1k", "efficientnet-lite0", wnids)
    weights = "/teachers/imagenet1k/efficientnet-lite0~"
    assert any(weights in path for path in place.artefacts())
    # The protocol's teacher labels all rows.
    config["datasets"] = [{**data, "size": 128}]
    assert Layout(resolve(config), ROOT, VERSIONS).judge("own") is None


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
