"""A fingerprint changes with what files hold and with nothing else, and files are read once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mgd3.base.errors import UserError
from mgd3.base.identity import bundle
from mgd3.data import fingerprint
from mgd3.data.archives import FetchedArchive, archives
from mgd3.data.embedded import Digits, Mnist
from mgd3.data.imagefolder import ImageFolder
from mgd3.data.imagenet import ImageNet

# Older than any clock's coarseness, as most folders are.
AGO = 10 * fingerprint._COARSEST


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three classes of five images; files count as old as soon as they are written."""
    monkeypatch.setattr(fingerprint, "_COARSEST", -AGO)
    for name in ("cat", "dog", "été"):
        for split, count in (("train", 4), ("val", 1)):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                (folder / f"{k}.png").write_bytes(f"{name}{split}{k}".encode())
    return tmp_path / "images"


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "kept"


@pytest.fixture
def read(monkeypatch):
    """The files that are read."""
    names, real = [], fingerprint._digest_of

    def watched(root, name, planned):
        names.append(name)
        return real(root, name, planned)

    monkeypatch.setattr(fingerprint, "_digest_of", watched)
    return names


def of(root, kept):
    return fingerprint.of_classes(ImageFolder(root), kept)


def test_unchanged_files_are_read_once(root, kept, read):
    first = of(root, kept)
    assert set(first) == {"cat", "dog", "été"} and len(set(first.values())) == 3
    assert len(read) == 15
    read.clear()
    assert of(root, kept) == first
    assert read == []
    os.utime(root / "train/cat/0.png")
    assert of(root, kept) == first, "a touched file is read, and is the same"
    assert read == ["train/cat/0.png"]
    read.clear()
    assert of(root, kept) == first and read == []


def replaced_with_its_times(path: Path) -> None:
    """As `cp -p` of another image of equal size."""
    times = path.stat()
    other = path.with_name("other.tmp")
    other.write_bytes(bytes(len(path.read_bytes())))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def overwritten_with_its_times(path: Path) -> None:
    times = path.stat()
    path.write_bytes(bytes(len(path.read_bytes())))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "replaced": lambda root: replaced_with_its_times(root / "train/cat/1.png"),
    "overwritten": lambda root: overwritten_with_its_times(root / "val/cat/0.png"),
    "added": lambda root: (root / "train/cat/9.png").write_bytes(b"9"),
    "removed": lambda root: (root / "train/cat/1.png").unlink(),
    "renamed": lambda root: (root / "train/cat/1.png").rename(root / "train/cat/x.png"),
    "swapped": lambda root: swap(root / "train/cat/1.png", root / "train/cat/2.png"),
}


def swap(one: Path, two: Path) -> None:
    one.rename(one.with_name("kept.tmp"))
    two.rename(one)
    one.with_name("kept.tmp").rename(two)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_of_its_class_alone(root, kept, read, change):
    before = of(root, kept)
    read.clear()
    CHANGES[change](root)
    now = of(root, kept)
    assert len(read) <= 2
    assert {name for name in before if now[name] != before[name]} == {"cat"}
    with pytest.raises(UserError, match=r"images in .* changed since this run was planned"):
        fingerprint.require_unchanged(ImageFolder(root), bundle(before), kept=kept)
    fingerprint.require_unchanged(ImageFolder(root), bundle(now), kept=kept)
    fingerprint.require_unchanged(
        ImageFolder(root), bundle({"dog": before["dog"]}), ["dog"], kept=kept
    )
    with pytest.raises(UserError, match="changed since"):
        fingerprint.require_unchanged(
            ImageFolder(root), bundle({"cat": before["cat"]}), ["cat"], kept=kept
        )


def test_a_copy_or_moved_folder_is_the_same(root, kept, tmp_path):
    first = of(root, kept)
    assert of(shutil.copytree(root, tmp_path / "copy"), kept) == first
    assert of(Path(shutil.move(root, tmp_path / "moved")), kept) == first
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert of(tmp_path / "link", kept) == first
    (tmp_path / "moved/train/cat/notes.txt").write_text("no image")
    (tmp_path / "moved/train/cat/.hidden.png").write_text("no image")
    assert of(tmp_path / "moved", kept) == first


