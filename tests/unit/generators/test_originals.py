"""Checkpoints of the original code: converted, they compute what plain-torch originals compute."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgd3.base.artifacts import load_json, load_tensors
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.loading import load_generator
from mgd3.generators.originals import load_pickled
from originals import OriginalDiT
from twins import make_dit, make_dit_folder

GOLDEN = Path(__file__).parents[2] / "data" / "dit_ddpm50.safetensors"
T, Y = torch.tensor([0, 20, 510, 999]), torch.tensor([3, 0, 9, 10])
X = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(7))


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def original_dit(seed: int = 0, **sizes: int) -> OriginalDiT:
    torch.manual_seed(seed)
    return OriginalDiT(**sizes).eval()


def assert_computes_the_same(generator: DiTGenerator, original: OriginalDiT) -> None:
    with torch.no_grad():
        eps, v = generator.predict(X, T, Y)
        assert relative(torch.cat([eps, v], dim=1), original(X, T, Y)) < 1e-5


def convert(folder: Path, checkpoint: Path, *more: str) -> int:
    command = ["convert", "--family", "dit", "--checkpoint", str(checkpoint)]
    return main([*command, "--folder", str(folder), *more])


def test_the_plain_torch_original_is_the_original():
    golden = load_tensors(GOLDEN)
    network = OriginalDiT(width=64, layers=3, heads=4).eval()
    weights = {k.removeprefix("dit."): t for k, t in golden.items() if k.startswith("dit.")}
    network.load_state_dict(weights, strict=True)
    with torch.no_grad():
        out = network(golden["net.x"], golden["net.t"], golden["net.y"])
    assert relative(out, golden["net.out"]) < 1e-5


@pytest.mark.parametrize(
    "sizes", [{}, {"width": 48, "heads": 3, "layers": 1, "classes": 1000}, {"patch": 4}]
)
def test_a_converted_checkpoint_computes_what_the_original_does(dit_folder, tmp_path, sizes):
    original = original_dit(**sizes)
    torch.save(original.state_dict(), tmp_path / "dit.pt")
    heads = str(sizes.get("heads", 2))
    vae = str(dit_folder / "vae")
    status = convert(tmp_path / "out", tmp_path / "dit.pt", "--vae", vae, "--heads", heads)
    assert status == 0
    generator = load_generator(tmp_path / "out")
    assert isinstance(generator, DiTGenerator)
    assert generator.null_label == sizes.get("classes", 10)
    assert_computes_the_same(generator, original)
    names = load_json(tmp_path / "out" / "model_index.json").get("id2label")
    if sizes.get("classes") == 1000:
        assert names["217"] == "English springer, English springer spaniel"
    else:
        assert names is None


def to_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A diffusers DiT's weights under the original names: the key map of the paper's code, back."""
    block = {
        "norm1.linear": "adaLN_modulation.1",
        "attn1.to_out.0": "attn.proj",
        "ff.net.0.proj": "mlp.fc1",
        "ff.net.2": "mlp.fc2",
    }
    outer = {
        "pos_embed.proj": "x_embedder.proj",
        "proj_out_1": "final_layer.adaLN_modulation.1",
        "proj_out_2": "final_layer.linear",
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "transformer_blocks.0.norm1.emb.class_embedder.embedding_table": (
            "y_embedder.embedding_table"
        ),
    }
    result = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in outer:
            result[f"{outer[layer]}.{kind}"] = tensor
            continue
        index, _, inner = layer.removeprefix("transformer_blocks.").partition(".")
        if inner in block:
            result[f"blocks.{index}.{block[inner]}.{kind}"] = tensor
        elif inner == "attn1.to_q":
            parts = [state[f"transformer_blocks.{index}.attn1.to_{p}.{kind}"] for p in "qkv"]
            result[f"blocks.{index}.attn.qkv.{kind}"] = torch.cat(parts)
    return result


def test_a_diffusers_folder_computes_what_the_original_does(tmp_path):
    folder = make_dit_folder(tmp_path / "dit", seed=3)
    transformer = make_dit(seed=3)
    first = transformer.transformer_blocks[0].norm1.emb
    for block in transformer.transformer_blocks:  # one embedding of t and y, as in the original
        block.norm1.emb.load_state_dict(first.state_dict())
    transformer.save_pretrained(folder / "transformer")
    generator = DiTGenerator.load(folder, origin="dit")
    original = original_dit()
    missing, unexpected = original.load_state_dict(
        to_original(generator.transformer.state_dict()) | {"pos_embed": original.pos_embed},
        strict=True,
    )
    assert not missing
    assert not unexpected
    assert_computes_the_same(generator, original)


def test_of_a_training_checkpoint_the_average_is_taken(dit_folder, tmp_path):
    average, last = original_dit(seed=1), original_dit(seed=2)
    arguments = argparse.Namespace(model="DiT-XL/2", lr=1e-4)
    content = {"model": last.state_dict(), "ema": average.state_dict(), "args": arguments}
    torch.save(content, tmp_path / "0400000.pt")
    options = ("--vae", str(dit_folder), "--heads", "2")
    assert convert(tmp_path / "out", tmp_path / "0400000.pt", *options) == 0
    assert_computes_the_same(DiTGenerator.load(tmp_path / "out"), average)


class _Mischief:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    target = tmp_path / "made by the checkpoint"
    content = {"state_dict": {"a": torch.ones(2)}, "callback": _Mischief(target)}
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match="would run code"):
        load_pickled(tmp_path / "bad.ckpt")
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated or not a PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "truncated or not a PyTorch checkpoint"),
        ({"epoch": 3}, "holds no weights"),
        ([1, 2], "holds no weights"),
    ],
)
def test_files_that_are_no_checkpoints_are_named(tmp_path, content, message):
    path = tmp_path / "dit.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as error:
        load_pickled(path)
    assert str(path) in str(error.value)


def harmed(state: dict[str, Tensor], harm: str) -> dict[str, Tensor]:
    if harm == "lacks":
        del state["blocks.1.attn.proj.bias"]
    elif harm == "holds":
        state["blocks.1.attn.norm.weight"] = torch.ones(3)
    elif harm == "shape":
        state["blocks.1.attn.proj.bias"] = torch.ones(31)
    return state


@pytest.mark.parametrize(
    ("harm", "options", "message"),
    [
        ("", ["--heads", "2"], "a DiT checkpoint has no VAE"),
        ("", ["--vae", "nowhere", "--heads", "2"], "no VAE in nowhere"),
        ("", ["--vae", "VAE"], "no heads are known for it"),
        ("", ["--vae", "VAE", "--heads", "5"], "5 heads"),
        ("lacks", ["--vae", "VAE", "--heads", "2"], "lacks the weight that becomes"),
        ("holds", ["--vae", "VAE", "--heads", "2"], "no DiT has a weight named"),
        ("shape", ["--vae", "VAE", "--heads", "2"], r"shape \(31,\) instead of \(32,\)"),
        ("truncated", ["--vae", "VAE", "--heads", "2"], "is truncated"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(
    dit_folder, tmp_path, capsys, harm, options, message
):
    path = tmp_path / "dit.pt"
    torch.save(harmed(original_dit().state_dict(), harm), path)
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    options = [str(dit_folder / "vae") if option == "VAE" else option for option in options]
    assert convert(tmp_path / "out", path, *options) == 2
    output = capsys.readouterr().err
    assert re.search(message, output), output
    assert "->" in output
    assert not (tmp_path / "out" / "model_index.json").exists()
