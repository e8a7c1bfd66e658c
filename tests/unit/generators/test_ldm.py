"""Latent diffusion: a converted checkpoint computes what a plain-torch original computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgd3.cli import main
from mgd3.generators.convert_ldm import CIN256_V2, convert_ldm
from mgd3.generators.loading import load_generator
from mgd3.generators.unet import ClassEmbedder, UNetGenerator
from originals import original_unet, original_vq_decode, original_vq_encode
from twins import TINY_LDM, LdmState, make_ldm_checkpoint


@pytest.fixture(scope="module")
def generator(ldm_folder: Path) -> UNetGenerator:
    return load_generator(ldm_folder)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return LdmState(TINY_LDM).state


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_the_generator_says_what_it_is(generator):
    assert generator.null_label == 1000
    assert generator.latent_shape == (3, 8, 8)
    assert generator.image_size == 32
    assert generator.codec.scaling_factor == 1.0
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(generator.alphas_cumprod, torch.cumprod(1 - betas, 0))


def test_the_u_net_computes_what_the_original_does(generator, state):
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    t, labels = torch.tensor([0, 500, 999]), torch.tensor([7, 999, 1000])
    context = state["cond_stage_model.embedding.weight"][labels][:, None]
    with torch.no_grad():
        eps, v = generator.predict(x, t, labels)
    assert v is None
    expected = original_unet(below(state, "model.diffusion_model."), x, t, context)
    assert relative(eps, expected) < 1e-5


def test_the_autoencoder_computes_what_the_original_does(generator, state):
    rng = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=rng, dtype=torch.uint8)
    first = below(state, "first_stage_model.")
    expected = original_vq_encode(first, images.float() / 127.5 - 1)
    mean, logvar = generator.encode(images)
    assert relative(mean, expected) < 1e-5
    assert (logvar.exp() < 1e-12).all(), "no posterior: a sample of it is the mean"
    pixels = original_vq_decode(first, mean).clamp(-1, 1)
    decoded = generator.decode(mean)
    assert ((pixels + 1) * 127.5 - decoded).abs().max() <= 1
    assert decoded.float().std() > 5


def test_the_class_embedder_gives_one_token_a_class(generator, ldm_folder):
    embedder = ClassEmbedder.from_pretrained(ldm_folder / "class_embedder")
    labels = torch.tensor([5, 1000])
    assert torch.equal(embedder(labels), generator.contexts[labels])


def test_cin256_v2_has_the_known_number_of_weights():
    """CompVis' own code says "DiffusionWrapper has 400.92 M params" of it."""
    from diffusers import UNet2DConditionModel, VQModel

    from mgd3.generators.convert_ldm import _configurations

    unet, vae, classes = _configurations(CIN256_V2)
    with torch.device("meta"):
        networks = UNet2DConditionModel(**unet), VQModel(**vae), ClassEmbedder(**classes)
    millions = [sum(p.numel() for p in network.parameters()) / 1e6 for network in networks]
    assert millions == pytest.approx([400.92, 55.32, 0.5125], abs=0.01)


def harmed(checkpoint: Path, harm: str) -> None:
    content = torch.load(checkpoint, weights_only=True)
    weights = content["state_dict"]
    if harm == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-9000])
        return
    if harm == "lacks":
        del weights["model.diffusion_model.middle_block.0.in_layers.2.bias"]
    elif harm == "no classes":
        content["state_dict"] = {k: t for k, t in weights.items() if "cond_stage" not in k}
    elif harm == "strange":
        weights["first_stage_model.encoder.down.0.attn.0.q.weight"] = torch.ones(1)
    torch.save(content, checkpoint)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("truncated", "is truncated or not a PyTorch checkpoint"),
        ("lacks", "lacks the weight that becomes mid_block.resnets.0.conv1.bias of unet/"),
        ("no classes", "no weights named cond_stage_model."),
        ("strange", "has too many"),
        ("default configuration", "would have shape (32, 3, 3, 3) instead of (192, 3, 3, 3)"),
        ("other configuration", "is no configuration of a latent diffusion model"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(tmp_path, capsys, harm, message):
    checkpoint, config = make_ldm_checkpoint(tmp_path)
    harmed(checkpoint, harm)
    options = [] if harm == "default configuration" else ["--config", str(config)]
    if harm == "other configuration":
        config.write_text(json.dumps({"model": 3}))
    command = ["convert", "--family", "ldm", "--checkpoint", str(checkpoint), *options]
    assert main([*command, "--folder", str(tmp_path / "out")]) == 2
    output = capsys.readouterr().err
    assert message in output
    assert "->" in output
    assert not (tmp_path / "out" / "model_index.json").exists()


def test_callbacks_of_the_training_are_passed_over(tmp_path, monkeypatch):
    """Lightning keeps its callbacks in a checkpoint, and is not installed here."""
    import sys
    import types

    module = types.ModuleType("lightning_like")
    callback = type("ModelCheckpoint", (), {"__module__": "lightning_like"})
    module.ModelCheckpoint = callback
    monkeypatch.setitem(sys.modules, "lightning_like", module)
    checkpoint, config = make_ldm_checkpoint(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    kept = callback()
    kept.best = 3.5
    torch.save({**content, "callbacks": {callback: {"best": 1}, "x": kept}}, checkpoint)
    monkeypatch.delitem(sys.modules, "lightning_like")
    convert_ldm(checkpoint, config, tmp_path / "out")
    assert (tmp_path / "out" / "model_index.json").exists()
