"""Jobs of the generators: training, fine-tuning, fetching; and the latents of real images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError
from . import fields, folders, formats
from .contract import Command, Job
from .fields import Choice, InFile, OutFile, OutFolder, Registered


def _known(name: str) -> Any:
    from ..generators.registry import get_generator

    return get_generator(name)


def _trained(name: str) -> Any:
    if (recipe := _known(name).recipe) is None:
        raise UserError(f"generator {name!r} is not trained here", "choose small-dit")
    return recipe


def _finetuned(name: str) -> Any:
    from ..generators.registry import GENERATORS

    if (recipe := _known(name).finetune) is None:
        raise UserError(
            f"generator {name!r} is not fine-tuned here",
            f"choose one of {', '.join(n for n, e in GENERATORS.items() if e.finetune)}",
        )
    return recipe


def _fetched(name: str) -> Any:
    if not (entry := _known(name)).hub:
        raise UserError(f"generator {name!r} is not fetched from the Hub", "choose dit or sd")
    return entry


def _precisions() -> tuple[str, ...]:
    from ..generators.registry import PRECISIONS

    return PRECISIONS


class _Training(Job):
    dataset: fields.Dataset
    index: formats.Index


class TrainVae(_Training, version=2, keeps_freed_memory=True, reads_images=True):
    """Train a small VAE."""

    generator: Annotated[str, Registered(_trained), "a name of the registry"]
    folder: folders.TrainedVae
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.threads import preparing
        from ..data import make_dataset
        from ..generators.training import train_vae

        dataset, recipe = make_dataset(self.dataset), _trained(self.generator)
        with preparing(self.device, self.threads) as device:
            train_vae(dataset, self.index, recipe, self.folder, device)


class TrainGenerator(_Training, version=3, keeps_freed_memory=True, reads_images=True):
    """Train a small DiT on its latents."""

    vae: folders.GeneratorsVae
    generator: Annotated[str, Registered(_trained), "a name of the registry"]
    folder: folders.TrainedDit
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.threads import preparing
        from ..data import make_dataset
        from ..generators.training import train_generator

        dataset, recipe = make_dataset(self.dataset), _trained(self.generator)
        with preparing(self.device, self.threads) as device:
            train_generator(dataset, self.index, recipe, self.vae, self.folder, device)


class FinetuneGenerator(_Training, version=2, keeps_freed_memory=True, reads_images=True):
    """Go on training a DiT on a data set."""

    base: folders.Base
    generator: Annotated[str, Registered(_finetuned), "a name of the registry"]
    folder: folders.TrainedDit
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.threads import preparing
        from ..data import make_dataset
        from ..generators.finetuning import finetune

        dataset, recipe = make_dataset(self.dataset), _finetuned(self.generator)
        with preparing(self.device, self.threads) as device:
            finetune(dataset, self.index, self.base, recipe, self.folder, device)


class FetchGenerator(Job, version=1, online=True):
    """Download a generator from the Hugging Face Hub."""

    generator: Annotated[str, Registered(_fetched), "a name of the registry, or a repository"]
    folder: folders.Fetched

    def run(self) -> None:
        from ..generators.fetch import fetch

        fetch(_fetched(self.generator), self.folder)


class Convert(Command):
    """A checkpoint of the original code to a pipeline folder."""

    family: Annotated[str, Choice(lambda: ("dit", "ldm")), "what the checkpoint is of"]
    checkpoint: Annotated[Path, InFile(), ".pt or .ckpt"]
    folder: Annotated[Path, OutFolder(recorded=False)]
    vae: Annotated[Path | None, fields.Path_(), "folder of the VAE of a dit"] = None
    heads: Annotated[
        int | None, fields.Number(1, 1024), "attention heads of a dit of unusual width"
    ] = None
    config: Annotated[
        Path | None, InFile(), "YAML file of an ldm; cin256-v2's values without it"
    ] = None

    def run(self) -> None:
        if self.family == "ldm":
            from ..generators.convert_ldm import convert_ldm

            return convert_ldm(self.checkpoint, self.config, self.folder)
        from ..generators.convert import convert_dit

        return convert_dit(self.checkpoint, self.vae, self.folder, self.heads)


class Latents(Job, version=3, keeps_freed_memory=True, reads_images=True):
    """Encode the train images of some classes."""

    dataset: fields.Dataset
    generator: folders.GeneratorsVae
    classes: fields.Classes
    size: fields.Side
    flip: Annotated[fields.Flag, "encode the mirrored images"] = False
    precision: Annotated[str, Choice(_precisions), "of the encoder; what is written is float32"] = (
        "float32"
    )
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..data import make_dataset
        from ..generators.latents import encode

        encode(
            make_dataset(self.dataset),
            self.generator,
            self.classes,
            int(self.size),
            self.output,
            pick_device(self.device),
            mirrored=self.flip,
            precision=self.precision,
        )
