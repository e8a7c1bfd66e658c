"""Whether bfloat16 moves accuracies: the demo's MGD3 row in float32, and in bfloat16 by stages.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_precision.py

The embedded digits with `mnist-dit`, settings and protocol of the MGD3 row of `config.yaml`. Large
generators encode their latents in bfloat16 and can sample in it; here that is done one after the
other:

    float32              latents (so modes), sampling and decoding in float32
    bfloat16 latents     the encoder in bfloat16, so that the modes are those of rounded latents
    ... and sampling     the network and the decoder, too
    float32, retrained   the images of the first, networks from another training seed: how far
                         accuracies are apart for no reason of the images

Classifiers are trained in float32 throughout, with equal seeds but in the last arm. Differences are
paired (`mgd3.reporting.statistics.paired_gain`), over generation seeds and test images. Six to
seven minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mgd3.base import artifacts
from mgd3.data.index import Index, write_index
from mgd3.data.pixels import write_pixels
from mgd3.discovery.modes import discover
from mgd3.evaluation.protocols import get_protocol
from mgd3.evaluation.stage import evaluate
from mgd3.generators.latents import Latents, encode
from mgd3.generators.registry import get_generator
from mgd3.methods import Job
from mgd3.methods.blocks import collect, make_block
from mgd3.planning.config import Config, Run, read_configs, resolve
from mgd3.reporting.statistics import paired_gain, summarise
from mgd3.reporting.tables.render import spread

ROOT = Path(__file__).parents[2]
REFERENCE = "float32"


@dataclass(frozen=True)
class Arm:
    """What is rounded: the encoder's arithmetic, the sampler's and decoder's; a training seed."""

    latents: str
    sampling: str
    training_seed: int = 0


ARMS = {
    REFERENCE: Arm("float32", "float32"),
    "bfloat16 latents": Arm("bfloat16", "float32"),
    "bfloat16 latents and sampling": Arm("bfloat16", "bfloat16"),
    "float32, retrained": Arm("float32", "float32", training_seed=1),
}


@dataclass
class Found:
    """Of an arm, an entry for each generation seed.

    Attributes:
        modes: float32 [classes x ipc, d]; images: uint8 [classes x ipc, ...].
        loss: of k-means: squared distances of the float32 latents to their nearest modes, summed.
        best, last: accuracies in per cent.
        right: of the last epoch, bool [n_test].
    """

    modes: list[Tensor] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)


def the_row(config: Config) -> Run:
    """MGD3 with the modes of k-means."""
    (run,) = (r for r in config.runs if r.method == "mgd3" and r.settings["modes"] == "kmeans")
    return run