def test_files_as_young_as_their_reading_are_read_again(root, kept, read, monkeypatch):
    monkeypatch.undo()
    first = of(root, kept)
    watched, real = [], fingerprint._digest_of
    monkeypatch.setattr(fingerprint, "_digest_of", lambda *a: watched.append(a[1]) or real(*a))
    assert of(root, kept) == first
    assert len(watched) == 15, "a second change within the clock's tick would not show"
    time.sleep(fingerprint._COARSEST / 1e9)
    watched.clear()
    of(root, kept)
    assert len(watched) == 15
    watched.clear()
    of(root, kept)
    assert watched == []


def test_a_file_that_changes_while_it_is_read_is_refused(root, kept, monkeypatch):
    real = fingerprint._digest_of

    def slow(root, name, planned):
        if name == "train/cat/2.png":
            (root / name).write_bytes(b"longer than before")
        return real(root, name, planned)

    monkeypatch.setattr(fingerprint, "_digest_of", slow)
    with pytest.raises(UserError, match="changed while it was read"):
        of(root, kept)


def test_an_interrupted_reading_goes_on(root, kept, monkeypatch, read):
    monkeypatch.setattr(fingerprint, "_TASK", 1)
    real, count = fingerprint._digest_of, []
    lock = threading.Lock()

    def broken(*arguments):
        with lock:
            count.append(1)
            if len(count) > 8:
                raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(fingerprint, "_digest_of", broken)
    with pytest.raises(KeyboardInterrupt):
        of(root, kept)
    monkeypatch.setattr(fingerprint, "_digest_of", real)
    read.clear()
    of(root, kept)
    assert len(read) == 15 - 8


def test_a_killed_reading_leaves_a_whole_list(root, kept, tmp_path):
    program = (
        "import time; from pathlib import Path; from mgd3.data import fingerprint\n"
        "from mgd3.data.imagefolder import ImageFolder\n"
        f"fingerprint._COARSEST, fingerprint._KEEP_EVERY = {-AGO}, 0\n"
        "fingerprint._TASK, fingerprint._THREADS = 1, 1\n"
        "real = fingerprint._digest_of\n"
        "def slow(*a):\n"
        "    time.sleep(0.05)\n"
        "    return real(*a)\n"
        "fingerprint._digest_of = slow\n"
        f"fingerprint.of_classes(ImageFolder(Path({str(root)!r})), Path({str(kept)!r}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        while not (lists := list(kept.glob("*.list"))) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert fingerprint._load(lists[0])
    assert of(root, kept) == of(root, tmp_path / "afresh")


def test_two_processes_at_once_agree(root, kept):
    program = (
        "from pathlib import Path; from mgd3.data import fingerprint\n"
        "from mgd3.data.imagefolder import ImageFolder\n"
        "for _ in range(20):\n"
        f"    found = fingerprint.of_classes(ImageFolder(Path({str(root)!r})), "
        f"Path({str(kept)!r}))\n"
        "print(sorted(found.items()))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {process.communicate()[0] for process in started}
    assert said == {f"{sorted(of(root, kept).items())}\n"}
    assert len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "of another version"])
def test_a_damaged_list_is_no_list(root, kept, read, damage):
    first = of(root, kept)
    (file,) = kept.iterdir()
    whole = bytearray(file.read_bytes())
    read.clear()
    flipped = bytes(b ^ (i == len(whole) - 5) for i, b in enumerate(whole))
    file.write_bytes(
        {
            "flipped": flipped,
            "truncated": bytes(whole[:-9]),
            "empty": b"",
            "of another version": b"mgd3 fingerprints 0" + bytes(whole[19:]),
        }[damage]
    )
    assert of(root, kept) == first
    assert len(read) == 15


