"""What MinMax's losses do to the small generator: diversity against plain fine-tuning.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_minmax_diversity.py

`mnist-dit` is fine-tuned on the embedded digits twice from the same seed, with the recipes of
`mnist-finetuned` and of `mnist-minmax`, which differ in the losses alone; so the order of the
images, the noise and the dropped labels are the same in both. Each samples the same number of
images for each class from the same noise, without guidance towards modes. Measures are taken within
each class on scaled latents and averaged over the classes:

    diversity   distance of a sample to the nearest other one (more is more diverse)
    cosine      mean cosine between two samples, what MinMax's diversity loss works on (less is)
    represent.  mean distance to the 50 nearest training images (less is closer to the data)
    precision, recall   share of samples among the training images, and the reverse

The rows `minmax - finetuned` are differences of the two, for each fine-tuning seed and their mean.
With `--scale` the two weights are multiplied, to see a direction that the published ones may be too
small to show in a short training.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mgd3.data import make_dataset
from mgd3.data.images import decode_images
from mgd3.data.index import Index, write_index
from mgd3.diffusion.sampling import Item, SamplingSettings, sample
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.finetuning import finetune
from mgd3.generators.registry import GENERATORS
from mgd3.metrics import measures

MEASURES = ("diversity", "cosine", "represent.", "precision", "recall")


def cosine(samples: np.ndarray) -> float:
    unit = samples / np.linalg.norm(samples, axis=1, keepdims=True)
    n = len(unit)
    return float(((unit @ unit.T).sum() - n) / (n * (n - 1)))


def originals(dataset, index: Index, generator: DiTGenerator) -> dict[str, np.ndarray]:
    images, labels = index.split("train")
    found = decode_images(dataset.source, images, generator.image_size)
    latents = generator.encode(found.pixels)[0].flatten(1).numpy()
    labels = np.array(labels)
    return {name: latents[labels == i] for i, name in enumerate(index.classes)}


def measure(
    generator: DiTGenerator, real: dict[str, np.ndarray], count: int, settings: SamplingSettings
) -> np.ndarray:
    """[len(MEASURES)], the mean over classes."""
    items = [Item(name, row, None, k) for row, name in enumerate(real) for k in range(count)]
    latents = torch.empty(len(items), *generator.latent_shape)
    for batch in sample(generator, items, settings, generation_seed=0, keep_latents=True):
        latents[batch.indices] = batch.latents
    found = []
    for row, of_class in enumerate(real.values()):
        made = latents[row * count : (row + 1) * count].flatten(1).numpy()
        found.append(
            (
                measures.diversity(made).mean(),
                cosine(made),
                measures.representativeness(made, of_class).mean(),
                *measures.precision_recall(made, of_class),
            )
        )
    return np.mean(found, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of the fine-tuning")
    parser.add_argument("--images", type=int, default=50, help="samples of a class")
    parser.add_argument("--steps", type=int, default=50, help="of the sampler")
    parser.add_argument("--max-steps-per-class", type=int, help="shorten the fine-tuning")
    parser.add_argument("--scale", type=float, default=1, help="of MinMax's two weights")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    dataset = make_dataset("mnist")
    settings = SamplingSettings(steps=options.steps, t_sg=0, cfg=1.5, cfg_channels="all")
    base = GENERATORS["mnist-dit"].folder
    plain, minmax = (GENERATORS[f"mnist-{name}"].finetune for name in ("finetuned", "minmax"))
    terms = minmax.minmax
    terms = dataclasses.replace(
        terms,
        representativeness=options.scale * terms.representativeness,
        diversity=options.scale * terms.diversity,
    )
    recipes = {"finetuned": plain, "minmax": dataclasses.replace(minmax, minmax=terms)}
    print(f"| generator | seed | {' | '.join(MEASURES)} | seconds |")
    print("|---|---|" + "---|" * (len(MEASURES) + 1))

    def row(name: str, seed: object, figures: np.ndarray, seconds: str = "") -> None:
        cells = " | ".join(f"{f:.4f}" for f in figures)
        print(f"| {name} | {seed} | {cells} | {seconds} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.parquet"
        write_index(dataset, path)
        untuned = DiTGenerator.load(base, device=options.device)
        real = originals(dataset, Index.read(path), untuned)
        row("mnist-dit", "", measure(untuned, real, options.images, settings))
        gained = []
        for seed in range(options.seeds):
            figures = {}
            for name, recipe in recipes.items():
                tuned = Path(folder) / f"{name}-{seed}"
                chosen = dataclasses.replace(
                    recipe, seed=seed, max_steps_per_class=options.max_steps_per_class
                )
                start = time.monotonic()
                finetune(dataset, path, base, chosen, tuned, options.device)
                seconds = f"{time.monotonic() - start:.0f}"
                generator = DiTGenerator.load(tuned, device=options.device)
                figures[name] = measure(generator, real, options.images, settings)
                row(f"mnist-{name}", seed, figures[name], seconds)
            gained.append(figures["minmax"] - figures["finetuned"])
            row("minmax - finetuned", seed, gained[-1])
        row("minmax - finetuned", "mean", np.mean(gained, axis=0))


if __name__ == "__main__":
    main()
