"""Mode-guided sampling as diffusers pipelines, for those who only want to sample.

pipe = ModeGuidedDiTPipeline.from_pretrained(folder)
images = pipe(class_labels=[207, 207], modes=modes, generator=[g0, g1]).images

Of a pipeline's scheduler only the training betas are used; which steps are walked follows from
`variant` and `spacing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    VQModel,
)
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from ..base.errors import UserError, did_you_mean
from ..generators.base import Generator
from ..generators.dit import ORIGINAL_DIT_IDS, DiTGenerator, Origin, match_original
from ..generators.pretrained import load_model, scheduler_config
from ..generators.registry import ORIGINS
from ..generators.unet import ClassEmbedder, UNetGenerator, encode_prompts
from ..generators.vae import VAECodec, load_vae
from .sampling import Callback, SamplingSettings, denoise, draw_noise

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class _ModeGuided:
    """What the pipelines of all families share: a `DiffusionPipeline` is to be mixed in."""

    @torch.no_grad()
    def _sample(
        self,
        model: Generator,
        labels: Tensor,
        modes: Tensor | Sequence[Tensor] | None,
        settings: SamplingSettings,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        output_type: str,
        return_dict: bool,
        callback: Callback | None,
    ) -> ImagePipelineOutput | tuple[Any]:
        if output_type not in OUTPUT_TYPES:
            raise UserError(
                f"output_type = {output_type!r}", did_you_mean(str(output_type), OUTPUT_TYPES)
            )
        targets = _targets(modes, len(labels), model)
        rngs = _generators(generator, len(labels))
        noise = draw_noise(rngs, model.latent_shape, settings.noise_draws)
        with self.progress_bar(total=settings.steps) as bar:

            def step(i: int, x: Tensor, x0_hat: Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(i, x, x0_hat)

            latents = denoise(model, labels, noise, targets, settings, step)
        images = latents if output_type == "latent" else _as(model.decode(latents), output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


class _ClassConditional(_ModeGuided):
    """Pipelines whose conditions are label rows; a family adds `_generator`."""

    def __call__(
        self,
        class_labels: int | Sequence[int],
        modes: Tensor | Sequence[Tensor] | None = None,
        mode_guidance_scale: float = 0.1,
        stop_guidance_step: int = 25,
        guidance_scale: float = 4.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int = 50,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        *,
        variant: str = "ddpm",
        stop_rule: str = "code",
        guidance_channels: int | Literal["all"] = 3,
        clamp: float | None = None,
        callback: Callback | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Sample one image per class label, in one batch.

        Args:
            class_labels: label rows.
            modes: scaled latents [n, C, h, w], one per image, or None to sample without modes.
            mode_guidance_scale: lambda.
            stop_guidance_step: t_SG, a step index 0 .. num_inference_steps.
            guidance_scale: of classifier-free guidance; 1 switches it off.
            generator: one per image, which makes each image independent of the others, or one for
                all, or None for torch's global one. They may live on the CPU.
            num_inference_steps: length of the shortened schedule.
            output_type: "pil" images, "np" float [n, H, W, 3] in [0, 1], "pt" float [n, 3, H, W]
                in [0, 1], or "latent": scaled latents, float32 [n, C, h, w].
            return_dict: return an `ImagePipelineOutput` rather than a tuple.
            variant, stop_rule, guidance_channels, clamp: as `variant`, `stop_rule`,
                `cfg_channels`, `clamp` of `sampling.SamplingSettings`.
            callback: called after each step with i, x_{i-1} and x0_hat.

        Raises:
            UserError: a setting out of range, or modes, labels or generators that do not match.
        """
        settings = SamplingSettings(
            steps=num_inference_steps,
            variant=variant,
            lambda_=mode_guidance_scale,
            t_sg=stop_guidance_step,
            cfg=guidance_scale,
            cfg_channels=guidance_channels,
            stop_rule=stop_rule,
            clamp=clamp,
        )
        labels = torch.as_tensor(class_labels, dtype=torch.long).reshape(-1)
        model = self._generator()
        return self._sample(
            model, labels, modes, settings, generator, output_type, return_dict, callback
        )


class ModeGuidedDiTPipeline(_ClassConditional, DiTPipeline):
    """DiT sampling with mode guidance and stop guidance, over any DiTPipeline folder or Hub id.

    Unlike the stock pipeline it samples with the learned variance, and guides as many channels as
    the original DiT.

    Args:
        transformer, vae, scheduler: the components of a DiTPipeline.
        id2label: label row -> names, comma separated; see `get_label_ids`.
        origin: "dit" if the weights are those of the original DiT, whose network differs in two
            constants. `from_pretrained` sets it for the two Hub ids that hold such weights, and
            `save_pretrained` remembers it.
    """

    def __init__(
        self,
        transformer: DiTTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: SchedulerMixin,
        id2label: dict[int, str] | None = None,
        origin: str = "diffusers",  # diffusers reads this annotation, and knows no Literal
    ) -> None:
        super().__init__(transformer, vae, scheduler, id2label)
        if origin not in ORIGINS:
            raise UserError(f"unknown origin {origin!r}", did_you_mean(origin, ORIGINS))
        self.register_to_config(id2label=id2label, origin=origin)
        if origin == "dit":
            match_original(transformer)

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, *, origin: Origin | None = None, **options: Any
    ) -> ModeGuidedDiTPipeline:
        """Load a folder or Hub id in the format of DiTPipeline.

        Args:
            origin: see the class; by default what the folder says, or "dit" for facebook's ids.
            options: those of `DiffusionPipeline.from_pretrained`, for instance `torch_dtype`.
        """
        if origin is None and str(folder_or_id) in ORIGINAL_DIT_IDS:
            origin = "dit"
        if origin is not None:
            options["origin"] = origin
        options.pop("use_safetensors", None)  # pickled weights are never read
        return super().from_pretrained(folder_or_id, use_safetensors=True, **options)

    def _generator(self) -> Generator:
        device = self._execution_device
        codec = VAECodec(self.vae, device)
        return DiTGenerator(self.transformer, codec, self.scheduler.config, device)


