"""Jobs of the methods: blocks of a distilled set, the whole, and how images came to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError, did_you_mean
from . import fields, folders, formats
from .contract import Job
from .fields import Choice, Json, OutFile, Registered


def _method(name: str) -> Any:
    from ..methods import get_method

    method = get_method(name)
    if not method.distils:
        raise UserError(
            f"method {name!r} makes no images: networks are trained on the whole train split",
            "evaluate with --train set to what `mgd3 pixels --split train` writes",
        )
    return method


Method = Annotated[str, Registered(_method), "a method's name"]
Settings = Annotated[dict[str, Any], Json(dict, "a JSON object"), "JSON object: of the method"]
Compile = Annotated[
    str, Choice(lambda: ("yes", "no"), setting=False), "the network that samples is compiled"
]


class _Making(Job):
    """What a method is given; see `mgd3.methods.Job`."""

    method: str
    settings: dict[str, Any]
    modes: Path | None
    teacher_folder: Path | None = None
    compile: str = "no"

    def check(self) -> None:
        super().check()
        method = _method(self.method)
        method.whole(self.settings)
        given = {
            "modes": self.modes, "generator": self.generator, "vae": self.generator,
            "teacher": self.teacher_folder,
        }  # fmt: skip
        for need in method.needs:
            if given[need] is None:
                flag = {"vae": "generator", "teacher": "teacher-folder"}.get(need, need)
                raise UserError(f"method {self.method!r} needs --{flag}", f"give --{flag}")

    def _require_modes(self: Any) -> None:
        from ..base import artifacts

        images = artifacts.tensor_metadata(self.modes)["images"]
        for name in self.classes:
            held = artifacts.tensor_shape(self.modes, name)[0]
            if "generator" not in _method(self.method).needs:  # modes that are real images
                held = len(images.get(name) or ())
            if held < self.ipc:
                raise UserError(
                    f"argument --modes: {self.modes} has {held} modes of class {name!r}, "
                    f"and --ipc is {self.ipc}",
                    "find as many modes as images: `mgd3 modes` with the same --ipc",
                )

    def job(self: Any) -> Any:
        from ..base.device import pick_device
        from ..data import make_dataset
        from ..data.index import Index
        from ..methods import Job

        index = Index.read(self.index)
        if unknown := [name for name in self.classes if name not in index.classes]:
            raise UserError(
                f"argument --classes: {self.index} has no class {unknown[0]!r}",
                did_you_mean(unknown[0], index.classes[:50]),
            )
        if "modes" in _method(self.method).needs:
            self._require_modes()
        return Job(
            dataset=make_dataset(self.dataset),
            index=index,
            classes=self.classes,
            ipc=self.ipc,
            generation_seed=self.generation_seed,
            settings=_method(self.method).whole(self.settings),
            generator=self.generator,
            modes=self.modes,
            device=pick_device(self.device),
            batch=self.batch,
            version=Sample.version,
            compile=self.compile == "yes",
            teacher=self.teacher_folder,
        )


class Sample(_Making, version=4, keeps_freed_memory=True):
    """Make the images of some classes with a method."""

    dataset: fields.Dataset
    index: formats.Index
    method: Method
    settings: Settings
    classes: fields.Classes
    ipc: fields.Positive
    generation_seed: fields.Count
    generator: folders.GeneratorOfMethod | None = None
    modes: formats.Modes | None = None
    teacher_folder: folders.Teacher | None = None
    batch: fields.Batch = "auto"
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None
    compile: Compile = "no"

    def run(self) -> None:
        from ..methods.blocks import make_block

        unfinished = self.output.with_name(f".{self.output.name}.checkpoint.safetensors")
        make_block(self.method, replace(self.job(), unfinished=unfinished), self.output)


class Trajectory(_Making, version=1, keeps_freed_memory=True):
    """How the first images of some classes came to be."""

    dataset: fields.Dataset
    index: formats.Index
    method: Method
    settings: Settings
    classes: fields.Classes
    ipc: fields.Positive
    generation_seed: fields.Count
    generator: folders.Generator | None = None
    modes: formats.Modes | None = None
    teacher_folder: folders.Teacher | None = None
    batch: fields.Batch = "auto"
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..methods.trajectories import trace

        if "steps" not in self.settings:
            raise UserError(f"method {self.method!r} has no steps to show", "choose mgd3")
        trace(self.method, self.job(), self.output)


class DecodeModes(Job, version=1):
    """Modes of some classes as images."""

    modes: formats.Modes
    generator: folders.GeneratorsVae
    classes: fields.Classes
    size: fields.Side
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..methods.trajectories import decode_modes

        size, device = int(self.size), pick_device(self.device)
        decode_modes(self.modes, self.generator, self.classes, size, self.output, device)


class Collect(Job, version=1):
    """Join blocks to one distilled set."""

    blocks: formats.Blocks
    classes: fields.Classes
    output: Annotated[Path, OutFile(".safetensors")]
    manifest: Annotated[Path, OutFile(".parquet")]

    def more(self) -> Mapping[str, Any]:
        from ..base.records import sampling_of

        return sampling_of(self.blocks)

    def run(self) -> None:
        from ..methods.blocks import collect

        collect(self.blocks, self.classes, self.output, self.manifest)
