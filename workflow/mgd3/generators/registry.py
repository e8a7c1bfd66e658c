"""The generator registry. Importable without torch, so that a configuration is checked at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..base.errors import UserError, did_you_mean
from ..base.paths import expanded, in_one_spelling
from ..base.registry import Registry, own_entries
from ..base.settings import require_typed
from .families import FAMILIES
from .families.base import VAE_FILES, WEIGHTS
from .recipes import DitRecipe, FinetuneRecipe, MinMaxRecipe, Recipe, VaeRecipe

# The files of a pipeline folder that the workflow declares, by family.
FAMILY_FILES: dict[str, tuple[str, ...]] = {name: f.files for name, f in FAMILIES.items()}
# `_class_name` in a folder's model_index.json -> family.
PIPELINES = {pipeline: name for name, family in FAMILIES.items() for pipeline in family.pipelines}
# What training a DiT here writes; its VAE is a stage of its own.
DIT_FILES = tuple(f for f in (*FAMILY_FILES["dit"], "training.json") if f not in VAE_FILES)


# Numbers a generator's network computes in: mgd3.base.device.network_dtype.
PRECISIONS: tuple[str, ...] = ("float32", "bfloat16")
# Where a DiT's weights come from: mgd3.generators.dit.
ORIGINS: tuple[str, ...] = ("diffusers", "dit")


@dataclass(frozen=True)
class HubFiles:
    """Files of one repository of the Hugging Face Hub.

    Attributes:
        repository: its id.
        revision: a commit, which pins the bytes; or a branch or tag.
        files: path in the generator's folder -> path in the repository.
    """

    repository: str
    revision: str
    files: Mapping[str, str]

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit."""
        return re.fullmatch("[0-9a-f]{40}", self.revision) is not None


@dataclass(frozen=True)
class GeneratorEntry:
    """A generator and the settings that belong to it.

    Where its weights come from is one of `recipe`, `finetune`, `folder` and `hub`; a generator
    without any is put into the cache by hand (`mgd3 convert`).

    Attributes:
        family: a key of `FAMILIES`.
        recipe: how the workflow trains it on the data set at hand.
        finetune: how the workflow fine-tunes another generator on the data set at hand.
        folder: where ready weights lie.
        hub: what is fetched from the Hub.
        dataset: the only data set it knows, if it is bound to one.
        origin: "dit" for weights of the original DiT; see `dit.match_original`.
        encoder: name of its image encoder; generators that share one share latents. None for an
            encoder of its own.
        image_size: side of the images it makes, in pixels; None for the data set's own.
        by_hand: where its weights come from if the workflow cannot get them: a mend for users.
        defaults: sampling settings that suit it, where a run names none.
        method: what tables call its unguided images, if making it is a method of its own.
    """

    doc: str
    family: str = "dit"
    recipe: Recipe | None = None
    finetune: FinetuneRecipe | None = None
    folder: Path | None = None
    hub: tuple[HubFiles, ...] = ()
    dataset: str | None = None
    origin: str = "diffusers"
    encoder: str | None = None
    image_size: int | None = None
    by_hand: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    method: str = ""

    @property
    def of_dataset(self) -> bool:
        """Whether there is one for each data set."""
        return bool(self.recipe or self.finetune)

    @property
    def draw(self) -> str:
        """What of an image's posterior its modes are found in."""
        return FAMILIES[self.family].draw

    @property
    def encoded_in(self) -> str:
        """The precision of its image encoder: the one it samples in where a run names none."""
        return self.defaults.get("precision", "float32")

    @property
    def files(self) -> tuple[str, ...]:
        """Its files, relative to its folder: of a user's own folder those that are there."""
        if self.folder is None:
            return FAMILY_FILES[self.family]
        from .folder import pipeline_files

        return pipeline_files(self.folder, self.family)


_RESOURCES = Path(__file__).parents[1] / "resources" / "generators"
_SMALL = {"cfg": 1.5, "cfg_channels": "all", "clamp": 3.0}
# Large networks run in 16 bits; the sampler's arithmetic is float32 in any case.
_LARGE = {"precision": "bfloat16"}


def _vae(name: str, revision: str) -> HubFiles:
    files = {f"vae/{file}": file for file in ("config.json", WEIGHTS)}
    return HubFiles(f"stabilityai/{name}", revision, files)


