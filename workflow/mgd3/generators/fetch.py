"""Stage `fetch-generator`: the files of a registry entry from the Hugging Face Hub.

Interrupted downloads go on where they stopped, which `hf_hub_download` does not do; every byte is
checked against the hash that the Hub lists for the commit. Nothing else uses the network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..base import artifacts
from ..base.errors import UserError
from .registry import GeneratorEntry, HubFiles

# Partial and finished downloads, below the generator's folder. Not declared to the workflow, which
# deletes the declared files of a job that did not finish.
_UNFINISHED = ".download"
_ATTEMPTS = 4
_REPORT_EVERY = 10.0
# Other names that a file may have in a repository that holds no safetensors.
_PICKLED = {
    "diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.bin",
    "model.safetensors": "pytorch_model.bin",
}
# Parts of Stable Diffusion that nothing here uses.
_UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")


class _Remote(NamedTuple):
    """A file in a repository, and the hash it must have: SHA-256, or Git's for small files."""

    path: str
    size: int
    sha256: str | None
    git: str

    @property
    def key(self) -> str:
        return self.sha256 or self.git


def fetch(entry: GeneratorEntry, folder: Path) -> None:
    """Fill a generator's folder, and write `fetched.json`: commits and hashes.

    A file that a repository holds only as a pickle is read with `weights_only=True` and written
    as safetensors.

    Raises:
        UserError: the Hub cannot be reached or knows no such repository, commit or file; a
            download does not have the hash the Hub lists; or the disk is too small.
    """
    listings = [_listing(hub) for hub in entry.hub]
    wanted = [
        (hub, commit, target, _find(listing, source, hub))
        for hub, (commit, listing) in zip(entry.hub, listings, strict=True)
        for target, source in hub.files.items()
    ]
    waiting = folder / _UNFINISHED
    _require_space(folder, waiting, [remote for *_, remote in wanted])
    for hub, commit, _, remote in wanted:
        _download(hub.repository, commit, remote, waiting / remote.key)
    for _, _, target, remote in wanted:
        _put(waiting / remote.key, remote, folder / target)
    _complete_index(folder / "model_index.json", entry)
    record: dict[str, Any] = {
        target: {"repository": hub.repository, "commit": commit, "hash": remote.key}
        for hub, commit, target, remote in wanted
    }
    artifacts.save_json(folder / "fetched.json", record)
    shutil.rmtree(waiting, ignore_errors=True)


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    from huggingface_hub import errors

    by_hand = (
        f"or download it elsewhere (hf download {repository} --revision {revision} --local-dir "
        "DIR), copy the folder here and give its path as the `generator`"
    )
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repository} is gated: its owner wants you to accept a licence first",
            f"accept it on the Hub and log in (hf auth login), {by_hand}",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{repository} has no revision {revision!r}", "name a commit, branch or tag it has"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"the Hub has no repository {repository!r}, or it is private",
            f"check the id, or log in (hf auth login), {by_hand}",
        ) from error
    except (errors.HTTPError, errors.OfflineModeIsEnabled) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot fetch {repository} from the Hugging Face Hub: {first}",
            f"run again where the Hub can be reached (it goes on where it stopped), {by_hand}",
        ) from error


def _listing(hub: HubFiles) -> tuple[str, dict[str, _Remote]]:
    """The commit that a revision is, and its files by path."""
    from huggingface_hub import HfApi

    with _hub_errors(hub.repository, hub.revision):
        info = HfApi().model_info(
            hub.repository, revision=hub.revision, files_metadata=True, timeout=30
        )
    files = {
        s.rfilename: _Remote(
            s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None, s.blob_id or ""
        )
        for s in info.siblings or []
    }
    return info.sha or hub.revision, files


def _find(listing: dict[str, _Remote], source: str, hub: HubFiles) -> _Remote:
    path = Path(source)
    pickled = str(path.with_name(_PICKLED.get(path.name, path.name)))
    for name in (source, pickled):
        if name in listing:
            return listing[name]
    raise UserError(
        f"{hub.repository} at {hub.revision} has no file {source}",
        "it is not a pipeline repository of this family; choose another, or give a folder",
    )


def _require_space(folder: Path, waiting: Path, files: list[_Remote]) -> None:
    missing = sum(
        max(0, file.size - (path.stat().st_size if (path := waiting / file.key).is_file() else 0))
        for file in files
    )
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < missing:
        raise UserError(
            f"{folder} needs {missing / 1e9:.1f} GB more, and its disk has {free / 1e9:.1f} GB",
            "free some space, or move `cache_dir` to a larger disk",
        )


def _download(repository: str, commit: str, remote: _Remote, path: Path) -> None:
    """Complete a file, from where an earlier attempt stopped, and check its hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _hub_errors(repository, commit):
                _stream(repository, commit, remote, path)
        except UserError as error:
            if attempt == _ATTEMPTS or not _may_pass(error.__cause__):
                raise
            time.sleep(2**attempt / 4)
        else:
            break
    size = path.stat().st_size
    if size == remote.size and _hash(path, remote) == remote.key:
        return
    # Kept bytes would be wrong again the next time.
    path.unlink()
    raise UserError(
        f"{remote.path} of {repository} arrived damaged: {size} bytes of {remote.size}, or another "
        f"hash than {remote.key[:12]}...",
        "run again to download it anew; if it happens again, something between here and the Hub "
        "changes files",
    )


def _may_pass(error: BaseException | None) -> bool:
    """Whether another try may help: after a broken connection or a server's own fault."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response is not None and error.response.status_code >= 500
    return isinstance(error, errors.HTTPError)


def _stream(repository: str, commit: str, remote: _Remote, path: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    done = path.stat().st_size if path.is_file() else 0
    if done == remote.size:
        return
    if done > remote.size:
        path.unlink()
        done = 0
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        print(f"{remote.path}: going on at {done / 1e6:.0f} MB", file=sys.stderr)
    url = hf_hub_url(repository, remote.path, revision=commit)
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=60
    ) as response:
        hf_raise_for_status(response)
        # 200 is the whole file, whatever range was asked for.
        with path.open("ab" if response.status_code == 206 else "wb") as file:
            told = time.monotonic()
            for chunk in response.iter_bytes():
                file.write(chunk)
                if time.monotonic() - told > _REPORT_EVERY:
                    told = time.monotonic()
                    part = f"{file.tell() / 1e6:.0f} of {remote.size / 1e6:.0f} MB"
                    print(f"{remote.path}: {part}", file=sys.stderr)


def _hash(path: Path, remote: _Remote) -> str:
    if remote.sha256:
        return artifacts.sha256_of(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _put(downloaded: Path, remote: _Remote, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".safetensors" and not remote.path.endswith(".safetensors"):
        from .originals import load_pickled

        artifacts.save_tensors(target, load_pickled(downloaded), {"format": "pt"})
        return
    with artifacts.atomic(target) as temporary:
        try:
            os.link(downloaded, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(downloaded, temporary)


def _complete_index(path: Path, entry: GeneratorEntry) -> None:
    """Say what the weights descend from, and nothing of parts that were not fetched."""
    index = artifacts.load_json(path)
    for part in _UNUSED_PARTS:
        if part in index:
            index[part] = [None, None]
    if entry.origin != "diffusers":
        index["origin"] = entry.origin
    artifacts.save_json(path, index)
