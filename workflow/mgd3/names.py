"""Names a user may write in a configuration, importable without torch.

The modules that implement them hold registries with the same keys; a test compares the two.
"""

from __future__ import annotations

# Guidance variants: mgd3.guidance.VARIANTS.
VARIANT_NAMES: tuple[str, ...] = ("ddpm", "ddim", "ddim-x0", "ddim-sqrt-abar")

# When mode guidance stops: mgd3.guidance.is_guided.
STOP_RULES: tuple[str, ...] = ("code", "paper")

# How ManifoldGD's tangent plane guides, and the variants that it is defined for: mgd3.manifold.
MANIFOLD_RULES: tuple[str, ...] = ("code", "paper")
MANIFOLD_VARIANTS: tuple[str, ...] = ("ddpm", "ddim-x0")

# What `t_sg` counts: steps of the shortened schedule, or training timesteps.
STOP_UNITS: tuple[str, ...] = ("step", "timestep")

# Which training timesteps a sampler walks: mgd3.schedules; "auto" is the variant's own choice.
SPACINGS: tuple[str, ...] = ("auto", "linspace", "leading")

# Numbers a generator's network computes in: mgd3.runtime.network_dtype.
PRECISIONS: tuple[str, ...] = ("float32", "bfloat16")

# What is matched through a generator: mgd3.methods.priors.
OBJECTIVES: tuple[str, ...] = ("dc", "dm")

# Where a generator's weights come from: mgd3.generators.dit.
ORIGINS: tuple[str, ...] = ("diffusers", "dit")

# Mode discovery algorithms: mgd3.clustering.ALGORITHMS; the value says whether the generation seed
# enters.
DISCOVERIES: dict[str, bool] = {
    "kmeans": False,
    "nearest": False,
    "random": True,
    "gmm": False,
    "spectral": False,
    "dbscan": False,
    "divisive": False,
    "minibatch": False,
    "d4m": False,
}

# In place of the images per class, where a network is trained on the whole train split.
WHOLE_SPLIT = 0


def ipc_text(ipc: int) -> str:
    """Images per class for people."""
    return "all" if ipc == WHOLE_SPLIT else str(ipc)
