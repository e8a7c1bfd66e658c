"""CIFAR as a user plans it: fetched, or from where its files lie."""

from __future__ import annotations

from fake_cifar import make_cifar
from mgd3.data.cifar import CIFAR10
from workplace import Workplace, tiny


def test_without_a_root_the_archive_is_fetched(fresh: Workplace) -> None:
    for name in ("cifar10", "cifar100"):
        jobs = fresh.planned(tiny(datasets=[name]))
        assert jobs["fetch_dataset"] == jobs["index"] == 1
        assert jobs["latents"] >= 1


def test_of_files_with_a_root_nothing_is_fetched(fresh: Workplace) -> None:
    made = make_cifar(fresh.path, "cifar10", list(CIFAR10), train=30)
    archive = made.pack(fresh.path / "made.tar.gz")
    for root in (made.folder.name, archive.name):
        jobs = fresh.planned(tiny(datasets=[{"name": "cifar10", "root": root}]))
        assert "fetch_dataset" not in jobs
        assert jobs["index"] == 1
    copies = {"name": "cifar10-jpeg", "root": str(made.copies(fresh.path / "jpeg"))}
    jobs = fresh.planned(tiny(datasets=[copies]))
    assert "fetch_dataset" not in jobs and jobs["index"] == 1


def test_other_files_than_the_published_ones_run_where_that_is_wanted(fresh: Workplace) -> None:
    made = make_cifar(fresh.path, "cifar10", list(CIFAR10), train=30)
    of = {"name": "cifar10", "root": made.folder.name}
    config = tiny(datasets=[of], runs=[{"method": "random"}])
    (index,) = fresh.paths(config, "index")
    status, output = fresh.snakemake(config, index)
    assert status != 0
    assert "data_batch_1.bin (60 images) is not the published file" in output
    config["datasets"] = [{**of, "incomplete": "warn"}]
    fresh.run(config)
    assert "cifar10" in (fresh.path / "results/reports/tiny/tables/results.csv").read_text()
