"""MinMax's losses: against a brute-force reading, their gradients, and what the registry says.

That fine-tuning with them resumes to the same weights is in test_finetuning.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from mgd3.generators.diffusion_loss import HybridLoss
from mgd3.generators.finetuning import _trainable
from mgd3.generators.minmax import MinMaxLoss
from mgd3.generators.recipes import FinetuneRecipe, MinMaxRecipe
from mgd3.generators.registry import GENERATORS
from twins import make_dit


class BruteForce:
    """Image by image, with lists for memories."""

    def __init__(self, recipe: MinMaxRecipe) -> None:
        self.recipe, self.real, self.generated = recipe, {}, {}

    def __call__(self, x0, x0_hat, labels):
        loss, classes = torch.zeros(()), labels.unique().tolist()
        for c in classes:
            of_class = [x for x, label in zip(x0_hat, labels, strict=True) if label == c]

            def cosines(memory, of_class=of_class):
                return [F.cosine_similarity(a.flatten(), b.flatten(), 0)
                        for a in of_class for b in memory]  # fmt: skip

            if self.real.get(c):
                least = torch.stack(cosines(self.real[c])).min()
                most = torch.stack(cosines(self.generated[c])).max()
                term = self.recipe.representativeness * (1 - least) + self.recipe.diversity * most
                loss = loss + term / len(classes)
        for z, hat, c in zip(x0, x0_hat.detach(), labels.tolist(), strict=True):
            for memory, latent in ((self.real, z), (self.generated, hat)):
                memory.setdefault(c, []).append(latent)
                del memory[c][: -self.recipe.memory]
        return loss


@pytest.mark.parametrize("memory", [5, 7, 64])
def test_losses_are_those_of_a_brute_force_reading(memory):
    """Twelve batches: the first finds memories empty, later ones find some full and wrapped."""
    recipe = MinMaxRecipe(representativeness=0.3, diversity=0.7, memory=memory)
    ours, theirs = MinMaxLoss(recipe, 6, 4 * 2 * 2), BruteForce(recipe)
    g = torch.Generator().manual_seed(0)
    seen = torch.zeros(6)
    for step in range(12):
        # Class 5 comes late, class 0 fills a whole batch once.
        labels = torch.randint(5 if step < 8 else 6, (5,), generator=g)
        labels = torch.zeros(5, dtype=torch.int64) if step == 4 else labels
        x0, noise = torch.randn(2, 5, 4, 2, 2, generator=g)
        x0_hat = (x0 + noise).requires_grad_()
        one, other = ours(x0, x0_hat, labels), theirs(x0, x0_hat, labels)
        torch.testing.assert_close(one, other)
        if step == 0:
            assert one == 0
            assert torch.autograd.grad(one, x0_hat)[0].abs().max() == 0
        elif one > 0:
            gradients = [torch.autograd.grad(loss, x0_hat)[0] for loss in (one, other)]
            assert gradients[0].abs().max() > 0
            torch.testing.assert_close(*gradients)
        seen += torch.bincount(labels, minlength=6)
    assert torch.equal(ours.pushed, seen.long())
    if memory < 64:
        assert (seen > memory).any(), "some memory has wrapped"
    assert not ours.real.requires_grad and not ours.generated.requires_grad


def test_an_unmet_class_counts_as_zero_in_the_mean():
    recipe = MinMaxRecipe(representativeness=1, diversity=0, memory=4)
    loss = MinMaxLoss(recipe, 3, 2)
    x = torch.tensor([[1.0, 0.0]])
    assert loss(x, x, torch.tensor([0])) == 0
    # Class 0 turned by 90 degrees: 1 - 0; class 2 is new; two classes.
    got = loss(x.repeat(2, 1), torch.tensor([[0.0, 3.0], [5.0, 5.0]]), torch.tensor([0, 2]))
    assert got == 0.5


def test_gradients_flow_into_trained_parameters_only():
    dit = make_dit().requires_grad_(False)
    trained = _trainable(dit, FinetuneRecipe())
    loss = MinMaxLoss(MinMaxRecipe(), 10, 4 * 8 * 8)
    of, labels = HybridLoss(torch.device("cpu")), torch.tensor([0, 1, 1])
    for _ in range(2):  # at first the memories are empty
        x0, noise = torch.randn(2, 3, 4, 8, 8)
        t = torch.tensor([100, 500, 900])
        x_t = of.add_noise(x0, t, noise)
        eps = dit(x_t, timestep=t, class_labels=labels).sample.chunk(2, 1)[0]
        value = loss(x0, of.clean(x_t, t, eps), labels)
    value.backward()
    given = {name for name, p in dit.named_parameters() if p.grad is not None}
    assert given == set(trained) and 0 < len(given) < len(list(dit.parameters()))
    assert any(p.grad.abs().max() > 0 for p in trained.values())


def test_the_published_recipe():
    recipe = GENERATORS["dit-minmax"].finetune
    assert (recipe.minmax.representativeness, recipe.minmax.diversity) == (0.002, 0.008)
    assert (recipe.minmax.memory, recipe.epochs, recipe.batch) == (64, 8, 8)
    assert recipe.max_steps_per_class * 10 == 12_000 and recipe.parameters == "difffit"
    plain, with_it = (GENERATORS[f"mnist-{name}"].finetune for name in ("finetuned", "minmax"))
    assert dataclasses.replace(with_it, minmax=None) == plain


def test_parts_of_batches_and_batches_past_the_memories_are_refused():
    with pytest.raises(ValueError, match="accumulate"):
        FinetuneRecipe(minmax=MinMaxRecipe(), accumulate=2)
    with pytest.raises(ValueError, match="memories"):
        FinetuneRecipe(minmax=MinMaxRecipe(memory=4))
    with pytest.raises(ValueError, match="a batch of 5"):
        MinMaxLoss(MinMaxRecipe(memory=4), 2, 3)(
            *torch.randn(2, 5, 3), torch.zeros(5, dtype=torch.int64)
        )
