"""Sizes and schedules of the small generators we train ourselves. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Weights = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class VaeRecipe:
    """A small AutoencoderKL, by default with two halvings: size x size pixels -> 4 x size/4 x
    size/4.

    Attributes:
        attention: whether the middle of encoder and decoder has a layer of attention.
        saved_as: dtype of the weights that are kept; training is in float32.
    """

    channels: tuple[int, ...] = (16, 32, 32)
    latent_channels: int = 4
    attention: bool = True
    steps: int = 2000
    batch: int = 32
    learning_rate: float = 2e-3
    kl_weight: float = 1e-4
    saved_as: Weights = "float32"


@dataclass(frozen=True)
class DitRecipe:
    """A small class-conditional DiT with learned-range variance, and its training.

    Attributes:
        affine_copies: slightly rotated, scaled and shifted copies of each training image that
            join it; few images make a network of this size repeat them otherwise.
        ema: decays of the averaged weights. Of several, those of the least loss on the validation
            split are kept.
        label_dropout: share of labels replaced by the null label, for CFG.
        min_snr: gamma of the Min-SNR weights of the noise prediction (Hang et al., ICCV 2023,
            arXiv 2303.09556, section 3.4), or None for equal weights.
        precision: of the network's arithmetic; weights and optimiser are float32.
        saved_as: dtype of the weights that are kept.
    """

    layers: int = 4
    heads: int = 4
    head_dim: int = 32
    patch: int = 2
    steps: int = 4500
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: int = 200
    ema: tuple[float, ...] = (0.999,)
    label_dropout: float = 0.1
    affine_copies: int = 9
    min_snr: float | None = None
    precision: Weights = "float32"
    saved_as: Weights = "float32"


@dataclass(frozen=True)
class Recipe:
    vae: VaeRecipe
    dit: DitRecipe
    seed: int = 0


@dataclass(frozen=True)
class MinMaxRecipe:
    """MinMax's further losses, see `minmax`; the defaults are MinimaxDiffusion's (train_dit.py).

    Attributes:
        representativeness: weight of the likeness to real latents.
        diversity: weight of the likeness to earlier generated ones.
        memory: latents of a class that are remembered, of either kind.
    """

    representativeness: float = 0.002
    diversity: float = 0.008
    memory: int = 64


@dataclass(frozen=True)
class FinetuneRecipe:
    """How a DiT is fine-tuned on a data set: DiT's own loss on latents of the train split.

    The defaults are those of MinimaxDiffusion's fine-tuning (train_dit.py), whose plain loss MGD3
    uses for ImageWoof (8 epochs).

    Attributes:
        base: the generator it starts from, by its name in the registry.
        parameters: "difffit" trains biases, the label table and scales of its own in the first
            half of the blocks, see `difffit`; "all" trains every weight.
        max_steps_per_class: training ends after this many steps for each class of the data set, if
            the epochs do not end before; None for the epochs alone.
        batch: images per optimiser step; an incomplete batch at an epoch's end is left out.
        accumulate: parts into which a batch is cut for memory; the step is the same.
        ema: decay of the averaged weights, which are the ones kept.
        label_dropout: share of labels replaced by the null label, for CFG.
        checkpointing: compute activations again in the backward pass, for memory.
        precision: of the network's arithmetic; weights and optimiser are float32.
        minmax: MinMax's losses, or None for DiT's own alone. They are of whole batches, which are
            then neither accumulated nor longer than the memories.
    """

    base: str = "dit"
    epochs: int = 8
    max_steps_per_class: int | None = None
    parameters: Literal["difffit", "all"] = "difffit"
    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    ema: float = 0.9999
    label_dropout: float = 0.1
    checkpointing: bool = True
    precision: Weights = "bfloat16"
    minmax: MinMaxRecipe | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.minmax and (self.accumulate > 1 or self.batch > self.minmax.memory):
            raise ValueError(
                "MinMax's losses need accumulate = 1 and a batch no longer than their memories"
            )
