"""Fine-tuning: what is trained, that it learns, resumes to the same bytes, and stays a DiT."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from safetensors.torch import load_file
from torch import nn

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.base.threads import computed_by
from mgd3.data import make_dataset
from mgd3.data.imagenet import imagenet_wnids
from mgd3.data.index import write_index
from mgd3.data.meaning import Meaning
from mgd3.generators import finetuning
from mgd3.generators.difffit import add_scales, fold_scales, is_trained
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.finetuning import base_rows, finetune, with_label_rows
from mgd3.generators.folder import check_folder
from mgd3.generators.recipes import FinetuneRecipe, MinMaxRecipe
from mgd3.generators.registry import VAE_FILES
from twins import make_dit, make_dit_folder

RECIPE = FinetuneRecipe(epochs=2, batch=8, ema=0.5, precision="float32")
MINMAX = dataclasses.replace(
    RECIPE, minmax=MinMaxRecipe(representativeness=0.2, diversity=0.8, memory=8)
)
WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Digits with four training images a class, and their index."""
    dataset = make_dataset("digits")
    path = tmp_path_factory.mktemp("index") / "index.parquet"
    write_index(dataset, path)
    table, metadata = artifacts.load_table(path), artifacts.table_metadata(path)
    few = table[table["split"] == "train"].groupby("class").head(4).reset_index(drop=True)
    artifacts.save_table(path, few, {k: v for k, v in metadata.items() if k != "schema"})
    return dataset, path


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A DiT whose blocks share their embeddings, as those of the original do."""
    folder = make_dit_folder(tmp_path_factory.mktemp("base") / "dit", num_classes=7)
    dit = make_dit(num_classes=7)
    for block in dit.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(dit.transformer_blocks[0].norm1.emb.state_dict())
    dit.save_pretrained(folder / "transformer")
    index = artifacts.load_json(folder / "model_index.json")
    names = {str(row): f"digit-{9 - row}" for row in range(7)}  # 9 .. 3: 0, 1, 2 are new to it
    artifacts.save_json(folder / "model_index.json", {**index, "id2label": names, "origin": "dit"})
    return folder


@pytest.fixture(scope="module")
def tuned(small, base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "generator"
    finetune(*small, base, RECIPE, folder)
    return folder


@pytest.fixture(scope="module")
def tuned_minmax(small, base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "minmax"
    finetune(*small, base, MINMAX, folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return artifacts.load_tensors(folder / WEIGHTS)


def test_the_folder_is_a_generator_of_the_data_sets_classes(tuned):
    generator = DiTGenerator.load(tuned)
    assert generator.null_label == 10
    index = artifacts.load_json(tuned / "model_index.json")
    assert index["id2label"] == {str(d): f"digit-{d}" for d in range(10)}
    assert index["origin"] == "dit"
    assert generator.transformer.transformer_blocks[0].norm3.eps == 1e-6
    told = artifacts.load_json(tuned / "training.json")
    assert {key: told[key] for key in ("processor", "threads")} == computed_by()
    assert told["steps"] == 10 and told["new_classes"] == ["digit-0", "digit-1", "digit-2"]
    assert not [f for f in tuned.rglob("*") if f.is_file() and f.name.startswith(".")]


def test_difffit_changes_biases_labels_and_scaled_layers_only(base, tuned):
    before, after = weights(base), weights(tuned)
    assert set(before) == set(after), "scales are folded in"
    scaled = [f"transformer_blocks.0.{name}.weight" for name in
              ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.2")]  # fmt: skip
    for name in before:
        if "class_embedder" in name:
            continue
        # Keys' biases shift all scores of a query alike, which softmax does not see.
        if "to_k.bias" in name:
            continue
        trained = name.endswith("bias") or name in scaled
        assert (not torch.equal(before[name], after[name])) == trained, name


def test_blocks_that_shared_their_embeddings_still_do(tuned):
    held = weights(tuned)
    tables = [t for name, t in held.items() if "class_embedder" in name]
    assert len(tables) == 2 and torch.equal(*tables)


def test_all_trains_all(small, base, tmp_path):
    finetune(*small, base, dataclasses.replace(RECIPE, parameters="all"), tmp_path / "g")
    before, after = weights(base), weights(tmp_path / "g")
    same = [
        name
        for name in before
        if "class_emb" not in name and torch.equal(before[name], after[name])
    ]
    assert all("to_k.bias" in name for name in same)


def test_a_base_in_several_files_gives_the_same_generator(small, base, tuned, tmp_path):
    """Its VAE and its transformer are sharded; what is made is in one file each."""
    sharded = shutil.copytree(base, tmp_path / "sharded")
    for part, network in (("vae", AutoencoderKL), ("transformer", DiTTransformer2DModel)):
        whole = network.from_pretrained(base / part)
        (sharded / part / "diffusion_pytorch_model.safetensors").unlink()
        whole.save_pretrained(sharded / part, max_shard_size="30KB")
        assert len(list((sharded / part).glob("*-of-*.safetensors"))) > 1
    finetune(*small, sharded, RECIPE, tmp_path / "g")
    for file in VAE_FILES:
        assert (tmp_path / "g" / file).is_file()
    assert check_folder(tmp_path / "g") == "dit"
    for part in ("vae", "transformer"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        made, expected = load_file(tmp_path / "g" / file), load_file(tuned / file)
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_folding_scales_changes_nothing():
    dit = make_dit().requires_grad_(False)
    plain = copy.deepcopy(dit)
    add_scales(dit)
    with torch.no_grad():
        for name, parameter in dit.named_parameters():
            if ".gamma." in name:
                parameter.uniform_(0.5, 2)
    x = torch.randn(3, 4, 8, 8)
    ask = {"timestep": torch.tensor([3, 500, 999]), "class_labels": torch.tensor([0, 5, 10])}
    with torch.no_grad():
        scaled, unscaled = dit(x, **ask).sample, plain(x, **ask).sample
        fold_scales(dit)
        folded = dit(x, **ask).sample
    assert not torch.allclose(scaled, unscaled, atol=1e-3)
    torch.testing.assert_close(folded, scaled, atol=1e-5, rtol=1e-5)
    assert {n for n, _ in dit.named_parameters()} == {n for n, _ in plain.named_parameters()}


def test_scales_are_in_the_first_half_of_the_blocks():
    dit = make_dit(num_layers=4)
    add_scales(dit)
    names = [n for n, _ in dit.named_parameters() if ".gamma." in n]
    assert {n.split(".")[1] for n in names} == {"0", "1"}
    # Queries, keys, values, attention output, two residual branches.
    assert len(names) == 2 * 6
    assert all(is_trained(n) for n in names)
    assert not is_trained("transformer_blocks.0.norm1.linear.weight")


@pytest.mark.parametrize(("recipe", "whole_run"), [(RECIPE, "tuned"), (MINMAX, "tuned_minmax")])
def test_an_interrupted_fine_tuning_ends_with_the_same_weights(
    small, base, recipe, whole_run, tmp_path, monkeypatch, request
):
    expected = (request.getfixturevalue(whole_run) / WEIGHTS).read_bytes()
    monkeypatch.setitem(finetuning.CHECKPOINT_SECONDS, "difffit", 0)
    whole, begun = finetuning._draw, []

    class Interrupted(Exception):
        pass

    def stop_at(latents, images, recipe, step, flip):
        begun.append(step)
        if step == 7 and begun.count(7) == 1:
            raise Interrupted
        return whole(latents, images, recipe, step, flip)

    monkeypatch.setattr(finetuning, "_draw", stop_at)
    with pytest.raises(Interrupted):
        finetune(*small, base, recipe, tmp_path / "g")
    assert not (tmp_path / "g" / WEIGHTS).exists()
    if recipe.minmax:
        held = artifacts.load_tensors(tmp_path / "g" / ".checkpoint.safetensors")
        assert held["extra.pushed"].sum() == 7 * 8
        assert held["extra.real"].shape == held["extra.generated"].shape == (10, 8, 4 * 8 * 8)
    encoded = []
    monkeypatch.setattr(finetuning, "decode_images", lambda *_: encoded.append(1))
    finetune(*small, base, recipe, tmp_path / "g")
    assert begun == [*range(8), *range(7, 10)] and encoded == []
    assert (tmp_path / "g" / WEIGHTS).read_bytes() == expected


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        ({"accumulate": 3}, 1e-3),
        ({"checkpointing": False}, 1e-4),
        ({"precision": "bfloat16"}, 0.5),
    ],
)
def test_what_saves_memory_keeps_the_result(small, base, tuned, tmp_path, change, tolerance):
    finetune(*small, base, dataclasses.replace(RECIPE, **change), tmp_path / "g")
    before, one, other = weights(base), weights(tuned), weights(tmp_path / "g")
    moved = torch.cat([(one[k] - before[k]).flatten() for k in one if "class_emb" not in k])
    apart = torch.cat([(other[k] - one[k]).flatten() for k in one if "class_emb" not in k])
    assert moved.norm() > 0.01
    # Adam's first steps have the size of the learning rate whatever the gradient's, so that
    # rounding in a small gradient shows.
    assert apart.norm() <= tolerance * moved.norm()


def test_it_learns(small, base, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=30, parameters="all", ema=0.9, batch=20)
    dataset, index = small

    def loss(folder: Path) -> float:
        generator = DiTGenerator.load(folder)
        latents = finetuning._cached_latents(
            dataset, finetuning.Index.read(index), generator, tmp_path / "x",
            {"index": "i", "vae": "v"},
        )  # fmt: skip
        dit = with_label_rows(generator.transformer, base_rows(folder, dataset, [
            f"digit-{d}" for d in range(10)]))  # fmt: skip
        of = finetuning.HybridLoss(torch.device("cpu"))
        batch = finetuning._draw(latents, torch.arange(40), recipe, 10**6, False)
        with torch.no_grad():
            x_t = of.add_noise(batch.x0, batch.t, batch.noise)
            output = dit(x_t, timestep=batch.t, class_labels=batch.labels).sample
            return of(output, batch.x0, x_t, batch.t, batch.noise).item()

    finetune(dataset, index, base, recipe, tmp_path / "g")
    assert loss(tmp_path / "g") < 0.8 * loss(base)


def test_a_further_loss_sees_the_predicted_clean_latents_and_is_checkpointed(
    small, base, tuned, tmp_path
):
    class Pull(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(10))

        def forward(self, x0, x0_hat, labels):
            assert x0.shape == x0_hat.shape == (len(labels), 4, 8, 8)
            assert x0_hat.requires_grad and not x0.requires_grad
            self.seen += torch.bincount(labels, minlength=10)
            return 1e-4 * x0_hat.square().mean()

    pull = Pull()
    finetune(*small, base, RECIPE, tmp_path / "g", extra=pull)
    assert pull.seen.sum() == 2 * 40 and pull.seen.min() == 8  # each image once an epoch
    assert (tmp_path / "g" / WEIGHTS).read_bytes() != (tuned / WEIGHTS).read_bytes()


def test_minmax_losses_change_what_is_learnt(tuned, tuned_minmax):
    plain, minmax = weights(tuned), weights(tuned_minmax)
    assert set(plain) == set(minmax)
    assert any(not torch.equal(plain[name], minmax[name]) for name in plain)
    told = artifacts.load_json(tuned_minmax / "training.json")["recipe"]["minmax"]
    assert told == {"representativeness": 0.2, "diversity": 0.8, "memory": 8}


def test_training_ends_at_the_steps_for_each_class(small, base, tmp_path, monkeypatch):
    draw, begun = finetuning._draw, []
    monkeypatch.setattr(finetuning, "_draw", lambda *a: (begun.append(a[3]), draw(*a))[1])
    recipe = dataclasses.replace(RECIPE, batch=2, epochs=1, max_steps_per_class=1)
    finetune(*small, base, recipe, tmp_path / "g")
    assert begun == list(range(10))  # of the epoch's twenty
    assert artifacts.load_json(tmp_path / "g" / "training.json")["steps"] == 10


def test_label_rows_start_from_those_of_the_base(base):
    old = DiTGenerator.load(base).transformer
    table = old.transformer_blocks[1].norm1.emb.class_embedder.embedding_table.weight.clone()
    new = with_label_rows(old, {"a": 5, "b": None, "c": 0})
    rows = new.transformer_blocks[1].norm1.emb.class_embedder.embedding_table.weight
    torch.testing.assert_close(rows, torch.stack([table[5], table[:7].mean(0), table[0], table[7]]))
    assert new.config.num_embeds_ada_norm == 3


def test_classes_are_found_by_wnid_in_a_generator_of_imagenet(tmp_path):
    folder = make_dit_folder(tmp_path / "dit", num_classes=1000)
    dataset = dataclasses.replace(
        make_dataset("digits"),
        meanings={"digit-1": Meaning(wnid="n02102040"), "digit-2": Meaning(prompt="a two")},
    )
    rows = base_rows(folder, dataset, ["digit-0", "digit-1", "digit-2"])
    assert rows == {
        "digit-0": None,
        "digit-1": imagenet_wnids().index("n02102040"),
        "digit-2": None,
    }


def test_mistakes_are_named(small, base, tmp_path):
    with pytest.raises(UserError, match="do not fill a batch of 99"):
        finetune(*small, base, dataclasses.replace(RECIPE, batch=99), tmp_path / "g")
    other = make_dit_folder(tmp_path / "other")
    config = json.loads((other / "scheduler" / "scheduler_config.json").read_text())
    artifacts.save_json(other / "scheduler" / "scheduler_config.json", {**config, "beta_end": 0.01})
    with pytest.raises(UserError, match="noise schedule"):
        finetune(*small, other, RECIPE, tmp_path / "h")
