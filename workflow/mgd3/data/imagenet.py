"""ImageNet-1K and its subsets by wnid, from one root: train/<wnid>/*, val/<wnid>/* or flat val/."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import UserError
from .imagefolder import ImageFolder
from .leftovers import shown
from .pictures import Header, read_header

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

RESOURCES = Path(__file__).parents[1] / "resources"
# Registry key -> its name in subsets.tsv.
SUBSETS: dict[str, str] = {
    "imagenette": "ImageNette",
    "imagewoof": "ImageWoof",
    "imageidc": "ImageIDC",
    "imagenet100": "ImageNet-100",
    "imagenet1k": "ImageNet-1K",
    **{f"imagenet-{letter.lower()}": f"ImageNet-{letter}" for letter in "ABCDE"},
}
# Of ILSVRC2012: 1,281,167 training images, 732 to 1,300 a class; 50 validation images a class.
TRAIN_IMAGES = 1_281_167
TRAIN_PER_CLASS = (732, 1300)
VAL_PER_CLASS = 50


@cache
def subsets() -> dict[str, tuple[str, ...]]:
    """Registry key -> wnids in label order, which is that of subsets.tsv and not always sorted."""
    key_of = {name: key for key, name in SUBSETS.items()}
    lists: dict[str, dict[int, str]] = {key: {} for key in SUBSETS}
    with (RESOURCES / "subsets.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            lists[key_of[row["subset"]]][int(row["position"])] = row["wnid"]
    return {key: tuple(rows[i] for i in range(len(rows))) for key, rows in lists.items()}


def imagenet_wnids() -> tuple[str, ...]:
    """The 1,000 wnids in the order of their class indices, which generators' label rows follow."""
    return subsets()["imagenet1k"]


