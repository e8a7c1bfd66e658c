"""Presets: complete, independent of config.yaml, and holding the rows that the paper prints."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from mgd3.discovery import DISCOVERIES
from mgd3.evaluation.protocols import PROTOCOLS, SoftProtocol
from mgd3.generators.registry import get_generator
from mgd3.methods import METHODS, distiller
from mgd3.networks.names import NETWORKS
from mgd3.planning.config import resolve, schema
from mgd3.reporting.tables.paper import load_paper, paper_key, published
from mgd3.reporting.tables.results import (
    ALL_CROSS_DATASETS,
    CROSS_DATASETS,
    CROSS_FAMILY,
    CROSS_MEAN,
)

ROOT = Path(__file__).parents[3]
FILES = {file.stem: file for file in sorted((ROOT / "workflow" / "presets").glob("*.yaml"))}
PAPER = load_paper(ROOT / "workflow" / "mgd3" / "resources" / "paper_results.csv")
# What a preset leaves to the user: where ImageNet lies, and what `snakemake tune` searches, which
# changes no table.
USERS = {"imagenet_root", "tuning"}


def preset(name: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[name].read_text())


def test_every_published_table_of_this_family_has_a_preset():
    tables = {"table1-imagenette", "table1-imageidc", "table2-imagenet100", "table3-components"}
    tables |= {"table4-imagenet1k", "table6-modes", "table7-imagewoof", "table8-samplers"}
    tables |= {"table5-imagenet-a-e", "table10-labels", "sweep-t_sg", "sweep-lambda", "evening"}
    assert tables <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_preset_sets_every_key_and_is_named_after_its_file(name):
    raw = preset(name)
    assert set(raw) - USERS == set(schema()["properties"]) - USERS - {"set"}
    assert raw["name"] == name


def test_every_preset_with_soft_labels_has_a_row_of_random_images():
    """A teacher's labels carry much of the accuracy: only beside random images is a row read."""
    soft = {name for name, entry in PROTOCOLS.items() if isinstance(entry, SoftProtocol)}
    judged = {
        name: [run["method"] for run in preset(name)["runs"]]
        for name in FILES
        if soft & {entry["protocol"] for entry in preset(name)["evaluation"]}
    }
    assert {"table4-imagenet1k", "table10-labels"} <= set(judged)
    assert not [name for name, methods in judged.items() if "random" not in methods]


@pytest.mark.parametrize("name", FILES)
def test_a_preset_resolves_alike_whatever_config_yaml_holds(name):
    alone = preset(name)
    other = {
        "name": "other",
        "datasets": ["digits", "mnist"],
        "ipc": [1, 2, 3, 4, 5, 6, 7],
        "generation_seeds": [9],
        "runs": [{"method": "random", "lambda": 3}] * 20,
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"], "training_seeds": 7}],
        "resources": {"device": "cpu", "batch": 3, "classes_per_block": 1},
        "cache_dir": "/elsewhere",
    }
    assert set(other) == set(alone) - USERS
    merged = copy.deepcopy(other)
    update_config(merged, alone)  # as `snakemake --configfile` does
    assert merged == alone
    one, two = resolve(alone), resolve(merged)
    assert one.runs == two.runs and one.evaluation == two.evaluation
    assert (one.ipc, one.dataset_choices, one.cache_dir) == (
        two.ipc, two.dataset_choices, two.cache_dir
    )  # fmt: skip


