"""Names of samplers and guidance that a user may write, importable without torch.

The modules that implement them hold the same names; a test compares the two.
"""

from __future__ import annotations

# Guidance variants: mgd3.diffusion.guidance.VARIANTS.
VARIANT_NAMES: tuple[str, ...] = ("ddpm", "ddim", "ddim-x0", "ddim-sqrt-abar")

# When mode guidance stops: mgd3.diffusion.guidance.is_guided.
STOP_RULES: tuple[str, ...] = ("code", "paper")

# How ManifoldGD's tangent plane guides, and the variants that it is defined for:
# mgd3.diffusion.manifold.
MANIFOLD_RULES: tuple[str, ...] = ("code", "paper")
MANIFOLD_VARIANTS: tuple[str, ...] = ("ddpm", "ddim-x0")

# What `t_sg` counts: steps of the shortened schedule, or training timesteps.
STOP_UNITS: tuple[str, ...] = ("step", "timestep")

# Which training timesteps a sampler walks: mgd3.diffusion.schedules; "auto" is the variant's own
# choice.
SPACINGS: tuple[str, ...] = ("auto", "linspace", "leading")
