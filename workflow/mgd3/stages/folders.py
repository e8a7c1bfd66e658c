"""Folders that jobs read and write: generators' and teachers'. Their files are told when needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from .fields import InFolder, OutFolder


def _vae_files() -> Iterable[str]:
    from ..generators.registry import VAE_FILES

    return VAE_FILES


def _dit_files() -> Iterable[str]:
    from ..generators.registry import DIT_FILES

    return DIT_FILES


def _trained_files() -> Iterable[str]:
    return (*_vae_files(), *_dit_files())


def _teacher_files(*_: Any) -> Iterable[str]:
    from ..teachers import TEACHER_FILES

    return TEACHER_FILES


def _present(folder: Path, files: Iterable[str]) -> list[str]:
    return [file for file in files if (folder / file).is_file()]


def _whole(folder: Path, _: Any) -> Iterable[str]:
    from ..generators.folder import family_of, pipeline_files

    return pipeline_files(folder, family_of(folder))


def _vae(folder: Path, _: Any) -> list[str]:
    from ..generators.folder import vae_files

    return _present(folder, vae_files(folder))


def _needed(folder: Path, job: Any) -> Iterable[str]:
    """What a method is given: another method's job may be training the rest meanwhile."""
    from ..methods import get_method

    return (_whole if "generator" in get_method(job.method).needs else _vae)(folder, job)


_HELP = "pipeline folder of a generator"
Generator = Annotated[Path, InFolder(_whole), _HELP]
GeneratorOfMethod = Annotated[Path, InFolder(_needed), _HELP]
GeneratorsVae = Annotated[Path, InFolder(_vae), f"{_HELP}: its VAE is read"]
Base = Annotated[
    Path, InFolder(_whole, setting=False), "pipeline folder of the generator to start from"
]
Teacher = Annotated[
    Path, InFolder(_teacher_files, required=_teacher_files), "of a trained or fetched teacher"
]

# Their files lie in several folders; the record lies beside the part that is named.
TrainedVae = Annotated[Path, OutFolder(_vae_files, part="vae", headed=True)]
TrainedDit = Annotated[Path, OutFolder(_trained_files, part="transformer", headed=True)]
Fetched = Annotated[Path, OutFolder(part=".", headed=True)]
TrainedTeacher = Annotated[Path, OutFolder(_teacher_files, headed=True)]