def _whole(repository: str, revision: str, family: str, *, vae: bool = True) -> HubFiles:
    files = {f: f for f in FAMILY_FILES[family] if vae or f not in VAE_FILES}
    return HubFiles(repository, revision, files)


_DIT = _whole("facebook/DiT-XL-2-256", "eab87f77abd5aef071a632f08807fbaab0b704d0", "dit", vae=False)
_FT_MSE = _vae("sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493")
_FT_EMA = _vae("sd-vae-ft-ema", "f04b2c4b98319346dad8c65879f680b1997b204a")
_SD = _whole(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", "sd"
)
# sd-vae-ft-mse and -ema differ in their decoders only.
_FT_ENCODER = "sd-vae-ft"
# For 3230 digits and a network of this size: fewer steps, and an average over fewer of them.
_SMALL_FINETUNE = FinetuneRecipe(
    base="mnist-dit", epochs=4, ema=0.999, checkpointing=False, precision="float32"
)

_OWN: dict[str, GeneratorEntry] = {
    "mnist-dit": GeneratorEntry(
        doc="the small DiT of this repository, trained on the train split of `mnist`",
        folder=_RESOURCES / "mnist-dit",
        dataset="mnist",
        encoder="mnist-dit",
        defaults=_SMALL,
    ),
    "mnist-finetuned": GeneratorEntry(
        doc="`mnist-dit` fine-tuned with DiT's own loss, to compare `mnist-minmax` with",
        finetune=_SMALL_FINETUNE,
        dataset="mnist",
        encoder="mnist-dit",
        defaults=_SMALL,
    ),
    "mnist-minmax": GeneratorEntry(
        doc="`mnist-dit` fine-tuned with MinMax's losses",
        finetune=replace(_SMALL_FINETUNE, minmax=MinMaxRecipe()),
        dataset="mnist",
        encoder="mnist-dit",
        defaults=_SMALL,
        method="MinMax",
    ),
    "small-dit": GeneratorEntry(
        doc="a small VAE and DiT trained on the data set at hand (`mnist-dit` was made by it)",
        recipe=Recipe(VaeRecipe(), DitRecipe()),
        defaults=_SMALL,
    ),
    "tiny-dit": GeneratorEntry(
        doc="`small-dit` with a short training: about a minute, for trying things out",
        recipe=Recipe(
            VaeRecipe(channels=(16, 16, 32), steps=150),
            DitRecipe(layers=2, heads=2, steps=400, batch=64, affine_copies=2),
        ),
        defaults=_SMALL,
    ),
    "photo-dit": GeneratorEntry(
        doc="a VAE and DiT for small photographs, trained on the data set at hand: hours on a CPU",
        recipe=Recipe(
            VaeRecipe(
                channels=(32, 32, 64),
                latent_channels=8,
                attention=False,
                steps=8000,
                saved_as="bfloat16",
            ),
            DitRecipe(
                layers=5,
                heads=4,
                head_dim=64,
                steps=10_000,
                batch=256,
                learning_rate=7e-4,
                warmup=500,
                ema=(0.999, 0.9995, 0.9998),
                affine_copies=0,
                min_snr=5.0,
                saved_as="bfloat16",
            ),
        ),
        defaults=_SMALL,
    ),
    "dit": GeneratorEntry(
        doc="DiT-XL/2 at 256 px with the VAE sd-vae-ft-mse, the paper's generator",
        hub=(_DIT, _FT_MSE),
        origin="dit",
        encoder=_FT_ENCODER,
        image_size=256,
        defaults={**_LARGE, "cfg": 4.0, "cfg_channels": 3},
    ),
    "dit-vae-ema": GeneratorEntry(
        doc="`dit` with the VAE sd-vae-ft-ema, which decodes differently",
        hub=(_DIT, _FT_EMA),
        origin="dit",
        encoder=_FT_ENCODER,
        image_size=256,
        defaults={**_LARGE, "cfg": 4.0, "cfg_channels": 3},
    ),
    "dit-finetuned": GeneratorEntry(
        doc="`dit` fine-tuned on the data set at hand for 8 epochs, the paper's for ImageWoof",
        finetune=FinetuneRecipe(),
        origin="dit",
        encoder=_FT_ENCODER,
        image_size=256,
        defaults={**_LARGE, "cfg": 4.0, "cfg_channels": 3},
    ),
    "dit-minmax": GeneratorEntry(
        doc="`dit` fine-tuned with MinMax's losses, its weights at step 12,000 for ten classes",
        finetune=FinetuneRecipe(max_steps_per_class=1200, minmax=MinMaxRecipe()),
        origin="dit",
        encoder=_FT_ENCODER,
        image_size=256,
        defaults={**_LARGE, "cfg": 4.0, "cfg_channels": 3},
        method="MinMax",
    ),
    "ldm": GeneratorEntry(
        doc="class-conditional ImageNet latent diffusion (cin256-v2), made by `mgd3 convert`",
        family="ldm",
        image_size=256,
        by_hand="download https://ommer-lab.com/files/latent-diffusion/nitro/cin/model.ckpt and "
        "run `mgd3 convert --family ldm --checkpoint model.ckpt --folder` with that folder",
        defaults={**_LARGE, "cfg": 4.0, "cfg_channels": "all"},
    ),
    "sd": GeneratorEntry(
        doc="Stable Diffusion v1-5 at 512 px, from prompts",
        family="sd",
        hub=(_SD,),
        image_size=512,
        defaults=dict(FAMILIES["sd"].sampling),
    ),
}


