"""A generator that is trained in seconds, and a protocol of as few."""

from __future__ import annotations

from dataclasses import replace

from mgd3.evaluation.protocols import PROTOCOLS, StepBudget
from mgd3.generators.recipes import DitRecipe, Recipe, VaeRecipe
from mgd3.generators.registry import GeneratorEntry

GENERATOR = GeneratorEntry(
    doc="a small DiT, hardly trained",
    recipe=Recipe(
        VaeRecipe(channels=(16, 16, 32), steps=20),
        DitRecipe(layers=1, heads=2, steps=20, batch=32, affine_copies=0),
    ),
    defaults={"cfg": 1.5, "cfg_channels": "all"},
)
PROTOCOL = replace(
    PROTOCOLS["hard-small"],
    name="outside-hard",
    description="`hard-small` with a dozen steps.",
    duration=StepBudget(12, 3),
    evaluations=1,
)
