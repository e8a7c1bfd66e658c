"""What the networks behind a row were trained on."""

from __future__ import annotations

import pytest

from made_scores import PAPER, Scores
from mgd3.generators.registry import GENERATORS
from mgd3.reporting.knowledge import UNSAID, knows, legend, more
from mgd3.reporting.tables import load_scores, make_tables
from mgd3.reporting.tables.paper import load_paper
from mgd3.reporting.tables.render import markdown

LITE0 = {"teacher": "efficientnet-lite0"}


@pytest.mark.parametrize(
    ("method", "generator", "settings", "protocol", "known"),
    [
        ("random", None, {}, "hard", "own"),
        ("unguided", "mnist-dit", {}, "hard", "own"),
        ("mgd3", "small-dit", {}, "hard", "own"),
        # Nothing but the generator has a say in what it makes by itself.
        ("unguided", "dit", {}, "hard", "ImageNet"),
        ("mgd3", "dit", {}, "hard", "own + ImageNet"),
        ("unguided", "dit-finetuned", {}, "hard", "own + ImageNet"),
        ("unguided", "sd", {}, "hard", "texts"),
        ("d4m", "sd", {}, "hard", "own + texts"),
        ("herding", None, {"teacher": "resnet10-64"}, "hard", "own"),
        ("herding", None, LITE0, "hard", "own + ImageNet"),
        ("random", None, {}, "soft", "own"),
        ("random", None, {}, "soft-lite0", "own + ImageNet"),
        ("unguided", "sd", {}, "soft-imagenet-teacher", "ImageNet + texts"),
        ("mgd3", "dit:someone/else", {}, "hard", f"own + {UNSAID}"),
    ],
)
def test_generator_teacher_and_labels_count_together(method, generator, settings, protocol, known):
    assert knows(method, generator, settings, protocol, "mine") == known


def test_every_generator_says_what_it_knows():
    for name in GENERATORS:
        assert UNSAID not in knows("unguided", name, {}, "hard", "mine"), name


def test_a_folder_that_is_gone_says_nothing(tmp_path):
    assert knows("unguided", f"{tmp_path}/gone", {}, "hard", "mine") == UNSAID


def test_more_and_legend():
    assert more("own + ImageNet", "own") == ["ImageNet"] and more("own", "own + texts") == []
    assert legend(["own", "own + texts"]).count(";") == 1


def test_the_table_says_who_knows_more_than_its_reference(tmp_path):
    scores = Scores(tmp_path)
    rows = [
        scores.add("random", 0.5, method="random", generator=None),
        scores.add("herding", 0.8, method="herding", generator=None, settings=LITE0),
        scores.add("unguided_mnist-dit", 0.7),
    ]
    table = make_tables(load_scores(scores.files), rows, load_paper(PAPER))
    assert dict(zip(table.run, table.knows, strict=True)) == {
        "random": "own",
        "herding": "own + ImageNet",
        "unguided_mnist-dit": "own",
    }
    text = markdown(table, "t")
    assert "| knows" in text and "ImageNet: ImageNet-1K, images and labels" in text
    told = [line for line in text.splitlines() if "More is known than by" in line]
    assert told == [
        f"* More is known than by `{rival}`, and a gain may come of that, by herding: ImageNet."
        for rival in ("unguided_mnist-dit", "random")
    ]