def _check(name: str, found: Any) -> GeneratorEntry:
    if not isinstance(found, GeneratorEntry):
        raise TypeError("it is no mgd3.generators.registry.GeneratorEntry")
    require_typed(found)
    if found.family not in FAMILIES:
        raise ValueError(f"unknown family {found.family!r}, known: {', '.join(FAMILIES)}")
    if not is_registered(name):
        raise ValueError("its name has a slash")
    return found


# A package installed beside this one adds an entry by an entry point of the group.
GENERATORS: Registry[GeneratorEntry] = Registry(
    "mgd3.generators", "generator", lambda: own_entries(_OWN), _check
)

# FAMILY:owner/name or FAMILY:owner/name@revision
_HUB_ID = re.compile(r"(dit|sd):([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


def is_registered(name: str) -> bool:
    """Whether a generator's name is the registry's own: no folder, no repository of the Hub."""
    return "/" not in name


def get_generator(name: str) -> GeneratorEntry:
    """The entry of a registry name, of a pipeline folder (`./my-dit`), or of a Hub repository.

    Args:
        name: a repository is written FAMILY:owner/name or FAMILY:owner/name@revision, the family
            dit or sd; without a revision it is what `main` is when it is fetched.

    Raises:
        UserError: an unknown name, or a folder that lacks its VAE or another part.
    """
    if is_registered(name):
        if name not in GENERATORS:
            raise UserError(
                f"unknown generator {name!r}",
                f"{did_you_mean(name, GENERATORS)} A folder is given as a path with a slash: "
                "./my-dit",
            )
        return GENERATORS[name]
    if match := _HUB_ID.fullmatch(name):
        family, repository, revision = match.groups()
        return GeneratorEntry(
            doc=f"{repository} of the Hugging Face Hub",
            family=family,
            hub=(_whole(repository, revision or "main", family),),
            image_size=FAMILIES[family].image_size,
            defaults=dict(FAMILIES[family].sampling),
        )
    return _folder_entry(name)


def _folder_entry(name: str) -> GeneratorEntry:
    from .folder import check_folder, read_json

    folder = expanded(name)
    family = check_folder(folder)
    network = read_json(folder / FAMILIES[family].network / "config.json")
    halvings = len(read_json(folder / "vae" / "config.json").get("block_out_channels", ())) - 1
    size = network.get("sample_size")
    return GeneratorEntry(
        doc=f"a {FAMILIES[family].pipelines[0]} folder",
        family=family,
        folder=folder,
        image_size=size * 2**halvings if isinstance(size, int) and halvings >= 0 else None,
        defaults=dict(FAMILIES[family].sampling),
    )


def slug_of(name: str) -> str:
    """The generator's name in paths: itself, or for a folder or repository its last part and 8
    hex digits."""
    if is_registered(name):
        return name
    hub = _HUB_ID.fullmatch(name)
    whole = name if hub else in_one_spelling(name)
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    last = hub[2].rpartition("/")[2] if hub else Path(name).name
    # The digest tells names apart; of the name itself stays what is safe in a path.
    safe = re.sub(r"[^A-Za-z0-9.-]", "-", last).lstrip(".-")[:40]
    return f"{safe}-{digest}" if safe else digest
