"""What a change makes anew: each change with the fewest jobs, and the plan that has just these.

After a change of the table:
PYTHONPATH=tests python tests/unit/planning/test_reruns_table.py > docs/reruns.md
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest

from mgd3.base.errors import UserError
from mgd3.base.settings import Setting
from mgd3.discovery import DISCOVERIES
from mgd3.evaluation.protocols import PROTOCOLS
from mgd3.generators.families import FAMILIES
from mgd3.methods import METHODS
from mgd3.planning.config import Run, resolve
from mgd3.planning.graph import graph, left
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS
from workplace import ROOT, own_images

PAGE = ROOT / "docs" / "reruns.md"
CLASSES = {"one": 8, "two": 8, "three": 8}
OWN: dict[str, Any] = {
    "name": "table",
    "datasets": [
        {"name": "own", "root": "images", "size": 32, "flip": False, "validation_fraction": 0.3}
    ],
    "ipc": [2],
    "generation_seeds": [0],
    "runs": [
        {"method": "random"},
        {"method": "nearest", "generator": "tiny-dit"},
        {"method": "mgd3", "generator": "tiny-dit", "lambda": 0.1, "t_sg": 10, "steps": 12},
    ],
    "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"], "training_seeds": 1}],
    "resources": {"device": "cpu", "batch": "auto", "classes_per_block": 2},
    "cache_dir": "results/cache",
}
# Of a generator that comes ready.
READY = {
    **OWN,
    "datasets": ["mnist"],
    "runs": [{"method": "mgd3", "generator": "mnist-dit", "lambda": 0.1, "t_sg": 10}],
    "resources": {"classes_per_block": 5},
}
ELSEWHERE = {**OWN, "runs": [{"method": "random"}, {"method": "external", "path": "made"}]}
WHOLE_OWN = {
    "index": 1, "pixels": 2, "train_vae": 1, "train_generator": 1, "latents": 1, "modes": 2,
    "sample": 6, "collect": 3, "evaluate": 3, "reports": 1,
}  # fmt: skip
ONE_ROW = {"sample": 2, "collect": 1, "evaluate": 1, "reports": 1}

Change = Callable[[dict[str, Any], pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Row:
    """A change.

    Attributes:
        fewest: the jobs whose own settings or inputs it changes, by stage.
        base: the configuration that was run before.
    """

    what: str
    change: Change
    fewest: dict[str, int]
    base: dict[str, Any] = field(default_factory=lambda: OWN)


def run_setting(key: str, value: Any, run: int = -1) -> Change:
    def change(config: dict[str, Any], _: pytest.MonkeyPatch) -> None:
        config["runs"][run][key] = value

    return change


def setting(key: str, value: Any) -> Change:
    return lambda config, _: config.update({key: value})


def of_dataset(key: str, value: Any) -> Change:
    return lambda config, _: config["datasets"][0].update({key: value})


def of_evaluation(key: str, value: Any) -> Change:
    return lambda config, _: config["evaluation"][0].update({key: value})


def version(stage: str) -> Change:
    return lambda _, patch: patch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)


def owner(registry: Any, name: str) -> Change:
    def change(_: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
        entry = registry[name]
        if isinstance(entry, type):
            patch.setattr(entry, "version", entry.version + 1)
        else:
            patch.setitem(registry, name, dataclasses.replace(entry, version=entry.version + 1))

    return change


def on_disk(do: Callable[[], Any]) -> Change:
    return lambda *_: do()


def replace_class(folder: str) -> None:
    """Other images of equal size and equal times."""
    for path in Path(folder).iterdir():
        state, data = path.stat(), bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def add_image() -> None:
    shutil.copy("images/train/one/image 0.png", "images/train/one/image 99.png")


def move_root(config: dict[str, Any], _: pytest.MonkeyPatch) -> None:
    Path("images").rename("moved")
    config["datasets"][0]["root"] = "moved"


def add_setting(_: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    """As a later version of the workflow would."""

    class Settings(METHODS["random"]):
        polish: Annotated[float, Setting("how much", neutral=0.0)] = 0.0

    Settings.__module__ = METHODS["random"].__module__
    patch.setitem(METHODS, "random", Settings)


def rename_room(_: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    for entry in (METHODS["mgd3"], METHODS["random"], DISCOVERIES["kmeans"]):
        patch.setattr(entry, "__module__", "mgd3.elsewhere")


def clone(move: Callable[[str, str], Any]) -> Change:
    """Results, images and the working folder's lists in another folder; a lost .snakemake."""

    def change(_: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
        here, other = Path.cwd(), Path("..", "other").resolve()
        other.mkdir()
        for part in ("results", "images"):
            move(str(here / part), str(other / part))
        patch.chdir(other)

    return change


def reorder(config: dict[str, Any], _: pytest.MonkeyPatch) -> None:
    config["datasets"] = [dict(reversed(config["datasets"][0].items()))]


TABLE = [
    Row("lambda", run_setting("lambda", 0.3), ONE_ROW),
    Row("lambda, one value more", run_setting("lambda", [0.1, 0.3]), ONE_ROW),
    Row("t_SG", run_setting("t_sg", 5), ONE_ROW),
    Row("guidance scale of CFG", run_setting("cfg", 3.0), ONE_ROW),
    Row("IPC, one value more", setting("ipc", [2, 3]),
        {"modes": 2, "sample": 6, "collect": 3, "evaluate": 3, "reports": 1}),
    Row("generation seeds, one more", setting("generation_seeds", [0, 1]),
        {"sample": 6, "collect": 3, "evaluate": 3, "reports": 1}),
    Row("training seeds, one more", of_evaluation("training_seeds", 2),
        {"evaluate": 3, "reports": 1}),
    Row("networks, one more", of_evaluation("networks", ["convnet3", "convnet4"]),
        {"evaluate": 3, "reports": 1}),
    Row("protocol, at other pixels", of_evaluation("protocol", "hard-small64"),
        {"pixels": 2, "evaluate": 3, "reports": 1}),
    Row("a row removed", lambda config, _: config["runs"].pop(), {"reports": 1}),
    Row("another name", setting("name", "other"), {"reports": 1}),
    Row("all images of a class replaced, sizes and times kept",
        on_disk(lambda: replace_class("images/train/two")), WHOLE_OWN),
    Row("one image added to one class", on_disk(add_image), WHOLE_OWN),
    Row("a class removed", on_disk(lambda: shutil.rmtree("images/train/three")),
        {**WHOLE_OWN, "sample": 3}),
    Row("size of the data set", of_dataset("size", 64),
        {k: n for k, n in WHOLE_OWN.items() if k not in ("index", "pixels")}),
    Row("flip", of_dataset("flip", True),
        {"train_generator": 1, "sample": 2, "collect": 1, "evaluate": 3, "reports": 1}),
    Row("flip, of a generator that comes ready", setting("datasets", [{"name": "mnist",
        "flip": True}]), {"evaluate": 1, "reports": 1}, READY),
    Row("share held out, of a generator that comes ready", setting("datasets", [{"name": "mnist",
        "validation_fraction": 0.1}]),
        {"index": 1, "pixels": 2, "modes": 1, "sample": 2, "collect": 1, "evaluate": 1,
         "reports": 1}, READY),
    Row("images of another repository replaced", on_disk(lambda: replace_class("made/two")),
        {"sample": 1, "collect": 1, "evaluate": 1, "reports": 1}, ELSEWHERE),
    Row("images of another repository: `made` written as `./made`, as tables then say",
        run_setting("path", "./made"), {"reports": 1}, ELSEWHERE),
    Row("a generator trained by raised code", version("train_generator"),
        {"train_generator": 1, **ONE_ROW}),
    Row("a VAE trained by raised code", version("train_vae"),
        {"train_vae": 1, "train_generator": 1, "latents": 1, "modes": 2, "sample": 4, "collect": 2,
         "evaluate": 2, "reports": 1}),
    Row("a raised `latents`", version("latents"),
        {"latents": 1, "modes": 2, "sample": 4, "collect": 2, "evaluate": 2, "reports": 1}),
    Row("a raised `collect`", version("collect"), {"collect": 3, "evaluate": 3, "reports": 1}),
    Row("a raised `evaluate`", version("evaluate"), {"evaluate": 3, "reports": 1}),
    Row("a raised `tables`", version("tables"), {"reports": 1}),
    Row("a raised method", owner(METHODS, "mgd3"), ONE_ROW),
    Row("a raised mode discovery", owner(DISCOVERIES, "kmeans"), {"modes": 1, **ONE_ROW}),
    Row("a raised protocol", owner(PROTOCOLS, "hard-small"), {"evaluate": 3, "reports": 1}),
    Row("a raised family of generators", owner(FAMILIES, "dit"),
        {"train_generator": 1, "latents": 1, "modes": 2, "sample": 4, "collect": 2, "evaluate": 2,
         "reports": 1}),
    Row("classes_per_block", setting("resources", {"device": "cpu", "classes_per_block": 3}), {}),
    Row("device and batch", setting("resources", {"device": "auto", "batch": 3,
        "classes_per_block": 2}), {}),
    Row("a new setting at its neutral value", add_setting, {}),
    Row("a renamed room of the package", rename_room, {}),
    Row("order of the keys of a data set", reorder, {}),
    Row("`images` written as `./images`", of_dataset("root", "./images"), {}),
    Row("`images` written as an absolute path",
        lambda config, _: of_dataset("root", str(Path("images").resolve()))(config, _), {}),
    Row("a moved root", move_root, {}),
    Row("`mnist` written with its default size",
        setting("datasets", [{"name": "mnist", "size": 32}]), {}, READY),
    Row("`incomplete: warn`", of_dataset("incomplete", "warn"), {}),
    Row("an absolute cache_dir",
        lambda config, _: config.update(cache_dir=str(Path("results/cache").resolve())), {}),
    Row("a touched image", on_disk(lambda: Path("images/train/one/image 0.png").touch()), {}),
    Row("a label's default written out", run_setting("steps", 12), {}),
    Row("another clone with results by `cp -r`", clone(shutil.copytree), {}),
    Row("another clone with results by `mv`", clone(shutil.move), {}),
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of one's own and of another repository."""
    here = tmp_path / "here"
    own_images(here / "images", CLASSES)
    for name in CLASSES:
        shutil.copytree(here / "images/train" / name, here / "made" / name)
    monkeypatch.chdir(here)
    return here


def layout_of(config: dict[str, Any]) -> Layout:
    return Layout(resolve(config), ROOT, VERSIONS)


def finish(config: dict[str, Any]) -> None:
    """Put something where each artefact lies, as a finished run does."""
    for node in graph(layout_of(config)):
        Path(node.path).parent.mkdir(parents=True, exist_ok=True)
        Path(node.path).touch()


def counts(config: dict[str, Any]) -> dict[str, int]:
    return dict(Counter(node.stage for node in left(layout_of(config))))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_a_change_plans_the_fewest_jobs(
    row: Row, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(row.base)
    assert counts(row.base) == {}
    config = copy.deepcopy(row.base)
    row.change(config, monkeypatch)
    assert counts(config) == row.fewest


def test_a_folder_is_one_run_however_it_is_written(place: Path) -> None:
    paths = ["made", "./made", "images/../made", str(place / "made")]
    slugs = {run.slug for path in paths for run in external_runs(path)}
    assert len(slugs) == 1
    assert slugs != {run.slug for run in external_runs("images/train")}


def test_of_another_repository_those_images_count_that_are_taken(place: Path) -> None:
    """The first of each class, in the order of their names."""

    def blocks() -> list[str]:
        own = layout_of(ELSEWHERE)
        return own.blocks("own", external_runs("made")[0].slug, 2, 0)

    before = blocks()
    Path("made/two/image 5.png").write_bytes(b"beyond the second")
    assert blocks() == before
    Path("made/two/image 0.png").write_bytes(b"taken")
    changed = blocks()
    Path("made/two/a first.png").write_bytes(b"now the first")
    # The classes one and three, a block, are as they were; two is a block of its own.
    assert len({*before, *changed, *blocks()}) == 4


def external_runs(path: str) -> list[Run]:
    return resolve({**OWN, "runs": [{"method": "external", "path": path}]}).runs


def test_targets_of_another_configuration_are_refused_at_once(place: Path) -> None:
    own, other = layout_of(OWN), layout_of({**OWN, "ipc": [3]})
    shared, foreign = other.index("own"), other.scores()[0]
    own.require_own(other.identity_of(shared).short)
    with pytest.raises(UserError, match="is not of this configuration"):
        own.require_own(other.identity_of(foreign).short)


def test_going_back_plans_nothing(place: Path) -> None:
    finish(OWN)
    finish({**OWN, "ipc": [3]})
    assert counts(OWN) == {}


def test_at_first_all_is_planned(place: Path) -> None:
    assert counts(OWN) == WHOLE_OWN


def test_what_does_not_depend_on_a_class_is_kept(place: Path) -> None:
    """A block of images of another repository is of its own classes only."""
    finish(ELSEWHERE)
    replace_class("made/two")
    (block,) = [node for node in left(layout_of(ELSEWHERE)) if node.stage == "sample"]
    assert "/block1~" in block.path


def page() -> Iterator[str]:
    yield "# What a change makes anew"
    yield ""
    yield (
        "Made by `PYTHONPATH=tests python tests/unit/planning/test_reruns_table.py > "
        "docs/reruns.md`; the same test holds each row to the plan. A path is an identity: a job "
        "is done again where its settings, its inputs, its code's version or the files that it "
        "reads are others, and nowhere else. Before each change three rows (`random`, `nearest`, "
        "`mgd3`) of a data set of one's own with a small generator trained on it were finished. "
        "`reports` are all tables and pictures together, of which Snakemake counts each. Only "
        "below a training do times count, since what is trained again has other bytes: by the "
        "hashes in the records a plan first puts right what `cp -r` did to them."
    )
    yield ""
    yield "| change | jobs made anew |"
    yield "| --- | --- |"
    for row in TABLE:
        jobs = ", ".join(f"{n} {stage}" for stage, n in row.fewest.items())
        yield f"| {row.what} | {jobs or 'none'} |"


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == "\n".join([*page(), ""])


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        print("\n".join(page()))
