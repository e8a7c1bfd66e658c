"""Training on a teacher's probabilities: the loop, its labels, and what it leaves out."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mgd3.base.artifacts import load_tensors, save_tensors, tensor_metadata
from mgd3.base.errors import UserError
from mgd3.base.seeding import seed_of, torch_generator
from mgd3.evaluation import loop, soft
from mgd3.evaluation.batches import Mixup, batch_pairs, batches, draw_mix, mixed
from mgd3.evaluation.labels import StoredLabels
from mgd3.evaluation.loop import Split
from mgd3.evaluation.protocols import PROTOCOLS, StepBudget, get_protocol
from mgd3.evaluation.protocols.soft import Views
from mgd3.evaluation.relabel import relabel
from mgd3.evaluation.stage import evaluate
from mgd3.networks.architectures import create_network
from mgd3.networks.augment import CutMix
from mgd3.teachers.model import Teacher, save

CPU = torch.device("cpu")
CLASSES = ["n01", "n02", "n03"]
TINY = replace(
    get_protocol("soft-small"), name="tiny", size=32, test_resize=32,
    duration=StepBudget(steps=14, min_epochs=7), batch=8, evaluations=3, gap=3,
)  # fmt: skip
STORED = replace(
    TINY, name="tiny-fkd", labels="stored", passes=1, cosine=1.0, rates=(),
    views=Views(shuffle=1, crop_scale=(0.08, 1.0)),
)  # fmt: skip
ARGUMENTS = {"network": "conv3", "num_classes": 3, "generation_seed": 0, "training_seed": 0}


def split(n, seed, size=32):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    noise = torch.randint(120, (n, 3, size, size), generator=g)
    ramp = torch.arange(size)[None, None, :, None] * (labels[:, None, None, None] * 2)
    return Split((noise + ramp).to(torch.uint8), labels)


def make_teacher(seed=5):
    torch.manual_seed(seed)
    model = create_network("conv3", 3, 32, "soft").eval().requires_grad_(False)
    mean, std = TINY.mean, TINY.std
    return Teacher(model, CLASSES, 32, mean, std, "0" * 64)


def run(protocol=TINY, train=None, report=None, **more):
    if protocol.labels == "online":
        more.setdefault("teacher", make_teacher())
    return soft.train_network(
        train or split(12, 1, 16), split(30, 2), split(21, 3),
        protocol=protocol, plan=protocol.plan(3, 4, "conv3"), device=CPU,
        report=report or logging.getLogger(__name__).debug, **(ARGUMENTS | more),
    )  # fmt: skip


def same(a, b):
    return a.scores.curve == b.scores.curve and all(
        torch.equal(a.scores.predictions[name], b.scores.predictions[name])
        for name in ("best", "last", "selected")
    )


def trained_student(monkeypatch, protocol, train, teacher):
    """The network that the loop has trained."""
    made = []

    def spy(*arguments):
        made.append(create_network(*arguments))
        return made[0]

    monkeypatch.setattr(soft, "create_network", spy)
    run(protocol, train, teacher=teacher)
    return made[0]


def published_loop(protocol, train, teacher):
    """RDED's training: each mixed batch goes through the student twice, first for a log line."""
    torch.manual_seed(seed_of("train", 0, 0, "initial weights"))
    student = create_network("conv3", 3, 32, "soft")
    plan = protocol.plan(3, 4, "conv3")
    decaying = [p for n, p in student.named_parameters() if "weight" in n and p.ndim > 1]
    others = [p for n, p in student.named_parameters() if not ("weight" in n and p.ndim > 1)]
    optimiser = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=plan.rate, betas=(0.9, 0.999), fused=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda e: 0.5 * (1 + math.cos(math.pi * e / plan.epochs / 2))
    )
    for epoch in range(plan.epochs):
        draws = torch_generator("train", 0, 0, "augmentation", epoch)
        for unmixed, images in batch_pairs(train.images, protocol, plan.batch_size, draws):
            student.train()
            with torch.no_grad():
                # `mix_aug` cuts and pastes in place; Mixup makes a new batch.
                student(images if protocol.views.mix == "cutmix" else unmixed)
                wanted = F.softmax(teacher.model(images) / protocol.temperature, dim=1)
            found = F.log_softmax(student(images) / protocol.temperature, dim=1)
            loss = nn.KLDivLoss(reduction="batchmean")(found, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return student


def test_one_pass_leaves_what_two_would(monkeypatch):
    """Weights to the bit, running statistics to rounding, of the published loop."""
    train, teacher = split(12, 1, 16), make_teacher()
    ours = trained_student(monkeypatch, TINY, train, teacher).state_dict()
    theirs = published_loop(TINY, train, teacher).state_dict()
    statistics = [name for name in ours if "running" in name]
    counters = [name for name in ours if "num_batches" in name]
    assert len(statistics) == 6
    for name in set(ours) - set(counters):
        if name in statistics:
            assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6), name
        else:
            assert torch.equal(ours[name], theirs[name]), name
    # And without the adjustment they would not agree.
    single = trained_student(monkeypatch, replace(TINY, passes=1), train, teacher).state_dict()
    assert any(not torch.allclose(single[n], theirs[n], rtol=1e-2) for n in statistics)


