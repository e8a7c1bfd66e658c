"""Every way to write a value that the configuration's schema admits becomes jobs."""

from __future__ import annotations

import json
import shutil

from fake_imagenet import make_imagenet
from mgd3.data.imagenet import subsets
from mgd3.networks.names import TIMM
from twins import make_dit_folder
from workplace import Workplace, own_images, parse_jobs, tiny

TIMM_NAMES = ("resnet10t", "resnet10t.c3_in1k", "repghostnet_050")


def evaluated(*protocols: str, networks: tuple[str, ...] = TIMM_NAMES) -> list[dict]:
    return [
        {"protocol": name, "networks": [f"{TIMM}{network}" for network in networks]}
        for name in protocols
    ]


def test_networks_of_timm_and_generators_by_folder_are_planned(fresh: Workplace) -> None:
    """Of each family of networks, a protocol; of the generators, a name and paths."""
    protocols = ("hard-small", "soft-small", "glad-small")
    folder = make_dit_folder(fresh.path / "my nets" / "a-dit", num_classes=2)
    index = json.loads((folder / "model_index.json").read_text())
    named = {**index, "id2label": {"0": "a", "1": "b"}}
    (folder / "model_index.json").write_text(json.dumps(named))
    shutil.copytree(folder, fresh.path / "b.dit")
    own_images(fresh.path / "own images", {"a": 20, "b": 20})
    (fresh.path / "classes.tsv").write_text("class\twnid\tprompt\na\tnew\tan a\nb\tnew\ta b\n")
    own = {"name": "own.1-x", "root": "own images", "flip": False, "size": 32}
    config = tiny(
        datasets=[own, {**own, "name": "own_2", "root": str(fresh.path / "own images")}],
        runs=[
            {"method": "random"},
            {"method": "unguided", "steps": 5,
             "generator": ["tiny-dit", "./my nets/a-dit", str(fresh.path / "b.dit")]},
        ],
        evaluation=evaluated(*protocols),
    )  # fmt: skip
    status, output = fresh.snakemake(config, "--dry-run", "--printshellcmds")
    assert status == 0, output[-3000:]
    assert parse_jobs(output)["evaluate"] == 2 * 4 * len(protocols) * len(TIMM_NAMES)
    for name in TIMM_NAMES:
        assert f"--network {TIMM}{name} " in output.replace("'", "")


def test_repositories_of_the_hub_are_planned(fresh: Workplace) -> None:
    make_imagenet(fresh.path / "imagenet", subsets()["imagenette"], val=1)
    generators = ["dit:owner/name", "dit:owner/name@0123abc", "sd:owner/name@v1.0"]
    config = tiny(
        datasets=[{"name": "imagenette", "incomplete": "warn"}],
        imagenet_root="imagenet",
        runs=[{"method": "unguided", "generator": generators}],
        evaluation=evaluated("hard", networks=("resnet10t",)),
    )
    assert fresh.planned(config)["evaluate"] == len(generators)
