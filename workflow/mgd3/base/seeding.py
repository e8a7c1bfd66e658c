"""The seed of every draw, from its name alone.

A draw is named by its stage and keys, for instance ("noise", generation seed, class, k). Nothing
else enters: not the batch, the block, the loader's order, the method or its settings. So results do
not depend on how work is split, and runs that share keys are paired.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Draw(StrEnum):
    """What is drawn. The values enter seeds: a member may be renamed, its value never."""

    AFFINE = "affine"
    D4M = "d4m"
    DIVERSITY = "diversity"
    DIVISIVE = "divisive"
    FINETUNE = "finetune"
    FINETUNE_ORDER = "finetune-order"
    FRECHET = "frechet"
    GAIN = "gain"
    GMM = "gmm"
    IDC_TRAINING = "idc-training"
    IDC_WARMUP = "idc-warmup"
    IMAGES = "images"
    INIT_GENERATOR = "init-generator"
    INIT_VAE = "init-vae"
    K_CENTER = "k-center"
    KMEANS = "kmeans"
    MANIFOLD = "manifold"
    MATCHING_NETWORK = "matching-network"
    MATCHING_NOISE = "matching-noise"
    MATCHING_STEP = "matching-step"
    MATCHING_TRAINING = "matching-training"
    MINIBATCH = "minibatch"
    NOISE = "noise"
    POSTERIOR = "posterior"
    RANDOM_MODES = "random-modes"
    RANDOM_REAL = "random-real"
    RDED = "rded"
    RDED_CROP = "rded-crop"
    RELABEL = "relabel"
    SPECTRAL = "spectral"
    SRE2L = "sre2l"
    SRE2L_VIEW = "sre2l-view"
    TEACHER = "teacher"
    TRAIN = "train"
    TRAIN_GENERATOR = "train-generator"
    TRAIN_VAE = "train-vae"
    VALIDATE_GENERATOR = "validate-generator"


def seed_of(stage: str, *keys: str | int) -> int:
    """A 63-bit seed: SHA-256 over the stage and the keys, types included."""
    text = "\x1f".join([stage, *(f"{type(k).__name__}:{k}" for k in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(stage: str, *keys: str | int) -> torch.Generator:
    """A CPU generator for one named draw. CPU, so that every device sees the same numbers."""
    import torch

    return torch.Generator("cpu").manual_seed(seed_of(stage, *keys))