def test_with_mixup_the_first_pass_sees_images_unmixed(monkeypatch):
    """As RDED's loop has it: weights to the bit, and running statistics to rounding."""
    mixup = replace(TINY, views=Views(mix="mixup", mix_alpha=0.8), temperature=4.0)
    train, teacher = split(12, 1, 16), make_teacher()
    ours = trained_student(monkeypatch, mixup, train, teacher).state_dict()
    theirs = published_loop(mixup, train, teacher).state_dict()
    for name in ours:
        if "running" in name:
            assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6), name
        elif "num_batches" not in name:
            assert torch.equal(ours[name], theirs[name]), name
    pairs = batch_pairs(train.images, mixup, 8, torch.Generator().manual_seed(0))
    assert all(not torch.equal(unmixed, seen) for unmixed, seen in pairs)


def test_the_momentum_of_two_passes():
    model = create_network("resnet10", 3, 64, "soft")
    soft.repeat_statistics(model, 2)
    found = {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert [round(m, 12) for m in found] == [0.19]


@pytest.mark.parametrize("name", ["resnet10", "conv3", "efficientnet_b0", "swin_v2_t"])
def test_norms_and_biases_do_not_decay(name):
    model = create_network(name, 3, 64, "soft")
    decaying, plain = soft.parameter_groups(model, 0.01)
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    assert all(p.ndim > 1 and "weight" in names[id(p)] for p in decaying["params"])
    norms = (nn.BatchNorm2d, nn.LayerNorm)
    held = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    biases = {id(p) for n, p in model.named_parameters() if n.endswith("bias")}
    assert held | biases <= {id(p) for p in plain["params"]}
    assert len(decaying["params"]) + len(plain["params"]) == len(names)


def test_the_divergence_is_that_of_the_definition():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 7).double() * 9
    q, p = (F.softmax(logits / 20, 1) for logits in (student, teacher))
    expected = (p * (p / q).log()).sum(1).mean()
    found = soft.divergence(student, teacher, 20.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_mixing():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 32, 32)
    cut = draw_mix(TINY, 6, generator)
    assert isinstance(cut, CutMix)
    protocol = replace(TINY, views=Views(mix="mixup", mix_alpha=0.8))
    up = draw_mix(protocol, 6, generator)
    expected = up.weight * images + (1 - up.weight) * images[up.partners]
    assert torch.allclose(mixed(images, up), expected, atol=1e-6)
    assert isinstance(up, Mixup) and 0 < up.weight < 1


