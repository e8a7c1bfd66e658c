"""Teachers: training, resumption, loading, slicing, torchvision's weights."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torchvision.models import resnet18

from mgd3 import teachers
from mgd3.base.artifacts import save_tensors, sha256_of
from mgd3.base.errors import UserError
from mgd3.base.threads import PREPARING_THREADS, processor
from mgd3.cli import parse
from mgd3.teachers import TEACHERS, Weights, get_teacher, pretrained, training

CLASSES = ["n01", "n02", "n03"]
# At the recipe's own rate so few steps lead anywhere, by the rounding of the processor.
TINY = replace(
    TEACHERS["resnet10-64"], network="conv3", size=32, test_resize=32, steps=12, batch_size=16,
    learning_rate=0.01,
)  # fmt: skip


def write(path, n, seed, classes=CLASSES, size=32):
    """Images whose ramp tells their class plainly, with noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(classes)
    noise = torch.randint(60, (n, 3, size, size), generator=g)
    ramp = torch.arange(size)[None, None, :, None] * (labels[:, None, None, None] * 3)
    images = (noise + ramp).to(torch.uint8)
    save_tensors(path, {"images": images, "labels": labels}, {"classes": classes})
    return path


@pytest.fixture
def files(tmp_path):
    return {
        split: write(tmp_path / f"{split}.safetensors", n, n)
        for split, n in (("train", 50), ("test", 30), ("validation", 9))
    }


def train(files, folder, recipe=TINY, **changes):
    arguments = {"flip": False, "device": "cpu", "folder": folder, **changes}
    return training.train_teacher("tiny", recipe, **files, **arguments)


def test_a_teacher_learns_and_says_how_well(files, tmp_path):
    card = train(files, tmp_path / "teacher")
    # Chance is 33 %, two of the three classes are 67 %; a teacher that learns tells all apart.
    assert card["accuracy"]["test"] > 80 and set(card["accuracy"]) == {"test", "validation"}
    held = json.loads((tmp_path / "teacher/teacher.json").read_text())
    assert held == card | {"sha256": sha256_of(tmp_path / "teacher/model.safetensors")}
    assert held["files"] == {split: sha256_of(path) for split, path in files.items()}
    assert held["settings"]["steps"] == 12 and held["classes"] == CLASSES
    assert sorted(p.name for p in (tmp_path / "teacher").iterdir()) == sorted(
        teachers.TEACHER_FILES
    )


def test_the_stage_trains_to_the_same_weights_whatever_threads_it_was_granted(
    files, tmp_path, monkeypatch
):
    monkeypatch.setattr("mgd3.stages.teachers._teacher", lambda name: replace(TINY, steps=4))
    cards = []
    for granted in ("1", "3"):
        folder = tmp_path / granted / "teacher"
        made = ["--train", str(files["train"]), "--folder", str(folder), "--device", "cpu"]
        parse("train-teacher", ["--teacher", "conv3-32", *made, "--threads", granted]).run()
        cards.append(json.loads((folder / "teacher.json").read_text()))
    assert [card["threads"] for card in cards] == [PREPARING_THREADS] * 2
    assert cards[0]["processor"] == processor()
    assert cards[0]["sha256"] == cards[1]["sha256"]


def test_a_loaded_teacher_is_the_trained_one(files, tmp_path):
    card = train(files, tmp_path / "teacher")
    teacher = teachers.load(tmp_path / "teacher")
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    images, labels = training._split(files["test"])
    assert training._accuracy(teacher.model, images, labels, "cpu") == card["accuracy"]["test"]
    x = torch.randn(4, 3, 32, 32, requires_grad=True)
    logits = teacher(x)
    assert logits.shape == (4, 3)
    logits.sum().backward()
    assert x.grad.abs().sum() > 0, "methods optimise images through a teacher"


def test_slices_follow_the_classes_asked_for(files, tmp_path):
    train(files, tmp_path / "teacher")
    teacher = teachers.load(tmp_path / "teacher")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(teacher.slice(["n03", "n01"])(x), teacher(x)[:, [2, 0]])
    assert teacher.slice(CLASSES) is teacher
    with pytest.raises(UserError, match="does not know class 'n04'"):
        teacher.slice(["n01", "n04"])


class Killed(BaseException):
    pass