@cache
def imagenet_names() -> tuple[str, ...]:
    """The 1,000 class-name lines, such as "tench, Tinca tinca", in the order of the wnids."""
    with (RESOURCES / "subsets.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        names = {r["wnid"]: r["name"] for r in rows if r["subset"] == SUBSETS["imagenet1k"]}
    return tuple(names[wnid] for wnid in imagenet_wnids())


@cache
def shared_blocks(size: int) -> tuple[tuple[str, ...], ...]:
    """The 1,000 wnids cut into blocks of at most `size`, such that every subset is a union of them.

    So a block is made once, whatever subsets it is made for, and never for a class too many.
    """
    members = {key: set(wnids) for key, wnids in subsets().items()}
    cells: dict[tuple[bool, ...], list[str]] = {}
    for wnid in imagenet_wnids():
        cells.setdefault(tuple(wnid in m for m in members.values()), []).append(wnid)
    return tuple(
        tuple(cell[start : start + size])
        for cell in cells.values()
        for start in range(0, len(cell), size)
    )


class ImageNet(ImageFolder):
    """Some classes of ImageNet by wnid, in the order given; other folders of the root are ignored.

    Args:
        root: has train/<wnid>/*; and val/<wnid>/*, or the flat val/ILSVRC2012_val_00000001.JPEG ...
            with its ground truth: in the names (..._n01751748.JPEG, as the Hub has them),
            LOC_val_solution.csv or val_labels.txt (a file name and its wnid a line), or the
            devkit's ILSVRC2012_validation_ground_truth.txt with its meta.mat or a synsets.txt
            (line k: the wnid of the devkit's class k).
        classes: wnids in label order.
        counts: known numbers of images, None for those of ILSVRC2012.
    """

    published: str | None = "ilsvrc2012"

    def __init__(
        self, root: Path, classes: Sequence[str], counts: tuple[int, int] | None = None
    ) -> None:
        super().__init__(root)
        self._classes = list(classes)
        self._counts = counts

    def classes(self) -> list[str]:
        return list(self._classes)

    @cached_property
    def test_folder(self) -> str:
        return "val"

    def notes(self) -> list[str]:
        return []  # other folders and files of the root are other subsets'

    def notes_on(self, table: pd.DataFrame) -> list[str]:
        return []

    def is_stored_upright(self, image: str) -> bool:
        return True

    def _header(self, path: Path) -> Header:
        return read_header(path, as_stored=True)

    def _rgb(self, picture: Image.Image) -> Image.Image:
        # As ADM, DiT and the papers read it: tags of orientation are ignored.
        return picture.convert("RGB")

    @cached_property
    def _flat(self) -> dict[str, list[str]] | None:
        """Images of each class of a flat val/, or None where val/ has class folders."""
        val = self.root / "val"
        if not val.is_dir():
            raise UserError(
                f"no folder {val}",
                "put ImageNet's validation images there: val/<wnid>/*, or the flat folder and its "
                "ground truth (docs/datasets.md)",
            )
        if any((val / wnid).is_dir() for wnid in self._classes):
            return None
        return flat_validation(self.root)

    def _test_images(self, name: str) -> list[str]:
        if self._flat is None:
            return super()._test_images(name)
        return self._flat.get(name, [])

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        self._require_folders()
        super().preflight(most_ipc, validation_fraction)

    def _require_folders(self) -> None:
        if not self.root.is_dir():
            raise UserError(
                f"no ImageNet at {self.root}",
                "set `imagenet_root` in the config to the folder that holds train/<wnid>/ and "
                "val/, or link it there",
            )
        for folder in ["train"] if self._flat is not None else ["train", "val"]:
            missing = [w for w in self._classes if not (self.root / folder / w).is_dir()]
            if missing:
                raise UserError(
                    f"{self.root / folder} lacks {len(missing)} of {len(self._classes)} class "
                    f"folders: {shown(missing)}",
                    "each class is a folder named by its wnid; unpack the missing ones, or mend "
                    "`imagenet_root`",
                )

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        self._require_folders()
        return super().table(undecodable)

    def complaints(self, table: pd.DataFrame) -> list[str]:
        found = []
        for split, known in (("train", self._train_bounds()), ("test", self._test_bounds())):
            counts = table.loc[table["split"] == split, "class"].value_counts()
            for name in self._classes:
                low, high = known
                if not low <= (count := int(counts.get(name, 0))) <= high:
                    allowed = f"{low}" if low == high else f"{low} to {high}"
                    found.append(f"class {name} has {count} {split} images instead of {allowed}")
        for split, total in zip(("train", "test"), self._totals(), strict=True):
            if total is not None and (count := int((table["split"] == split).sum())) != total:
                found.append(f"{count:,} {split} images instead of {total:,}")
        return found

    def is_complete(self, images: Sequence[str]) -> bool:
        """Whether all images of a class are as many as were published, as far as can be told."""
        trained = sum(image.startswith("train/") for image in images)
        known = ((trained, self._train_bounds()), (len(images) - trained, self._test_bounds()))
        return all(low <= count <= high for count, (low, high) in known)

    def _train_bounds(self) -> tuple[int, int]:
        return (1, TRAIN_PER_CLASS[1]) if self._counts else TRAIN_PER_CLASS

    def _test_bounds(self) -> tuple[int, int]:
        return (1, TRAIN_PER_CLASS[1]) if self._counts else (VAL_PER_CLASS, VAL_PER_CLASS)

    def _totals(self) -> tuple[int | None, int | None]:
        if self._counts:
            return self._counts
        return (TRAIN_IMAGES if len(self._classes) == 1000 else None, None)


# As ILSVRC2012 names them, or as the Hub does, with the wnid at the end.
_FLAT = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?\.jpe?g", re.I)
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_LABELLED = ("LOC_val_solution.csv", "val_labels.txt", "val_labels.csv")


def flat_validation(root: Path) -> dict[str, list[str]]:
    """Wnid -> keys of its images in a flat val/ folder.

    Raises:
        UserError: no ground truth, or one that does not fit the images.
    """
    numbers: dict[str, int] = {}
    wnid_of: dict[str, str] = {}
    for path in sorted((root / "val").iterdir()):
        if match := _FLAT.fullmatch(path.name):
            if match[2]:
                wnid_of[path.name] = match[2].lower()
            else:
                numbers[path.name] = int(match[1])
    if not numbers and not wnid_of:
        raise UserError(
            f"{root / 'val'} has neither class folders nor ILSVRC2012_val_*.JPEG",
            "put ImageNet's validation images there: val/<wnid>/*, or the flat folder",
        )
    _known(wnid_of, root / "val")
    if numbers:
        wnid_of |= _ground_truth(root, numbers)
    images: dict[str, list[str]] = {}
    for name in sorted(wnid_of):
        images.setdefault(wnid_of[name], []).append(f"val/{name}")
    return images


def _ground_truth(root: Path, numbers: dict[str, int]) -> dict[str, str]:
    """File name -> wnid."""
    places = [root, root / "val", *sorted(root.glob("*devkit*"))]
    places += [place / "data" for place in places]
    for place in places:
        for name in _LABELLED:
            if (place / name).is_file():
                return _labelled(place / name, numbers)
        if (place / _TRUTH).is_file():
            return _devkit(place, numbers)
    raise UserError(
        f"{root / 'val'} is flat, and no ground truth is beside it",
        f"put the devkit (ILSVRC2012_devkit_t12/data/{_TRUTH} and meta.mat), or "
        f"LOC_val_solution.csv, into {root}",
    )


def _labelled(path: Path, numbers: dict[str, int]) -> dict[str, str]:
    """Lines that name an image and its wnid, whatever stands between and after."""
    pair = re.compile(r"(ILSVRC2012_val_\d{8})(?:\.jpe?g)?[,\s]+(n\d{8})\b", re.I)
    found = {m[1].lower(): m[2] for m in pair.finditer(path.read_text(encoding="utf-8"))}
    wnids = {name: found.get(name.rpartition(".")[0].lower(), "") for name in numbers}
    if missing := [name for name, wnid in wnids.items() if not wnid]:
        raise UserError(
            f"{path} has no wnid for {len(missing)} images of val/: {shown(missing)}",
            "it must hold a line `ILSVRC2012_val_00000001.JPEG n01751748` for each image",
        )
    return _known(wnids, path)


def _devkit(folder: Path, numbers: dict[str, int]) -> dict[str, str]:
    """The devkit's class numbers 1 to 1000 are not the order of sorted wnids."""
    truth = folder / _TRUTH
    try:
        labels = [int(line) for line in truth.read_text(encoding="utf-8").split()]
    except ValueError as error:
        raise UserError(f"{truth}: {error}", "it holds one class number a line") from error
    wnids = _devkit_wnids(folder)
    unknown = sorted(set(labels) - set(wnids))
    beyond = [name for name, number in numbers.items() if not 1 <= number <= len(labels)]
    if unknown or beyond:
        what = f"class {unknown[0]}" if unknown else beyond[0]
        raise UserError(
            f"{truth} ({len(labels)} lines) does not fit: {what} is unknown",
            "use the ground truth and class list of the same devkit (ILSVRC2012_devkit_t12)",
        )
    return _known({name: wnids[labels[n - 1]] for name, n in numbers.items()}, truth)


def _devkit_wnids(folder: Path) -> dict[int, str]:
    listed, matlab = folder / "synsets.txt", folder / "meta.mat"
    if listed.is_file():
        wnids = [
            line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line
        ]
        if wnids == sorted(wnids):
            raise UserError(
                f"{listed} is sorted, so its order is not the devkit's",
                "write the wnid of the devkit's class k in line k, or use its meta.mat",
            )
        return dict(enumerate(wnids, start=1))
    if matlab.is_file():
        return _matlab_wnids(matlab)
    raise UserError(
        f"{folder} has {_TRUTH}, but no class list",
        "put the devkit's meta.mat beside it, or synsets.txt: line k is the wnid of its class k",
    )


def _matlab_wnids(path: Path) -> dict[int, str]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        rows = loadmat(str(path), squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    except (MatReadError, OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"cannot read {path}: {error}", "unpack the devkit again") from error


def _known(wnids: dict[str, str], path: Path) -> dict[str, str]:
    if unknown := sorted(set(wnids.values()) - set(imagenet_wnids())):
        raise UserError(
            f"{path} names {unknown[0]}, which is no class of ImageNet-1K",
            "use the ground truth of ILSVRC2012",
        )
    return wnids
