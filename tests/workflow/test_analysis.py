"""The paper's analysis, from clean: the same targets as `make analysis`, in a tiny form."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from mgd3.planning.config import resolve
from workplace import Workplace, tiny

MNIST = {"generator": "mnist-dit", "steps": 8, "cfg": 1.5}
CONFIG = tiny(
    datasets=["mnist"],
    runs=[
        {"method": "unguided", **MNIST},
        {"method": "mgd3", "lambda": 1, "t_sg": [0, 6], **MNIST},
        {"method": "nearest", "generator": "mnist-dit"},
    ],
)


@pytest.mark.analysis
def test_every_figure_of_the_paper_comes_from_clean(fresh: Workplace) -> None:
    fresh.run(CONFIG, "figures", "metrics")
    folder = fresh.path / "results/reports/tiny/figures"
    first = resolve(CONFIG).runs[1].slug
    made = {
        "trade_off", "accuracy_over_t_sg", f"images_over_t_sg_mnist_{first}_ipc2", "map_mnist_ipc2",
        "trade_off_images_mnist_ipc2_latent", "trade_off_images_mnist_ipc2_map",
        f"trade_off_over_t_sg_mnist_{first}_ipc2_latent",
        f"trade_off_over_t_sg_mnist_{first}_ipc2_map", f"trajectories_mnist_{first}_ipc2",
        f"modes_and_samples_mnist_{first}_ipc2",
    }  # fmt: skip
    assert {path.stem for path in folder.glob("*.png")} == made
    assert {path.stem for path in folder.glob("*.svg")} == made
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 200, path.name
    gallery = (fresh.path / "results/reports/tiny/gallery.html").read_text()
    assert gallery.count('class="mode"') == 2 * 10 * 2, "IPC 2, ten classes, two guided runs"
    table = pd.read_csv(fresh.path / "results/reports/tiny/tables/metrics.csv")
    spaces = ("latent", "map", "features")
    assert len(table) == len(spaces) * len(resolve(CONFIG).runs)
    seen = table[table.space == "features"]
    assert table[table.space != "features"][["diversity", "modes_hit"]].notna().all().all()
    judged = ["kid", "precision", "recall", "coverage", "agreement", "log_probability"]
    assert seen[[*judged, "nearest_train", "closer_than_99", "kid_real"]].notna().all().all()
    assert seen.agreement.between(0, 1).all() and (seen.log_probability < 0).all()
    assert seen[["frechet", "frechet_real"]].isna().all().all(), "20 images"
    held = {(row.run, row.space) for row in table.itertuples()}
    assert held == {(r.slug, space) for r in resolve(CONFIG).runs for space in spaces}
    copied = seen[seen.run.str.startswith("nearest")]
    assert copied.closer_than_99.item() == 1
    assert copied.nearest_train.item() < copied.nearest_train_real.item() / 4
    copies = table[table.run.str.startswith("nearest") & (table.space == "latent")]
    assert copies.memorisation.item() < 0.05, "they are training images"
    # Every file of the figures is there: nothing is left to do.
    status, output = fresh.snakemake(CONFIG, "figures", "metrics")
    assert status == 0 and "Nothing to be done" in output