def test_a_killed_training_resumes_to_the_same_weights(files, tmp_path, monkeypatch):
    train(files, tmp_path / "whole")
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    draw_views, calls = training.draw_views, []

    def kill(*arguments, **more):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return draw_views(*arguments, **more)

    monkeypatch.setattr(training, "draw_views", kill)
    with pytest.raises(Killed):
        train(files, tmp_path / "killed")
    assert [p.name for p in (tmp_path / "killed").iterdir()] == [".teacher.checkpoint.safetensors"]
    train(files, tmp_path / "killed")
    assert len(calls) == 4 + 1, "four epochs in all, and the killed one again"
    for file in teachers.TEACHER_FILES[:1]:
        assert sha256_of(tmp_path / "killed" / file) == sha256_of(tmp_path / "whole" / file)


def test_other_images_do_not_continue_a_training(files, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training.Checkpoint, "remove", lambda self: None)
    train(files, tmp_path / "teacher")
    before = sha256_of(tmp_path / "teacher/model.safetensors")
    write(files["train"], 50, 99)
    train(files, tmp_path / "teacher")
    assert sha256_of(tmp_path / "teacher/model.safetensors") != before


def test_learning_rates_warm_up_and_fall_to_nothing():
    rates = training.rates(replace(TINY, learning_rate=0.1), 100)
    assert rates[:3] == pytest.approx([0.01, 0.02, 0.03]) and max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 1e-4


def test_other_classes_are_refused(files, tmp_path):
    write(files["test"], 12, 1, classes=["n01", "n03", "n02"])
    with pytest.raises(UserError, match=r"test\.safetensors lists other classes"):
        train(files, tmp_path / "teacher")


def test_divergence_is_a_users_error(files, tmp_path):
    with pytest.raises(UserError, match="diverged"):
        train(files, tmp_path / "teacher", replace(TINY, learning_rate=1e30))


def test_damaged_files_are_named(files, tmp_path):
    train(files, tmp_path / "teacher")
    with pytest.raises(UserError, match="not found"):
        teachers.load(tmp_path / "absent")
    weights = tmp_path / "teacher/model.safetensors"
    save_tensors(weights, {"a": torch.zeros(1)}, {})
    with pytest.raises(UserError, match=r"is not the file that teacher\.json describes"):
        teachers.load(tmp_path / "teacher")


def test_names_need_no_torch():
    code = "import mgd3.teachers, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        get_teacher("resnet81")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Weights in torchvision's own format, behind a URL."""
    torch.manual_seed(0)
    state = resnet18().state_dict()
    (tmp_path / "server").mkdir()
    path = tmp_path / "server" / "weights"
    torch.save(state, path)
    named = path.with_name(f"resnet18-{sha256_of(path)[:8]}.pth")
    path.rename(named)
    weights = Weights(named.name, sha256_of(named)[:8], accuracy=69.758)
    monkeypatch.setitem(TEACHERS, "resnet18", replace(TEACHERS["resnet18"], pretrained=weights))
    return named, state


def test_torchvisions_weights_become_a_teacher(server, tmp_path):
    file, state = server
    pretrained.fetch_teacher("resnet18", tmp_path / "a", url=f"file://{file.parent}/")
    pretrained.fetch_teacher("resnet18", tmp_path / "b", file)
    assert sha256_of(tmp_path / "a/model.safetensors") == sha256_of(
        tmp_path / "b/model.safetensors"
    )
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(teachers.TEACHER_FILES)
    teacher = teachers.load(tmp_path / "a")
    model = resnet18().eval()
    model.load_state_dict(state)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(teacher(x), model(x))
    # Row 217 of ImageNet-1K is the English springer, row 0 the tench.
    sliced = teacher.slice(["n02102040", "n01440764"])
    assert torch.equal(sliced(x), model(x)[:, [217, 0]])


def test_the_published_weights_are_pinned():
    weights = TEACHERS["resnet18"].pretrained
    assert (weights.file, weights.sha256) == ("resnet18-f37072fd.pth", "f37072fd")
    assert pretrained.URL == "https://download.pytorch.org/models/"


def test_damaged_or_unreachable_weights_are_named(server, tmp_path):
    file, _ = server
    with pytest.raises(UserError, match=r"cannot fetch .*absent"):
        pretrained.fetch_teacher("resnet18", tmp_path / "a", url=f"file://{tmp_path}/absent/")
    assert not list((tmp_path / "a").iterdir())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="SHA-256 begins"):
        pretrained.fetch_teacher("resnet18", tmp_path / "a", file)
    with pytest.raises(UserError, match="no file"):
        pretrained.fetch_teacher("resnet18", tmp_path / "a", tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no ImageNet-1K weights"):
        pretrained.fetch_teacher("resnet10-64", tmp_path / "a")
