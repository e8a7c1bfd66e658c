"""Why RDED's rows on the embedded digits are poor: what its teacher says of half-size digits.

    snakemake --cores 2 --configfile workflow/presets/demo-methods.yaml --until train_teacher
    python tests/benchmarks/rded_teacher.py

RDED shows its teacher each crop at half the input's size amid the mean colour. Photographs bear
that; digits, white on black, get a grey frame that no training image has.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from mgd3 import teachers
from mgd3.base.artifacts import load_tensors
from mgd3.networks.augment import normalise

CACHE = Path("results/cache")
COUNT = 500


@torch.inference_mode()
def main() -> None:
    teacher = teachers.load(CACHE / "teachers/mnist/resnet10-64")
    test = load_tensors(CACHE / "pixels/mnist/test_64.safetensors", ("images", "labels"))
    order = torch.randperm(len(test["labels"]), generator=torch.Generator().manual_seed(0))
    images, labels = (test[key][order[:COUNT]] for key in ("images", "labels"))
    whole = normalise(images, teacher.mean, teacher.std)
    half = F.interpolate(whole, scale_factor=0.5, mode="bilinear", antialias=True)
    quarter = teacher.size // 4
    black = normalise(torch.zeros_like(images), teacher.mean, teacher.std)
    black[..., quarter:-quarter, quarter:-quarter] = half
    for name, shown in (
        ("whole", whole),
        ("half size amid the mean colour, as RDED shows them", F.pad(half, (quarter,) * 4)),
        ("half size amid black", black),
    ):
        said = teacher(shown).argmax(1)
        share = (said == labels.long()).float().mean().item()
        most = torch.bincount(said, minlength=len(teacher.classes))
        favourite = f"{most.max().item()} of {COUNT} are {teacher.classes[most.argmax()]}"
        print(f"{name}: {100 * share:.1f} % right; {favourite}")


if __name__ == "__main__":
    main()