class ModeGuidedLDMPipeline(_ClassConditional, DiffusionPipeline):
    """Class-conditional latent diffusion with mode guidance and stop guidance.

    Its folders are those that `mgd3 convert --family ldm` and `save_pretrained` write; there is no
    stock pipeline of this kind in diffusers.

    Args:
        unet, vae, scheduler, class_embedder: the components; the last row of the embedder is the
            null class.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: VQModel,
        scheduler: SchedulerMixin,
        class_embedder: ClassEmbedder,
    ) -> None:
        super().__init__()
        self.register_modules(
            unet=unet, vae=vae, scheduler=scheduler, class_embedder=class_embedder
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, torch_dtype: torch.dtype = torch.float32
    ) -> ModeGuidedLDMPipeline:
        """Load a folder.

        Raises:
            UserError: a part is missing or damaged.
        """
        # diffusers looks for components in its own modules only, and ClassEmbedder is ours.
        return cls(
            load_model(UNet2DConditionModel, folder, "unet", dtype=torch_dtype),
            load_vae(folder, dtype=torch_dtype).vae,
            DDPMScheduler.from_config(scheduler_config(folder)),
            load_model(ClassEmbedder, folder, "class_embedder", dtype=torch_dtype),
        )

    def _generator(self) -> Generator:
        device = self._execution_device
        codec = VAECodec(self.vae, device)
        contexts = self.class_embedder.embedding.weight[:, None]
        return UNetGenerator(self.unet, codec, self.scheduler.config, contexts, device)


class ModeGuidedStableDiffusionPipeline(_ModeGuided, StableDiffusionPipeline):
    """Stable Diffusion v1 or v2 with mode guidance and stop guidance, over a stock folder or id.

    Images are not passed through a safety checker.
    """

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, **options: Any
    ) -> ModeGuidedStableDiffusionPipeline:
        """Load a folder or Hub id in the format of StableDiffusionPipeline.

        Args:
            options: those of `DiffusionPipeline.from_pretrained`, for instance `torch_dtype`.
        """
        options.pop("use_safetensors", None)  # pickled weights are never read
        for unused in ("safety_checker", "feature_extractor", "image_encoder"):
            options.setdefault(unused, None)
        options.setdefault("requires_safety_checker", False)
        return super().from_pretrained(folder_or_id, use_safetensors=True, **options)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        modes: Tensor | Sequence[Tensor] | None = None,
        mode_guidance_scale: float = 0.1,
        stop_guidance_timestep: int = 500,
        guidance_scale: float = 8.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int = 50,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        *,
        variant: str = "ddpm",
        stop_rule: str = "code",
        spacing: str = "leading",
        clamp: float | None = None,
        callback: Callback | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Sample one image per prompt, in one batch.

        Args:
            prompt: one, or one per image.
            stop_guidance_timestep: t_SG as a training timestep, 0 .. 1000, as the released code
                gives it for Stable Diffusion.
            spacing: of `sampling.SamplingSettings`.
            modes, mode_guidance_scale, guidance_scale, generator, num_inference_steps, output_type,
                return_dict, variant, stop_rule, clamp, callback: as for `ModeGuidedDiTPipeline`.

        Raises:
            UserError: a setting out of range, or modes, prompts or generators that do not match.
        """
        settings = SamplingSettings(
            steps=num_inference_steps,
            variant=variant,
            lambda_=mode_guidance_scale,
            t_sg=stop_guidance_timestep,
            cfg=guidance_scale,
            cfg_channels="all",
            stop_rule=stop_rule,
            stop_unit="timestep",
            spacing=spacing,
            clamp=clamp,
        )
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        device = self._execution_device
        # Each prompt is encoded once, however many images it has.
        rows = {text: row for row, text in enumerate(dict.fromkeys(prompts))}
        contexts = encode_prompts(self.tokenizer, self.text_encoder, [*rows, ""])
        codec = VAECodec(self.vae, device)
        model = UNetGenerator(self.unet, codec, self.scheduler.config, contexts, device)
        labels = torch.tensor([rows[text] for text in prompts])
        return self._sample(
            model, labels, modes, settings, generator, output_type, return_dict, callback
        )


def _targets(
    modes: Tensor | Sequence[Tensor] | None, n: int, generator: Generator
) -> Tensor | None:
    if modes is None:
        return None
    stacked = modes if isinstance(modes, Tensor) else torch.stack(list(modes))
    expected = (n, *generator.latent_shape)
    if tuple(stacked.shape) != expected:
        raise UserError(
            f"modes have shape {tuple(stacked.shape)}, expected {expected}",
            "give one scaled latent of this generator per image",
        )
    return stacked.float()


def _generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, n: int
) -> list[torch.Generator | None]:
    if generator is None or isinstance(generator, torch.Generator):
        return [generator] * n
    if len(generator) != n:
        raise UserError(
            f"{len(generator)} generators for {n} images", "give one generator per image"
        )
    return list(generator)


def _as(images: Tensor, output_type: str) -> Any:
    """uint8 [n, 3, H, W] as PIL images, or as floats in [0, 1]."""
    if output_type == "pt":
        return images.float() / 255
    pixels = images.permute(0, 2, 3, 1).cpu().float().numpy() / 255
    return DiTPipeline.numpy_to_pil(pixels) if output_type == "pil" else pixels
