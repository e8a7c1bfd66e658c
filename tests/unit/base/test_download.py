"""Fetching archives from a server of the tests' own: cut off, damaged, malicious, absent."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from fake_imagenet import make_imagenet
from mgd3.base import artifacts
from mgd3.base.download import fetch, unpack
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.data import archives, make_dataset
from mgd3.data.archives import Archive, fetch_dataset
from mgd3.data.imagenet import subsets
from mgd3.data.index import Index, write_index
from mgd3.planning.config import preflight, resolve

NETTE = subsets()["imagenette"]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


DATA = os.urandom(300_000)


def test_an_interrupted_download_goes_on_where_it_stopped(served, tmp_path):
    served.content, served.cut, served.cuts = DATA, 100_000, 2
    fetch(served.url, tmp_path / "a", [sha256(DATA)])
    assert (tmp_path / "a").read_bytes() == DATA
    assert served.asked == [None, "bytes=100000-", "bytes=200000-"]
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    fetch(served.url, tmp_path / "a", [sha256(DATA)])
    assert len(served.asked) == 3, "a whole file is not asked for again"


def test_what_was_received_is_kept_for_the_next_run(served, tmp_path):
    served.content, served.cut, served.cuts = DATA, 10_000, 5
    with pytest.raises(UserError, match="50,000 bytes are kept"):
        fetch(served.url, tmp_path / "a", [sha256(DATA)])
    assert not (tmp_path / "a").exists()
    fetch(served.url, tmp_path / "a", [sha256(DATA)])
    assert (tmp_path / "a").read_bytes() == DATA
    assert served.asked[-1] == "bytes=50000-"


def test_a_server_that_cannot_resume_sends_the_whole_again(served, tmp_path):
    served.content, served.cut, served.cuts, served.ranges = DATA, 100_000, 1, False
    fetch(served.url, tmp_path / "a", [sha256(DATA)])
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_whole_part_is_only_checked(served, tmp_path):
    served.content = DATA
    (tmp_path / "a.part").write_bytes(DATA)
    fetch(served.url, tmp_path / "a", [sha256(DATA)])
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(served, tmp_path):
    served.content = DATA
    with pytest.raises(UserError, match="is not the published file") as caught:
        fetch(served.url, tmp_path / "a", [sha256(b"x"), "md5:00"])
    assert hashlib.sha256(DATA).hexdigest() in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_published_checksums_is_enough(served, tmp_path):
    served.content = DATA
    known = ["md5:00", f"md5:{hashlib.md5(DATA).hexdigest()}"]
    fetch(served.url, tmp_path / "a", known)
    (tmp_path / "a").write_bytes(b"changed")
    with pytest.raises(UserError, match="is not the published file"):
        fetch(served.url, tmp_path / "a", known)


def test_an_unreachable_server_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot fetch http://127\.0\.0\.1:9/x") as caught:
        fetch("http://127.0.0.1:9/x", tmp_path / "a", [])
    assert f"put the file at {tmp_path / 'a'}" in str(caught.value)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


BAD = {
    "up": member("top/../../escaped"),
    "absolute": member("/tmp/escaped"),
    "elsewhere": member("other/file"),
    "symlink": member("top/link", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("top/link", tarfile.LNKTYPE, "top/../../escaped"),
    "device": member("top/null", tarfile.CHRTYPE),
    "pipe": member("top/pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_member_that_would_escape_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as tar:
        good = member("top/file")
        good.size = 3
        tar.addfile(good, io.BytesIO(b"abc"))
        tar.addfile(BAD[kind])
    with pytest.raises(UserError, match="was not unpacked") as caught:
        unpack(tmp_path / "bad.tgz", tmp_path / "out" / "images", "top")
    assert repr(BAD[kind].name) in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_a_damaged_archive_is_one_clear_error(tmp_path):
    with tarfile.open(tmp_path / "whole.tgz", "w:gz") as tar:
        good = member("top/file")
        good.size = len(DATA)
        tar.addfile(good, io.BytesIO(DATA))
    (tmp_path / "cut.tgz").write_bytes((tmp_path / "whole.tgz").read_bytes()[:200_000])
    with pytest.raises(UserError, match="cannot unpack"):
        unpack(tmp_path / "cut.tgz", tmp_path / "images", "top")
    assert not (tmp_path / "images").exists()
    assert unpack(tmp_path / "whole.tgz", tmp_path / "images", "top") == 1


def config() -> dict:
    return {
        "name": "test",
        "datasets": ["imagenette-fastai"],
        "ipc": [2],
        "generation_seeds": [0],
        "runs": [{"method": "random"}],
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    }


def test_imagenette_is_fetched_unpacked_and_indexed(served, tmp_path, monkeypatch):
    make_imagenet(tmp_path / "imagenette2", NETTE, train=3, val=2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "imagenette2", arcname="imagenette2")
    served.content = buffer.getvalue()
    archive = Archive(
        "imagenette-fastai", served.url, "imagenette2", (sha256(served.content),), (30, 20),
        "imagenette",
    )  # fmt: skip
    monkeypatch.setattr(archives, "archives", lambda: {archive.name: archive})
    folder = tmp_path / "fetched"
    fetch_dataset(archive.name, folder)
    receipt = artifacts.load_json(folder / "fetched.json")
    assert receipt["files"] == 50
    assert receipt["agrees_with"] == sha256(served.content)

    monkeypatch.undo()
    dataset = make_dataset({"name": archive.name, "root": str(folder / "images")})
    assert dataset.origin == "imagenette-fastai", "not the images of imagenette"
    with pytest.raises(UserError, match="30 train images instead of 9,469"):
        write_index(dataset, tmp_path / "index")
    dataset.source._counts = (30, 20)
    write_index(dataset, tmp_path / "index")
    index = Index.read(tmp_path / "index")
    assert index.classes == list(NETTE)
    assert dataset.meanings[NETTE[1]].wnid == NETTE[1]


def test_before_it_is_fetched_nothing_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preflight(resolve(config()))


def test_the_command_names_what_it_cannot_fetch(tmp_path, capsys):
    url = "http://127.0.0.1:9/x.tgz"
    status = main(
        ["fetch-dataset", "--name", "imagewoof-fastai", "--folder", str(tmp_path), "--url", url]
    )
    assert status == 2
    assert f"cannot fetch {url}" in capsys.readouterr().err
    assert main(["fetch-dataset", "--name", "imagewof", "--folder", str(tmp_path)]) == 2
    assert "did you mean 'imagewoof-fastai'" in capsys.readouterr().err


def test_published_archives_have_checksums_of_whole_files():
    assert set(archives.archives()) == {
        "imagenette-fastai", "imagewoof-fastai", "cifar10", "cifar100"
    }  # fmt: skip
    for archive in archives.archives().values():
        assert archive.url.startswith("https://")
        for known in archive.checksums:
            kind, _, value = known.partition(":")
            assert len(value) == {"md5": 32, "sha256": 64}[kind]


def test_imagewoofs_archive_has_the_subsets_classes_in_its_order():
    dataset = make_dataset({"name": "imagewoof-fastai", "root": str(Path("x"))})
    assert dataset.source.classes() == list(subsets()["imagewoof"])