class Bench:
    """The stages on files in a folder; a file that is there is not made again."""

    def __init__(self, config: Config, folder: Path, device: str) -> None:
        self._run = the_row(config)
        (self._dataset,), (self._ipc,) = config.datasets, config.ipc
        self._folder, self._device = folder, device
        self._generator = get_generator(self._run.generator).folder
        self._protocol = config.evaluation[0]["protocol"]
        (self._network,) = config.evaluation[0]["networks"]
        self._index, self._test = folder / "index.parquet", folder / "test.safetensors"
        write_index(self._dataset, self._index)
        pixels = get_protocol(self._protocol).pixels
        write_pixels(self._dataset, self._index, "test", pixels, self._test)

    def _latents(self, precision: str) -> Path:
        return self._folder / f"latents_{precision}.safetensors"

    def loss(self, modes: Path) -> float:
        """Of k-means, on the float32 latents."""
        self.modes("float32")
        latents = Latents([self._latents("float32")], Index.read(self._index))
        held, total = artifacts.load_tensors(modes), 0.0
        for name in latents.classes:
            away = torch.cdist(latents.mean(name).flatten(1), held[name].flatten(1))
            total += away.amin(1).square().sum().item()
        return total

    def modes(self, precision: str) -> Path:
        latents = self._latents(precision)
        modes = self._folder / f"modes_{precision}.safetensors"
        if not modes.is_file():
            classes = Index.read(self._index).classes
            options = {"device": self._device, "precision": precision}
            encode(self._dataset, self._generator, classes, self._dataset.size, latents, **options)
            settings = self._run.settings
            discover([latents], self._index, settings["modes"], self._ipc, 0, modes)
        return modes

    def distilled(self, arm: Arm, seed: int) -> Path:
        name = f"{arm.latents}_{arm.sampling}_gen{seed}"
        block, images = (self._folder / f"{name}{end}.safetensors" for end in ("_block", ""))
        if not images.is_file():
            index = Index.read(self._index)
            job = Job(
                dataset=self._dataset,
                index=index,
                classes=index.classes,
                ipc=self._ipc,
                generation_seed=seed,
                settings={**self._run.settings, "precision": arm.sampling},
                generator=self._generator,
                modes=self.modes(arm.latents),
                device=self._device,
                batch="auto",
            )
            make_block(self._run.method, job, block)
            collect([block], index.classes, images, self._folder / f"{name}.parquet")
        return images

    def run(self, name: str, arm: Arm, seed: int, found: Found) -> None:
        """Make, train on and judge one set."""
        images = self.distilled(arm, seed)
        scores, predictions = (self._folder / f"{name}_{seed}{end}" for end in (".json", ".st"))
        said = evaluate(
            images,
            self._test,
            None,
            protocol=self._protocol,
            network=self._network,
            generation_seed=seed,
            training_seed=arm.training_seed,
            flip=self._dataset.flip,
            device=self._device,
            context={},
            output=scores,
            predictions=predictions,
        )
        seen = artifacts.load_tensors(predictions)
        modes = artifacts.load_tensors(self.modes(arm.latents))
        found.loss.append(self.loss(self.modes(arm.latents)))
        found.modes.append(torch.cat([of.flatten(1) for of in modes.values()]))
        found.images.append(artifacts.load_tensors(images, ["images"])["images"])
        found.best.append(said["accuracy"]["best"])
        found.last.append(said["accuracy"]["last"])
        found.right.append((seen["last"] == seen["labels"]).numpy())


def table(found: Mapping[str, Found], seeds: Sequence[int]) -> list[str]:
    """Markdown: an arm a row, beside `REFERENCE`."""
    lines = [
        "| arm | modes moved by, mean (median) | k-means loss | images moved by (grey levels) "
        "| best | last | difference (last), paired |",
        "|---|---|---|---|---|---|---|",
    ]
    base = found[REFERENCE]
    modes, images = torch.cat(base.modes), torch.cat(base.images).float()
    for name, of in found.items():
        figures = [summarise(values) for values in (of.best, of.last)]
        moved = (torch.cat(of.modes) - modes).norm(dim=1) / modes.norm(dim=1)
        worse = np.mean(of.loss) / np.mean(base.loss) - 1
        levels = (torch.cat(of.images).float() - images).abs().mean()
        gain = paired_gain(np.stack(of.right), np.stack(base.right), list(seeds), seed=0)
        cells = [
            name,
            *(
                [f"{moved.mean():.1%} ({moved.median():.1%})", f"{worse:+.2%}", f"{levels:.2f}"]
                if of is not base
                else [""] * 3
            ),
            *(spread(figure.mean, figure.std) for figure in figures),
            f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]" if of is not base else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the generation")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    config, start = resolve(read_configs([ROOT / "config.yaml"])), time.monotonic()
    found = {name: Found() for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(config, Path(folder), options.device)
        for seed in options.seeds:
            for name, arm in ARMS.items():
                bench.run(name, arm, seed, found[name])
    print("\n".join(table(found, options.seeds)))
    print(f"\n{time.monotonic() - start:.0f} s; last by generation seed {options.seeds}:")
    for name, of in found.items():
        print(f"{name}: {', '.join(f'{value:.1f}' for value in of.last)}")


if __name__ == "__main__":
    main()
