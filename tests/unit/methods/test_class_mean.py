"""Means of real images."""

from __future__ import annotations

import torch

from mgd3.data.images import read_images
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.methods import Job, distiller


def test_each_image_is_the_mean_of_its_part_of_the_class(tmp_path):
    dataset, path = make_dataset("digits"), tmp_path / "index.parquet"
    write_index(dataset, path)
    job = Job(
        dataset=dataset, index=Index.read(path), classes=["digit-3"], ipc=2, generation_seed=0,
        settings={}, generator=None, modes=None, device="cpu", batch="auto",
    )  # fmt: skip
    (made,) = distiller("class-mean")(job).values()
    keys = job.training_images("digit-3", 2)
    second = read_images(dataset.source, keys[1::2], 32).float().mean(0)
    assert made.shape == (2, 3, 32, 32)
    assert torch.equal(made[1], second.round().to(torch.uint8))