def rows(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Its runs as written, sweeps unfolded."""
    unfolded = []
    for run in raw["runs"]:
        names = METHODS[run["method"]].swept()
        swept = {k: v if isinstance(v, list) else [v] for k, v in run.items() if k in names}
        for values in itertools.product(*swept.values()):
            unfolded.append({**run, **dict(zip(swept, values, strict=True))})
    return unfolded


def places(raw: dict[str, Any]) -> list[str]:
    """Its data sets, and the mean over them that the table has."""
    every = set(CROSS_DATASETS) <= set(raw["datasets"])
    return [*raw["datasets"], *([ALL_CROSS_DATASETS] if every else [])]


def figures(raw: dict[str, Any]) -> set[tuple]:
    """(table, dataset, ipc, network, method, generator, mean) printed for a preset's rows."""
    found = set()
    for run in rows(raw):
        settings = {k: v for k, v in run.items() if k not in ("method", "generator")}
        key = paper_key(run["method"], "slug", run.get("generator"), settings)
        for dataset, ipc, entry in itertools.product(places(raw), raw["ipc"], raw["evaluation"]):
            networks = list(entry["networks"])
            if set(networks) == set(NETWORKS[CROSS_FAMILY]):
                networks.append(CROSS_MEAN)
            for network in networks:
                for figure in published(PAPER, dataset, ipc, entry["protocol"], network, key):
                    for table in figure.table.split(","):
                        ipc_text = "" if key.method == "full" else str(ipc)
                        place = (table, dataset, ipc_text, network)
                        found.add((*place, key.method, key.generator, figure.mean))
    return found


# Rows that no run of ours is put beside, by (method, generator) as the paper has them.
UNMATCHED = {
    ("mgd3", "sd"), ("unguided", "sd"), ("d4m", "sd"),  # the paper does not state the sampler
}  # fmt: skip
# Likewise by (data set, method).
UNMATCHED_ON = {("imagenet100", "minmax"), ("imagenet1k", "minmax")}  # fine-tuned in phases


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("table1-imagenette", "1"),
        ("table1-imageidc", "1"),
        ("table2-imagenet100", "2"),
        ("table3-components", "3"),
        ("table4-imagenet1k", "4"),
        ("table5-imagenet-a-e", "5"),
        ("table6-modes", "6"),
        ("table7-imagewoof", "7"),
        ("table8-samplers", "8"),
        ("table10-labels", "10"),
    ],
)
def test_a_preset_has_every_row_that_its_table_prints(name, table):
    raw = preset(name)
    printed = PAPER[(PAPER.table == table) & PAPER.dataset.isin(places(raw))]
    # The paper's default has its own line in Table 6.
    printed = printed[printed.variant != "modes=kmeans"]
    columns = ["table", "dataset", "ipc", "network", "method", "generator", "mean"]
    expected = set(printed[columns].itertuples(index=False, name=None))
    expected = {row for row in expected if row[4:6] not in UNMATCHED}
    expected = {row for row in expected if (row[1], row[4]) not in UNMATCHED_ON}
    assert expected, "the table prints something"
    assert expected - figures(raw) == set()
    # And what stands in UNMATCHED is in the preset nevertheless.
    generators = {(run["method"], run.get("generator")) for run in rows(raw)}
    for method, generator in printed[["method", "generator"]].itertuples(index=False, name=None):
        if generator == "sd":
            assert (method, "sd") in generators
        if method == "minmax":
            assert ("unguided", "dit-minmax") in generators


@pytest.mark.parametrize("name", FILES)
def test_every_row_of_a_preset_can_be_run(name):
    """None is left out, and each has its method, its generator and its mode discovery."""
    raw = preset(name)
    config = resolve(raw)
    written = [(row["method"], row.get("generator")) for row in rows(raw)]
    assert [(run.method, run.generator) for run in config.runs] == written
    assert [entry["protocol"] for entry in config.evaluation] == [
        entry["protocol"] for entry in raw["evaluation"]
    ]
    for run in config.runs:
        if METHODS[run.method].distils:
            assert callable(distiller(run.method))
        if run.generator is not None:
            get_generator(run.generator)
        if "modes" in run.settings:
            assert run.settings["modes"] in DISCOVERIES


def test_minmax_is_a_row_of_its_own_name():
    config = resolve(preset("table7-imagewoof"))
    labels = {run.label for run in config.runs if run.method == "unguided"}
    assert {"MinMax, dit-minmax (CFG 4)", "unguided, dit (CFG 4)"} <= labels


def test_the_evening_is_three_methods():
    config = resolve(preset("evening"))
    methods = [run.method for run in config.runs]
    assert methods == ["random", "unguided", "unguided", "unguided", "mgd3"]


@pytest.mark.parametrize(
    "name",
    ["evening", "table1-imageidc", "table1-imagenette", "table2-imagenet100", "table4-imagenet1k",
     "table5-imagenet-a-e", "table7-imagewoof"],
)  # fmt: skip
def test_mgd3_is_beside_unguided_at_more_than_one_cfg(name):
    """At the CFG of the paper an unguided row is weak: less CFG is more variety."""
    runs = resolve(preset(name)).runs
    assert {1.5, 2, 4} <= {
        run.settings["cfg"] for run in runs if (run.method, run.generator) == ("unguided", "dit")
    }