@pytest.mark.parametrize("mix, alpha", [("cutmix", 1.0), ("mixup", 0.8)])
def test_shares_follow_their_beta_distribution(mix, alpha):
    protocol = replace(TINY, size=4096, views=Views(mix=mix, mix_alpha=alpha))
    generator = torch.Generator().manual_seed(0)
    mixes = [draw_mix(protocol, 2, generator) for _ in range(4000)]
    if mix == "cutmix":  # boxes that were not clipped tell the share
        boxes = [m for m in mixes if min(m.box[:2]) > 0 and max(m.box[2:]) < 4096]
        assert 0.1 < len(boxes) / 4000 < 0.5
        return
    weights = torch.tensor([m.weight for m in mixes])
    assert weights.mean().item() == pytest.approx(0.5, abs=0.02)
    # Var Beta(a, a) = 1 / (4 (2 a + 1)).
    assert weights.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_same_seeds_same_result_and_both_seeds_matter():
    first = run()
    torch.manual_seed(7)
    assert same(first, run())
    losses = {
        run(generation_seed=g, training_seed=t).scores.curve[0]["train_loss"]
        for g, t in ((0, 1), (1, 0))
    }
    assert len(losses | {first.scores.curve[0]["train_loss"]}) == 3


def test_the_student_learns_from_its_teacher():
    longer = replace(TINY, duration=StepBudget(steps=36, min_epochs=7), temperature=1.0,
                     views=Views(shuffle=1))  # fmt: skip
    curve = run(longer, split(24, 1)).scores.curve
    untrained = run(replace(longer, rates=(("conv3", 1e-12),)), split(24, 1)).scores.curve
    assert curve[-1]["train_loss"] < 0.5 * untrained[-1]["train_loss"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("protocol", [TINY, STORED], ids=["online", "stored"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_killed_training_resumes_to_the_same_result(tmp_path, monkeypatch, at, protocol, files):
    more = {}
    if protocol.labels == "stored":
        train, parts = files["train"], store(files, tmp_path)
        settings = STORED.without_flips().settings(3, 4, "conv3")
        more = {"labels": StoredLabels(parts, train, settings, 0), "train": read(train)}
        protocol = STORED.without_flips()
    expected = run(protocol, **more)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    path, lines = tmp_path / "checkpoint.safetensors", []

    def kill(line):
        lines.append(line)
        if len(lines) == at:
            raise Killed

    with pytest.raises(Killed):
        run(protocol, checkpoint=path, fingerprint="a", report=kill, **more)
    assert path.is_file()
    assert same(run(protocol, checkpoint=path, fingerprint="a", **more), expected)
    assert not path.exists()


def test_images_that_cannot_be_cut_are_refused():
    with pytest.raises(UserError, match="17x17 px cannot be cut into 2x2 equal parts"):
        run(train=split(12, 1, 17))


# Files.


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setitem(PROTOCOLS, "tiny-fkd", STORED)
    made = {"teacher": tmp_path / "teacher"}
    for name, n, size in (("train", 12, 16), ("test", 30, 32), ("validation", 9, 32)):
        made[name] = tmp_path / f"{name}.safetensors"
        held = split(n, n, size)
        save_tensors(
            made[name], {"images": held.images, "labels": held.labels}, {"classes": CLASSES}
        )
    teacher = make_teacher()
    card = {"network": "conv3", "classes": CLASSES, "size": 32, "mean": TINY.mean, "std": TINY.std}
    save(made["teacher"], teacher.model.state_dict(), card)
    return made


def read(path):
    tensors = load_tensors(path)
    return Split(tensors["images"], tensors["labels"])


def store(files, tmp_path, parts=2, **changes):
    paths = [tmp_path / f"part{part}.safetensors" for part in range(parts)]
    for part, path in enumerate(paths):
        arguments = {
            "protocol": "tiny-fkd", "teacher": files["teacher"], "teacher_classes": None,
            "generation_seed": 0, "part": part, "parts": parts, "flip": False, "device": "cpu",
            "output": path, **changes,
        }  # fmt: skip
        relabel(files["train"], **arguments)
    return paths


def test_stored_labels_are_what_the_teacher_says_of_what_the_student_sees(files, tmp_path):
    paths = store(files, tmp_path)
    protocol = STORED.without_flips()
    settings = protocol.settings(3, 4, "conv3")
    labels, train = StoredLabels(paths, files["train"], settings, 0), read(files["train"])
    teacher, worst = make_teacher(), 0.0
    for epoch in range(settings["epochs"]):
        seen = batches(train.images, protocol, settings["batch_size"], labels.generator(epoch))
        for x, stored in zip(seen, labels.logits(epoch).split(settings["batch_size"]), strict=True):
            said = teacher(x)
            worst = max(worst, ((stored.float() - said).abs() / said.abs().clamp(min=1)).max())
    assert worst < 2**-10  # half precision
    assert labels.bytes() == 2 * 3 * 12 * settings["epochs"]
    assert sum(load_tensors(p)["logits"].nbytes for p in paths) == labels.bytes()
    assert load_tensors(paths[0])["logits"].dtype == torch.float16


def test_one_part_or_many_hold_the_same_labels(files, tmp_path):
    many = [load_tensors(p)["logits"] for p in store(files, tmp_path, parts=3)]
    (tmp_path / "one").mkdir()
    one = [load_tensors(p)["logits"] for p in store(files, tmp_path / "one", parts=1)]
    assert torch.equal(torch.cat(many), one[0]) and len(one) == 1


def test_labels_of_something_else_are_refused(files, tmp_path):
    paths = store(files, tmp_path)
    settings = STORED.without_flips().settings(3, 4, "conv3")
    for arguments in (
        (paths, files["test"], settings, 0),
        (paths, files["train"], settings, 1),
        (paths, files["train"], settings | {"temperature": 4.0}, 0),
    ):
        with pytest.raises(UserError, match="labels of other images or settings"):
            StoredLabels(*arguments)
    for some in (paths[:1], paths[1:], [paths[0], paths[0]]):
        with pytest.raises(UserError, match="end at epoch"):
            StoredLabels(some, files["train"], settings, 0)


def score(files, tmp_path, **changes):
    arguments = {
        "protocol": "tiny", "network": "conv3", "generation_seed": 0, "training_seed": 2,
        "flip": False, "device": "cpu", "threads": 1, "context": {"dataset": "toy"},
        "output": tmp_path / "out/score.json", "predictions": tmp_path / "out/score.safetensors",
        **changes,
    }  # fmt: skip
    return evaluate(files["train"], files["test"], files["validation"], **arguments)


def test_the_stage_scores_with_a_teacher(files, tmp_path):
    found = score(files, tmp_path, teacher=files["teacher"])
    assert found == json.loads((tmp_path / "out/score.json").read_text())
    assert found["settings"]["teacher"] == "resnet10-64" and "label_bytes" not in found
    assert [r["epoch"] for r in found["curve"]] == [3, 5, 7]
    assert found["accuracy"]["best"] == max(r["test"] for r in found["curve"])


def test_the_stage_scores_with_stored_labels_and_counts_them(files, tmp_path):
    found = score(files, tmp_path, protocol="tiny-fkd", labels=store(files, tmp_path))
    assert found["label_bytes"] == 2 * 3 * 12 * found["settings"]["epochs"]
    header = tensor_metadata(tmp_path / "part0.safetensors")
    assert header["protocol"] == "tiny-fkd" and header["classes"] == CLASSES


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "'tiny' needs a teacher"),
        ({"protocol": "tiny-fkd"}, "'tiny-fkd' needs the stored labels"),
        ({"network": "convnet3"}, "unknown network 'convnet3'"),
        ({"teacher_classes": ["n01", "n02", "n09"]}, "does not know class 'n09'"),
    ],
)
def test_mistakes_are_named(files, tmp_path, changes, message):
    if "teacher_classes" in changes:
        changes = {**changes, "teacher": files["teacher"]}
    with pytest.raises(UserError, match=message):
        score(files, tmp_path, **changes)


def test_a_teacher_of_another_size_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", replace(TINY, size=64))
    with pytest.raises(UserError, match="takes images of 32 px, and protocol 'tiny' has 64 px"):
        score(files, tmp_path, teacher=files["teacher"])


def test_labels_are_only_stored_for_protocols_that_have_them(files, tmp_path):
    with pytest.raises(UserError, match="'tiny' stores no labels"):
        store(files, tmp_path, protocol="tiny")
