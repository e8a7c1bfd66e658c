"""GLaD's cross-architecture protocol: schedules, averaged weights, resumption, networks."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2 as T

from mgd3.base.errors import UserError
from mgd3.base.seeding import seed_of, torch_generator
from mgd3.data.images import CROPS
from mgd3.evaluation import glad, hard, loop
from mgd3.evaluation.protocols import DSA_OPERATIONS, Optimiser, get_protocol
from mgd3.networks.architectures import create_network
from mgd3.networks.augment import normalise
from mgd3.networks.dsa import apply_dsa, draw_dsa_epoch
from mgd3.networks.names import IMAGENET_MEAN, IMAGENET_STD, get_network

CPU = torch.device("cpu")
NETWORKS = ("alexnet", "vgg11", "resnet18", "vit")
COUNTS = {"alexnet": 2_333_002, "vgg11": 9_476_874, "resnet18": 11_173_962, "vit": 16_176_650}
TINY = replace(
    get_protocol("glad-small"),
    size=16,
    epochs=6,
    optimiser=Optimiser(0.01, 5e-4, batch_size=8),
    average_decay=0.6,
)


# The schedule, against PyTorch's schedulers driven as the published loop drives them


def published_rates(epochs: int, rate: float) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimiser, 1e-7, 1.0, epochs // 2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs // 2)
    current, rates = warm_up, []
    for epoch in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        current.step()
        if epoch == epochs // 2:
            current = cosine
    return rates


@pytest.mark.parametrize(("epochs", "rate"), [(1000, 0.001), (1000, 0.0001), (40, 0.01), (7, 1.0)])
def test_the_learning_rate_is_the_published_loops(epochs, rate):
    protocol = replace(
        get_protocol("glad"),
        epochs=epochs,
        optimiser=Optimiser(rate, 5e-4, 256),
        learning_rates={},
    )
    found = protocol.plan(10, 10, "alexnet").learning_rates()
    assert found == pytest.approx(published_rates(epochs, rate), rel=1e-6, abs=1e-10)


def test_the_learning_rate_in_numbers():
    rates = get_protocol("glad").plan(10, 10, "vit").learning_rates()
    at = [0, 1, 250, 499, 500, 501, 502, 751, 998, 999]
    expected = [1e-10, 2.0001e-6, 5.0e-4, 9.98e-4, 1e-3, 1e-3, 9.9999e-4, 5e-4, 8.883e-8, 3.948e-8]
    assert [rates[e] for e in at] == pytest.approx(expected, rel=1e-3)
    assert len(rates) == 1000


def test_glads_settings_are_the_published_ones():
    for network in NETWORKS:
        plan = get_protocol("glad").plan(10, 10, network)
        assert plan.optimiser.learning_rate == (0.0001 if network == "vgg11" else 0.001)
        assert (plan.optimiser.weight_decay, plan.optimiser.momentum) == (5e-4, 0.9)
        assert (plan.optimiser.batch_size, plan.epochs) == (256, 1000)
        assert plan.evaluation_epochs == (1000,), "once, at the end"
    settings = get_protocol("glad").settings(10, 10, "vgg11")
    assert settings["augmentation"]["dsa"] == list(DSA_OPERATIONS)
    assert (settings["size"], settings["learning_rate"]) == (128, 0.0001)
    assert (settings["average_decay"], settings["resize"]) == (0.995, "tensor")


def test_the_decay_in_numbers():
    decays = get_protocol("glad").plan(10, 10, "vit").decays()
    at = [0, 1, 2, 3, 99, 198, 199, 200, 999]
    assert [decays[n] for n in at] == pytest.approx(
        [0, 0, 2 / 3, 3 / 4, 0.99, 198 / 199, 0.995, 0.995, 0.995]
    )


def test_hard_cross_is_the_hard_trainer_with_glads_networks():
    cross, plain = get_protocol("hard-cross"), get_protocol("hard")
    assert (cross.engine, cross.networks, cross.size) == ("hard", "glad", 128)
    for network in ("alexnet", "vgg11", "resnet18"):
        assert cross.plan(10, 10, network) == plain.plan(10, 10)
    assert cross.plan(10, 10, "vit").optimiser == replace(
        plain.plan(10, 10).optimiser, learning_rate=0.001
    ), "at 0.01 a transformer without a norm diverges"
    assert cross.augmentation == plain.augmentation


def test_data_sets_without_mirror_images_draw_no_flips():
    assert get_protocol("glad").without_flips().operations == (
        "color", "crop", "cutout", "scale", "rotate",
    )  # fmt: skip


# Networks


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_those_of_glads_networks(name):
    with torch.device("meta"):
        network = create_network(name, 10, 128, "glad")
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]


def test_vit_needs_whole_patches():
    with pytest.raises(UserError, match="divisible by 16, not 100"):
        get_network("vit", 100, "glad")


def randomised(name: str, size: int):
    torch.manual_seed(1)
    network = create_network(name, 10, size, "glad").double().eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.3)
    return network, dict(network.named_parameters())


def norm(x, weight, bias):
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def test_alexnet_is_five_convolutions_without_a_norm():
    network, named = randomised("alexnet", 32)
    p = iter(named.values())
    x = y = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for padding, pool in ((2, True), (2, True), (1, False), (1, False), (1, True)):
        y = F.conv2d(y, next(p), next(p), padding=padding).relu()
        y = F.max_pool2d(y, 2) if pool else y
    torch.testing.assert_close(network(x), F.linear(y.flatten(1), next(p), next(p)))


def test_vgg11_norms_after_each_convolution():
    network, named = randomised("vgg11", 64)
    p = iter(named.values())
    x = y = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for pool in (True, True, False, True, False, True, False, True):
        y = norm(F.conv2d(y, next(p), next(p), padding=1), next(p), next(p)).relu()
        y = F.max_pool2d(y, 2) if pool else y
    y = F.adaptive_max_pool2d(y, 7).flatten(1)
    torch.testing.assert_close(network(x), F.linear(y, next(p), next(p)))


def test_resnet18_has_cifars_stem():
    network, named = randomised("resnet18", 16)
    p = iter(named.values())
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    y = norm(F.conv2d(x, next(p), padding=1), next(p), next(p)).relu()
    for stride in (1, 1, 2, 1, 2, 1, 2, 1):
        z = norm(F.conv2d(y, next(p), stride=stride, padding=1), next(p), next(p)).relu()
        z = norm(F.conv2d(z, next(p), padding=1), next(p), next(p))
        if stride == 2:
            y = norm(F.conv2d(y, next(p), stride=2), next(p), next(p))
        y = (z + y).relu()
    torch.testing.assert_close(network(x), F.linear(y.mean((2, 3)), next(p), next(p)))


def test_vit_attends_without_a_norm():
    network, named = randomised("vit", 48)
    named = {name: p.detach() for name, p in named.items()}
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    kernel = named["patches.weight"].flatten(1)
    tiles = x.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).reshape(2, 9, -1)
    y = F.linear(tiles, kernel, named["patches.bias"])
    y = torch.cat([named["token"].expand(2, -1, -1), y], 1) + named["positions"]
    for layer in range(10):
        attention, mlp = (f"layers.{1 + 2 * layer + k}.body" for k in (0, 1))
        q, k, v = F.linear(y, named[f"{attention}.to_qkv.weight"]).chunk(3, -1)
        heads = []
        for h in range(8):
            part = slice(64 * h, 64 * h + 64)
            weights = (q[..., part] @ k[..., part].mT * 64**-0.5).softmax(-1)
            heads.append(weights @ v[..., part])
        out = f"{attention}.out.0"
        y = F.linear(torch.cat(heads, -1), named[f"{out}.weight"], named[f"{out}.bias"]) + y
        z = F.gelu(F.linear(y, named[f"{mlp}.0.weight"], named[f"{mlp}.0.bias"]))
        y = F.linear(z, named[f"{mlp}.3.weight"], named[f"{mlp}.3.bias"]) + y
    torch.testing.assert_close(
        network(x), F.linear(y[:, 0], named["head.weight"], named["head.bias"])
    )
    drops = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert drops == [0.1] * (1 + 3 * 10)
    assert named["positions"].std() == pytest.approx(1, abs=0.03)


# Test images


@pytest.mark.parametrize("how", ["tensor", "tensor-aliased"])
@pytest.mark.parametrize("shape", [(375, 500), (160, 131), (28, 28)])
def test_images_are_resized_as_tensors(how, shape):
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=g).numpy()
    picture = Image.fromarray(pixels)
    published = T.Compose(
        [
            T.ToImage(),
            T.ToDtype(torch.float32, scale=True),
            T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            T.Resize(128, antialias=how == "tensor"),
            T.CenterCrop(128),
        ]
    )
    found = torch.from_numpy(np.asarray(CROPS[how](picture, 128))).permute(2, 0, 1)[None]
    found = normalise(found, IMAGENET_MEAN, IMAGENET_STD)[0]
    difference = (found - published(picture)).abs() * torch.tensor(IMAGENET_STD)[:, None, None]
    assert difference.max() <= 0.5 / 255 + 1e-5, "half a level: rounding to uint8"
    assert difference.mean() <= 0.3 / 255


# Training


def split(n, seed, classes=3, size=16):
    """Images whose brightness tells their class, with noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randint(120, (n, 3, size, size), generator=g)
    ramp = torch.arange(size)[None, None, :, None] * (labels[:, None, None, None] * 4)
    return loop.Split((noise + ramp).to(torch.uint8), labels)


