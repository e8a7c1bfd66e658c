"""Stage `fetch-teacher`: torchvision's ImageNet-1K weights as a teacher's folder."""

from __future__ import annotations

import re
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
from ..networks.names import IMAGENET_MEAN, IMAGENET_STD
from . import get_teacher
from .model import save

URL = "https://download.pytorch.org/models/"
# torchvision's documentation of ResNet18_Weights.IMAGENET1K_V1: acc@1 on ImageNet's validation set.
_DOCUMENTED = {"resnet18-f37072fd.pth": 69.758}
_TIMEOUT = 60


def fetch_teacher(name: str, folder: Path, file: Path | None = None, url: str = URL) -> None:
    """Write the teacher from torchvision's weights, fetched or from `file`.

    Raises:
        UserError: the teacher has no such weights, the server cannot be reached, or the file is
            not the one whose hash its name holds.
    """
    weights = get_teacher(name).pretrained
    if weights is None:
        raise UserError(f"teacher {name!r} has no ImageNet-1K weights", "it is trained: `resnet18`")
    if file is not None:
        _convert(name, weights, Path(file), folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=folder) as temporary:
        path = Path(temporary) / weights
        print(f"fetching {url}{weights}", file=sys.stderr)
        try:
            with (
                urllib.request.urlopen(url + weights, timeout=_TIMEOUT) as answer,
                path.open("wb") as target,
            ):
                shutil.copyfileobj(answer, target)
        except (urllib.error.URLError, OSError) as error:
            raise UserError(
                f"cannot fetch {url}{weights}: {error}",
                "check the connection; or fetch that file elsewhere and give it: mgd3 "
                f"fetch-teacher --teacher {name} --folder {folder} --file FILE",
            ) from error
        _convert(name, weights, path, folder)


def _convert(name: str, weights: str, path: Path, folder: Path) -> None:
    if not path.is_file():
        raise UserError(f"no file {path}", "give torchvision's weights file")
    digest = sha256_of(path)
    prefix = re.search(r"-([0-9a-f]{8})\.pth$", weights).group(1)
    if not digest.startswith(prefix):
        raise UserError(
            f"{path} is not torchvision's {weights}: its SHA-256 begins {digest[:8]}",
            "the file is damaged or another one: fetch it again",
        )
    recipe = get_teacher(name)
    card = {
        "teacher": name,
        "network": recipe.network,
        "classes": list(imagenet_wnids()),
        "size": recipe.size,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "accuracy": {"documented": _DOCUMENTED[weights]},
        "source": f"{URL}{weights}",
        "files": {"weights": digest},
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    save(folder, torch.load(path, map_location="cpu", weights_only=True), card)
