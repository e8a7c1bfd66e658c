"""Modes to images: mode-guided sampling over a queue of items, against `Generator`.

There is one sampling loop, `denoise`. `sample` feeds it batches that mix classes; the diffusers
pipelines call it directly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..base.errors import UserError, did_you_mean
from ..base.memory import halving
from ..base.seeding import Draw, torch_generator
from ..generators.base import Generator, exact_float32
from .guidance import VARIANTS, Guidance, is_guided
from .manifold import Manifold, ManifoldSettings
from .names import MANIFOLD_VARIANTS, SPACINGS, STOP_RULES, STOP_UNITS, VARIANT_NAMES
from .schedules import Coefficients, Schedule, make_schedule

# Called after each step with i, x_{i-1} and the x0_hat predicted from x_i (both on the device,
# float32 [n, C, h, w]). Reading values from them makes the device wait.
Callback = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample. The defaults are the paper's for DiT-XL/2 at 256 px.

    Attributes:
        steps: length of the shortened schedule.
        variant: guidance variant, a key of `guidance.VARIANTS`.
        lambda_: strength of mode guidance; 0 is the unguided sampler. Not comparable between
            variants or generators.
        t_sg: stop guidance, as a step index 0 .. steps, or as a training timestep.
        cfg: scale of classifier-free guidance; 1 is the conditional prediction alone.
        cfg_channels: how many eps channels it acts on, the first ones; the original DiT's 3, or
            "all". The others and the variance are the conditional prediction's own.
        stop_rule: "code" guides while i > t_sg, "paper" while i >= t_sg.
        stop_unit: what t_sg counts: "step" or "timestep"; for the latter, i above is the training
            timestep of the step (as in the released code for Stable Diffusion).
        spacing: which training timesteps are walked; "auto" is the variant's own choice.
        clamp: bound on |x0_hat| inside the pull, in scaled latents; None for no bound.
        strength: for images begun from a noised latent, the share of the steps that are walked; 1
            walks all of them from pure noise, and the latent does not enter.
        manifold: ManifoldGD's tangent planes for guided images; None for mode guidance alone.

    Raises:
        UserError: a value outside its range.
    """

    steps: int = 50
    variant: str = "ddpm"
    lambda_: float = 0.1
    t_sg: int = 25
    cfg: float = 4.0
    cfg_channels: int | Literal["all"] = 3
    stop_rule: str = "code"
    stop_unit: str = "step"
    spacing: str = "auto"
    clamp: float | None = None
    strength: float = 1.0
    manifold: ManifoldSettings | None = None

    def __post_init__(self) -> None:
        _require_known("variant", self.variant, VARIANT_NAMES)
        _require_known("stop_rule", self.stop_rule, STOP_RULES)
        _require_known("stop_unit", self.stop_unit, STOP_UNITS)
        _require_known("spacing", self.spacing, SPACINGS)
        if self.t_sg < 0 or (self.stop_unit == "step" and self.t_sg > self.steps):
            raise UserError(
                f"t_sg = {self.t_sg} is outside 0..{self.steps}",
                f"t_sg is a step index: 0 guides to the end, {self.steps} does not guide at all",
            )
        if not (math.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UserError(
                f"lambda = {self.lambda_}", "set a number >= 0; a negative one would push away"
            )
        if not (math.isfinite(self.cfg) and self.cfg >= 0):
            raise UserError(f"cfg = {self.cfg}", "set a number >= 0; 1 switches it off")
        channels = self.cfg_channels
        if channels != "all" and (not isinstance(channels, int) or channels < 1):
            raise UserError(f"cfg_channels = {channels!r}", 'set a number >= 1, or "all"')
        if self.clamp is not None and not self.clamp > 0:
            raise UserError(f"clamp = {self.clamp}", "set a number > 0, or leave it out")
        if not 0 < self.strength <= 1:
            raise UserError(
                f"strength = {self.strength}",
                "set a number > 0 (stay near the latent) and <= 1 (begin from pure noise)",
            )
        if self.manifold is not None and self.variant not in MANIFOLD_VARIANTS:
            raise UserError(
                f"variant = {self.variant!r} has no manifold guidance",
                f"choose {' or '.join(MANIFOLD_VARIANTS)}",
            )

    @property
    def noise_draws(self) -> int:
        """Noise tensors that one image needs: z_T, and one per step but the last."""
        return self.steps if VARIANTS[self.variant].stochastic else 1

    @property
    def walked(self) -> int:
        """Steps from a noised latent to an image: steps * strength rounded down, at least one."""
        # The small number undoes what binary fractions lose: 100 * 0.29 is 28.999...
        return max(1, math.floor(self.steps * self.strength + 1e-9))


def _require_known(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{name} = {value!r} is unknown", did_you_mean(str(value), known))


class Item(NamedTuple):
    """One image to make.

    Attributes:
        class_key: what names the class in seeds and errors (a wnid).
        label: the generator's label row.
        mode: float32 [C, h, w], scaled latent; None for an unguided image.
        k: index of the image within its class.
        start: float32 [C, h, w], scaled latent that is noised to begin from; None for pure noise.
    """

    class_key: str
    label: int
    mode: Tensor | None
    k: int
    start: Tensor | None = None


class SampledBatch(NamedTuple):
    """Some finished items.

    Attributes:
        indices: their places in the list given to `sample`.
        images: uint8 [n, 3, H, W], on the CPU.
        latents: scaled, float32 [n, C, h, w], on the CPU; None unless asked for.
    """

    indices: list[int]
    images: Tensor
    latents: Tensor | None


def draw_noise(
    rngs: Sequence[torch.Generator | None], shape: tuple[int, int, int], draws: int
) -> Tensor:
    """Standard normal noise, float32 [draws, n, C, h, w], image by image.

    Row 0 is z_T, row r is added at step i = steps - r. Draw by draw, so that z_T does not depend
    on how many follow.

    Args:
        rngs: one per image (None: torch's global one). The same one may stand for several images.
        shape: (C, h, w).
    """
    device = next((rng.device for rng in rngs if rng is not None), torch.device("cpu"))
    noise = torch.empty(draws, len(rngs), *shape, device=device)
    for image, rng in enumerate(rngs):
        for draw in range(draws):
            noise[draw, image] = torch.randn(shape, generator=rng, device=device)
    return noise


def _predict(
    generator: Generator, x: Tensor, timestep: Tensor, labels: Tensor, scale: float, channels: int
) -> tuple[Tensor, Tensor | None]:
    """eps with classifier-free guidance eps_u + w (eps_c - eps_u), and the conditional v.

    `labels` is [2n], the null label in its second half, or [n] without classifier-free guidance.
    """
    n = len(x)
    if len(labels) == n:
        return generator.predict(x, timestep[:n], labels)
    eps, v = generator.predict(torch.cat([x, x]), timestep, labels)
    conditional, unconditional = eps[:n, :channels], eps[n:, :channels]
    guided = unconditional + scale * (conditional - unconditional)
    # The other channels, and v, are the conditional prediction's own.
    return torch.cat([guided, eps[:n, channels:]], dim=1), None if v is None else v[:n]


def schedule_of(generator: Generator, settings: SamplingSettings) -> Schedule:
    """The steps that `denoise` walks. Raises UserError as it does."""
    spacing = settings.spacing
    if spacing == "auto":
        spacing = VARIANTS[settings.variant].spacing
    return make_schedule(generator.alphas_cumprod, settings.steps, spacing, generator.steps_offset)


def guided_steps(schedule: Schedule, settings: SamplingSettings) -> list[bool]:
    """Whether stop guidance lets each step i = 0 .. steps - 1 be guided."""
    # Where each step stands on the scale that t_sg is given on.
    positions = range(settings.steps)
    if settings.stop_unit == "timestep":
        positions = schedule.timesteps.tolist()
    return [is_guided(position, settings.t_sg, settings.stop_rule) for position in positions]


@torch.no_grad()
def denoise(
    generator: Generator,
    labels: Tensor,
    noise: Tensor,
    modes: Tensor | None,
    settings: SamplingSettings,
    callback: Callback | None = None,
    starts: Tensor | None = None,
    manifold_rngs: Sequence[torch.Generator] = (),
) -> Tensor:
    """The sampling loop: noise to clean latents. The device never waits for the host in it.

    Args:
        labels: label rows, int64 [n].
        noise: float32 [settings.noise_draws, n, C, h, w]; see `draw_noise`.
        modes: float32 [n, C, h, w], scaled latents; None for unguided images.
        callback: called after each step.
        starts: float32 [n, C, h, w], scaled latents to begin from; None for pure noise. They are
            noised to step `settings.walked` - 1 with z_T, x = sqrt(abar) start + sqrt(1 - abar) z,
            and sampled from there. Each step has the noise that it has in a run of all steps.
        manifold_rngs: one CPU generator per image, for `settings.manifold`.

    Returns:
        Scaled latents, float32 [n, C, h, w] on the generator's device.

    Raises:
        UserError: more steps than the generator was trained with.
    """
    device = generator.device
    variant = VARIANTS[settings.variant]
    schedule = schedule_of(generator, settings)
    guided = guided_steps(schedule, settings)
    table, noise = schedule.table(device), noise.to(device)
    labels = labels.to(device)
    if settings.cfg != 1:
        labels = torch.cat([labels, torch.full_like(labels, generator.null_label)])
    timesteps = schedule.timesteps.to(device)[:, None].expand(-1, len(labels))
    channels = generator.latent_shape[0]
    if settings.cfg_channels != "all":
        channels = min(channels, settings.cfg_channels)
    guidance = manifold = None
    if modes is not None and settings.manifold is not None:
        stop = settings.t_sg if settings.stop_unit == "step" else 0
        manifold = Manifold(settings.manifold, manifold_rngs, settings.steps, stop)
    if modes is not None and (settings.lambda_ > 0 or manifold is not None):
        guidance = Guidance(modes.to(device), settings.lambda_, settings.clamp)
    with exact_float32(generator.dtype):
        x, walked = noise[0], settings.steps
        if starts is not None and settings.walked < settings.steps:
            walked = settings.walked
            first = Coefficients(*table[walked - 1].unbind())
            x = first.sqrt_abar * starts.to(device) + first.sqrt_one_minus_abar * x
        for i in reversed(range(walked)):
            c = Coefficients(*table[i].unbind())
            eps, v = _predict(generator, x, timesteps[i], labels, settings.cfg, channels)
            z = noise[settings.steps - i] if variant.stochastic and i > 0 else None
            pull = guidance if guided[i] else None
            if pull is not None and manifold is not None:
                pull = manifold.at(pull, x, i, c)
            x, x0_hat = variant.step(x, eps, v, c, z, pull)
            if callback is not None:
                callback(i, x, x0_hat)
    return x


def auto_batch(generator: Generator) -> int:
    """Images per batch by device: 64 on a CPU; on a GPU what its free memory holds, 64 images of
    256 px at most and more of smaller ones. An estimate: `sample` halves it when memory runs out.
    """
    device = torch.device(generator.device)
    if device.type != "cuda":
        return 64
    free, _ = torch.cuda.mem_get_info(device)
    return batch_by_memory(free, generator.latent_shape, generator.dtype)


def batch_by_memory(free: float, latent_shape: tuple[int, int, int], dtype: torch.dtype) -> int:
    """Images whose sampling step fits some memory, in bytes; generously counted, see the tests."""
    area = latent_shape[1] * latent_shape[2] / 32**2
    by_memory = free / (2**27 * dtype.itemsize * area)  # in 16 bits, 256 MiB for an image of 256 px
    return max(1, int(min(64 / area, by_memory, 1024)))


def sample(
    generator: Generator,
    items: Sequence[Item],
    settings: SamplingSettings,
    *,
    generation_seed: int,
    batch: int | Literal["auto"] = "auto",
    keep_latents: bool = False,
    callback: Callback | None = None,
) -> Iterator[SampledBatch]:
    """Make one image per item, in batches that mix classes.

    An image depends on the generator, the settings, its item and the generation seed, not on the
    batch it is in (float32: to rounding): its noise comes from its own CPU generator, seeded by
    ("noise", generation seed, class_key, k). Neither lambda, t_sg, strength nor the variant enters,
    so runs that share those keys are paired.

    Args:
        generation_seed: which of the repeated distilled sets this is.
        batch: images per batch, or "auto".
        keep_latents: also return the latents that were decoded.
        callback: called after each step of each batch.

    Yields:
        Finished batches; guided items come before unguided ones, and of each those that begin from
        a latent before the others.

    Raises:
        UserError: a mode or a start that has not the shape of the latents, a label the generator
            does not have, latents that are not finite, or too little memory for one image.
    """
    items = [Item(*item) for item in items]
    _require_fit(generator, items)
    size = auto_batch(generator) if batch == "auto" else batch
    if size < 1:
        raise UserError(f"batch = {batch}", 'set a number >= 1, or "auto"')
    queues: dict[tuple[bool, bool], list[int]] = {}
    for index, item in enumerate(items):
        queues.setdefault((item.mode is None, item.start is None), []).append(index)
    for _, queue in sorted(queues.items()):

        def make(part: slice, queue: list[int] = queue) -> SampledBatch:
            chosen = [items[index] for index in queue[part]]
            latents = _sample_batch(generator, chosen, settings, generation_seed, callback)
            _require_finite(latents, chosen, settings)
            images = generator.decode(latents).cpu()
            return SampledBatch(queue[part], images, latents.cpu() if keep_latents else None)

        yield from halving(
            len(queue),
            size,
            make,
            what=f"make one image on {generator.device}",
            mend="use a device with more memory, or a generator in bfloat16",
        )


def _sample_batch(
    generator: Generator,
    items: list[Item],
    settings: SamplingSettings,
    generation_seed: int,
    callback: Callback | None,
) -> Tensor:
    rngs = [torch_generator(Draw.NOISE, generation_seed, item.class_key, item.k) for item in items]
    noise = draw_noise(rngs, generator.latent_shape, settings.noise_draws)
    labels = torch.tensor([item.label for item in items])
    modes, starts = _stacked([i.mode for i in items]), _stacked([i.start for i in items])
    clouds = [
        torch_generator(Draw.MANIFOLD, generation_seed, item.class_key, item.k)
        for item in items
        if settings.manifold is not None
    ]
    return denoise(generator, labels, noise, modes, settings, callback, starts, clouds)


def _stacked(latents: list[Tensor | None]) -> Tensor | None:
    """All of them, float32 [n, C, h, w]; None where there are none."""
    return None if latents[0] is None else torch.stack([latent.float() for latent in latents])


def _require_fit(generator: Generator, items: list[Item]) -> None:
    shape = tuple(generator.latent_shape)
    for item in items:
        name = f"image {item.k} of class {item.class_key}"
        for what, latent in (("mode", item.mode), ("start", item.start)):
            if latent is not None and tuple(latent.shape) != shape:
                raise UserError(
                    f"the {what} of {name} has shape {tuple(latent.shape)}, "
                    f"the generator's latents {shape}",
                    "discover the modes in the latents of this generator's VAE, at its image size",
                )
        if not 0 <= item.label < generator.null_label:
            raise UserError(
                f"label {item.label} of {name} is outside 0..{generator.null_label - 1}",
                "this generator does not know the class: choose one trained on this data set",
            )


def _require_finite(latents: Tensor, items: list[Item], settings: SamplingSettings) -> None:
    finite = latents.isfinite().flatten(1).all(dim=1).tolist()
    if all(finite):
        return
    bad = [item for item, ok in zip(items, finite, strict=True) if not ok]
    others = f" (and {len(bad) - 1} others)" if len(bad) > 1 else ""
    guided = bad[0].mode is not None and settings.lambda_ > 0
    raise UserError(
        f"image {bad[0].k} of class {bad[0].class_key}{others} diverged: NaN or infinite latents",
        f"lower lambda (it is {settings.lambda_}), or set clamp, for instance 3"
        if guided
        else "the generator itself diverges: check its weights, its origin and the cfg scale",
    )