def test_an_unreadable_file_is_named(root, kept):
    (root / "train/cat/7.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"cannot read .*train/cat/7.png: No such file"):
        fingerprint.fingerprints(root, {"cat": ["train/cat/7.png"]}, kept)


def test_a_link_that_leads_nowhere_is_no_image(root, kept):
    first = of(root, kept)
    (root / "train/cat/7.png").symlink_to("nowhere")
    assert of(root, kept) == first


def test_a_long_reading_is_told(root, kept, monkeypatch, capsys):
    of(root, kept)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(fingerprint, "_PATIENCE", 0.05)
    real = fingerprint._digest_of
    monkeypatch.setattr(fingerprint, "_digest_of", lambda *a: time.sleep(0.1) or real(*a))
    of(root, kept.with_name("another"))
    said = capsys.readouterr().err
    assert f"reading 15 files of {root} (0 MB) to know what they hold: once" in said


def test_generators_and_single_files(root, kept, tmp_path):
    folder = tmp_path / "generator"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae/weights").write_bytes(b"1")
    (folder / "model_index.json").write_bytes(b"{}")
    first = fingerprint.of_folder(folder, kept)
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_bytes(b"1")
    assert fingerprint.of_folder(folder, kept) == first
    assert fingerprint.of_folder(shutil.copytree(folder, tmp_path / "copy"), kept) == first
    (folder / "vae/weights").write_bytes(b"2")
    assert fingerprint.of_folder(folder, kept) != first
    with pytest.raises(UserError, match="holds no files"):
        fingerprint.of_folder(tmp_path / "nowhere", kept)
    one = fingerprint.of_file(folder / "vae/weights", kept)
    assert (
        fingerprint.of_file(Path(shutil.copy(folder / "vae/weights", tmp_path / "w")), kept) == one
    )


def test_the_first_images_of_an_external_set_are_told_from_the_others(root, kept, read):
    names = [f"train/cat/{k}.png" for k in range(4)]
    before = fingerprint.fingerprints(root, {"cat": names}, kept)["cat"]
    (root / "train/cat/3.png").write_bytes(b"another")
    now = fingerprint.fingerprints(root, {"cat": names}, kept)["cat"]
    assert now.fingerprint(3) == before.fingerprint(3) != before.fingerprint(2)
    assert now.fingerprint() != before.fingerprint()


def test_published_sets_are_known_by_name(tmp_path, kept, read):
    digits, mnist = (fingerprint.of_classes(source, kept) for source in (Digits(), Mnist()))
    assert len(digits) == 10 and not set(digits.values()) & set(mnist.values())
    name, archive = next(iter(archives().items()))
    fetched = fingerprint.of_classes(FetchedArchive(tmp_path / "absent", archive), kept)
    assert len(fetched) == 10, name
    assert read == []


def imagenet(root: Path, train: int, flat: bool = False) -> ImageNet:
    wnids = ["n01440764", "n01443537"]
    for wnid in wnids:
        (root / "train" / wnid).mkdir(parents=True)
        (root / "val" / wnid).mkdir(parents=True)
        for k in range(train):
            (root / f"train/{wnid}/{wnid}_{k}.JPEG").write_bytes(b"12")
        for k in range(50):
            (root / f"val/{wnid}/ILSVRC2012_val_{k:08d}.JPEG").write_bytes(b"12")
    return ImageNet(root, wnids)


def test_images_of_a_complete_imagenet_are_not_read(tmp_path, kept, read):
    whole = imagenet(tmp_path / "a", 732)
    first = fingerprint.of_classes(whole, kept)
    assert read == [] and len(set(first.values())) == 2
    (whole.root / "train/n01440764/n01440764_0.JPEG").write_bytes(b"123")
    assert fingerprint.of_classes(whole, kept) == first, "known by name"
    (whole.root / "train/n01440764/n01440764_0.JPEG").unlink()
    fewer = fingerprint.of_classes(whole, kept)
    assert fewer["n01440764"] != first["n01440764"], "incomplete"
    assert fewer["n01443537"] == first["n01443537"]
    (whole.root / "train/n01440764/n01440764_1.JPEG").write_bytes(b"123")
    assert fingerprint.of_classes(whole, kept)["n01440764"] != fewer["n01440764"], "by size, too"
    assert read == []