def run(protocol=TINY, network="vit", report=lambda line: None, train=None, **more):
    return glad.train_network(
        train or split(12, 1),
        split(30, 2),
        split(21, 3),
        protocol=protocol,
        plan=protocol.plan(3, 4, network),
        network=network,
        num_classes=3,
        generation_seed=0,
        training_seed=0,
        device=CPU,
        report=report,
        **more,
    )


def test_the_averaged_network_is_tested(monkeypatch):
    """Against a second loop over the same draws, one parameter at a time."""
    protocol = replace(TINY, networks="hard")
    seen = []

    def spy(model, images, *_):
        seen.append(copy.deepcopy(model))
        return torch.zeros(len(images), dtype=torch.long)

    monkeypatch.setattr(loop, "predict", spy)
    train, plan = split(12, 1), protocol.plan(3, 4)
    glad.train_network(
        train, split(30, 2), None, protocol=protocol, plan=plan,
        network="convnet3", num_classes=3, generation_seed=0, training_seed=0, device=CPU,
        report=lambda line: None,
    )  # fmt: skip
    torch.manual_seed(seed_of("train", 0, 0, "initial weights"))
    model = create_network("convnet3", 3, 16)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    history = []
    for epoch, rate in enumerate(plan.learning_rates()):
        optimiser.param_groups[0]["lr"] = rate
        generator = torch_generator("train", 0, 0, "augmentation", epoch)
        draws = draw_dsa_epoch(12, 16, 8, protocol.operations, generator)
        for start in (0, 8):
            rows = slice(start, start + 8)
            images = normalise(train.images[draws.order[rows]], IMAGENET_MEAN, IMAGENET_STD)
            images = apply_dsa(images, draws.operations[start // 8], draws.parameters[rows])
            loss = F.cross_entropy(model(images), train.labels[draws.order[rows]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        history.append([p.detach().clone() for p in model.parameters()])
    expected = history[1]
    for n, decay in ((2, 0.6), (3, 0.6), (4, 0.6), (5, 0.6)):
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, history[n], strict=True)]
    (tested,) = seen
    for a, b in zip(tested.parameters(), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert any(
        (a - b).abs().max() > 1e-4 for a, b in zip(tested.parameters(), history[-1], strict=True)
    )


def test_a_batch_that_does_not_fit_is_trained_on_in_parts(monkeypatch):
    tested, cut = [], []
    without_dropout = {"protocol": replace(TINY, networks="hard"), "network": "convnet3"}

    def spy(model, images, *_):
        tested.append(copy.deepcopy(model))
        return torch.zeros(len(images), dtype=torch.long)

    def small_memory(module, given):
        if module.training and len(given[0]) > 3:
            cut.append(len(given[0]))
            raise torch.OutOfMemoryError("out of memory")

    def create(*arguments):
        model = create_network(*arguments)
        model.register_forward_pre_hook(small_memory)
        return model

    monkeypatch.setattr(loop, "predict", spy)
    run(**without_dropout)
    monkeypatch.setattr(glad, "create_network", create)
    run(**without_dropout)
    assert cut
    whole, parts = tested[0], tested[-1]
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_training_learns_and_is_tested_once():
    protocol = replace(TINY, networks="hard", epochs=60, average_decay=0.8)
    scores = run(protocol, "convnet3").scores
    assert scores.accuracy("test")["last"] >= 70
    assert [r["epoch"] for r in scores.curve] == [60]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_killed_training_resumes_to_the_same_result(tmp_path, monkeypatch, epoch):
    """With dropout, momentum and averaged weights."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    expected = run()
    path = tmp_path / "checkpoint.safetensors"
    drawn = []

    def draw(*arguments):
        drawn.append(arguments)
        if len(drawn) > epoch:
            raise Killed
        return draw_dsa_epoch(*arguments)

    monkeypatch.setattr(glad, "draw_dsa_epoch", draw)
    with pytest.raises(Killed):
        run(checkpoint=path, fingerprint="a")
    assert path.is_file()
    drawn.clear()
    monkeypatch.setattr(glad, "draw_dsa_epoch", lambda *a: drawn.append(a) or draw_dsa_epoch(*a))
    again = run(checkpoint=path, fingerprint="a")
    assert len(drawn) == TINY.epochs - epoch, "only what was missing"
    assert again.scores.curve == expected.scores.curve
    assert torch.equal(again.scores.predictions["last"], expected.scores.predictions["last"])
    assert not list(tmp_path.iterdir())


def test_glads_networks_train_under_the_hard_protocol():
    protocol = replace(
        get_protocol("hard-cross"), size=32, duration=get_protocol("hard-small").duration
    )
    plan = replace(protocol.plan(3, 4), epochs=1, evaluation_epochs=(1,))
    for network in NETWORKS:
        result = hard.train_network(
            split(6, 1, size=32), split(6, 2, size=32), None, protocol=protocol, plan=plan,
            network=network, num_classes=3, generation_seed=0, training_seed=0, device=CPU,
            report=lambda line: None,
        )  # fmt: skip
        assert np.isfinite(result.scores.curve[0]["train_loss"])
