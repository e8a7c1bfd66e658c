"""`resources: {compile: true}`: the same images to rounding, and a word where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mgd3.base.errors import UserError
from mgd3.diffusion.sampling import Item, SamplingSettings, sample
from mgd3.generators.dit import DiTGenerator


@pytest.mark.slow
def test_a_compiled_generator_makes_the_same_images(dit_folder: Path) -> None:
    settings = SamplingSettings(steps=4, t_sg=1, cfg=1.5)
    mode = torch.linspace(-1, 1, 256).view(4, 8, 8)
    items = [Item("class", k % 3, mode, k) for k in range(5)]
    plain, compiled = DiTGenerator.load(dit_folder), DiTGenerator.load(dit_folder)
    compiled.compile()
    # Batches of 3 and 2: the second has another shape.
    made = [
        torch.cat([part.latents for part in sample(generator, items, settings, generation_seed=0,
                                                   batch=3, keep_latents=True)])
        for generator in (plain, compiled)
    ]  # fmt: skip
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    torch.testing.assert_close(made[1], made[0], atol=1e-4, rtol=1e-4)


def test_a_missing_compiler_is_named(dit_folder: Path, monkeypatch) -> None:
    import torch._inductor.config

    torch._dynamo.reset()  # what was compiled before is not compiled again
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/no/compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    with pytest.raises(UserError, match="cannot be compiled on cpu") as error:
        DiTGenerator.load(dit_folder).compile()
    assert "compile: false" in str(error.value)
