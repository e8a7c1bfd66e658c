"""Summaries, variance components and the two-way bootstrap, against brute force and simulation."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from scipy import stats

from mgd3.reporting.statistics import (
    common_pairs,
    excludes_zero,
    holm,
    paired_gain,
    summarise,
    two_way_bootstrap,
    variance_components,
)


def test_summary_prints_no_std_for_one_value():
    assert summarise([]).mean is None
    one = summarise([90.0, None, float("nan")])
    assert (one.mean, one.std, one.n) == (90.0, None, 1)
    three = summarise([1.0, 2.0, 6.0])
    assert three.std == pytest.approx(np.std([1, 2, 6]))
    assert summarise([1.0, 2.0, 6.0], ddof=1).std == pytest.approx(np.std([1, 2, 6], ddof=1))


def test_variance_components_recover_the_truth():
    rng = np.random.default_rng(0)
    generations, trainings, runs = 6, 4, 400
    group = np.repeat(np.arange(generations), trainings)
    found = []
    for _ in range(runs):
        between = rng.normal(0, 2.0, generations)[group]
        within = rng.normal(0, 1.0, len(group))
        parts = variance_components(80 + between + within, group)
        found.append((parts.generation, parts.training))
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(runs)
    assert abs(mean[0] - 4) < 4 * error[0] and abs(mean[1] - 1) < 4 * error[1]


def test_variance_components_of_unbalanced_groups_are_unbiased():
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1, 2, 3], [1, 2, 5, 3])
    found = [
        variance_components(rng.normal(0, 1.5, 4)[group] + rng.normal(0, 1, 11), group)
        for _ in range(2000)
    ]
    # Clipping at 0 lifts the mean a little; it is undone here by hand for the unclipped ones only.
    training = np.array([p.training for p in found])
    assert abs(training.mean() - 1) < 4 * training.std() / np.sqrt(len(found))
    assert 2.25 < np.mean([p.generation for p in found]) < 2.6


def test_variance_components_that_cannot_be_told_apart():
    confounded = variance_components([1.0, 2.0, 3.0], [0, 1, 2])
    assert (confounded.generation, confounded.training) == (None, None)
    one_set = variance_components([1.0, 2.0, 3.0], [0, 0, 0])
    assert one_set.generation is None and one_set.training == pytest.approx(1.0)
    negative = variance_components([1.0, 3.0, 1.0, 3.0], [0, 0, 1, 1])
    assert negative.generation == 0 and negative.clipped


def test_common_pairs_keep_the_order_of_the_run():
    assert common_pairs([(2, 0), (0, 0), (1, 0)], [(0, 0), (2, 0), (5, 5)]) == [(2, 0), (0, 0)]
    assert common_pairs([(0, 0)], [(1, 0)]) == []


def test_gain_is_the_mean_difference_and_is_antisymmetric():
    rng = np.random.default_rng(2)
    run, reference = rng.random((3, 200)) < 0.8, rng.random((3, 200)) < 0.7
    gain = paired_gain(run, reference, [0, 1, 2], seed=0)
    assert gain.mean == pytest.approx(100 * (run.mean() - reference.mean()))
    assert gain.low < gain.mean < gain.high
    assert (gain.n, gain.n_generations, gain.n_test) == (3, 3, 200)
    back = paired_gain(reference, run, [0, 1, 2], seed=0)
    assert back.mean == pytest.approx(-gain.mean)
    assert back.low == pytest.approx(-gain.high, abs=1.0)
    same = paired_gain(run, run, [0, 1, 2], seed=0)
    assert (same.mean, same.low, same.high) == (0, 0, 0) and not excludes_zero(same.low, same.high)
    assert gain == paired_gain(run, reference, [0, 1, 2], seed=0)


def _brute_force(run, reference, generations, replicates, rng) -> np.ndarray:
    """The bootstrap as one would say it: draw generations, trainings, images; take the mean."""
    difference = run.astype(float) - reference.astype(float)
    groups = [np.flatnonzero(np.asarray(generations) == g) for g in np.unique(generations)]
    means = []
    for _ in range(replicates):
        images = rng.integers(difference.shape[1], size=difference.shape[1])
        drawn = []
        for g in rng.integers(len(groups), size=len(groups)):
            rows = rng.choice(groups[g], size=len(groups[g]))
            drawn.append(difference[np.ix_(rows, images)].mean())
        means.append(np.mean(drawn))
    return 100 * np.array(means)


@pytest.mark.parametrize("generations", [[0, 1, 2, 3], [0, 0, 1, 1, 2, 2], [0, 0, 0], [0, 1, 1, 1]])
def test_bootstrap_agrees_with_the_loop(generations):
    rng = np.random.default_rng(len(generations))
    pairs = len(generations)
    skill = rng.normal(0, 0.1, (pairs, 1))
    run = rng.random((pairs, 60)) < 0.75 + skill
    reference = rng.random((pairs, 60)) < 0.65
    means = _brute_force(run, reference, generations, 6000, rng)
    difference = run.astype(np.int8) - reference.astype(np.int8)
    drawn = two_way_bootstrap(difference, generations, seed=3, replicates=20_000)
    found = 100 * np.quantile(drawn, [0.025, 0.975])
    low, high = np.quantile(means, [0.025, 0.975])
    # Quantiles of 60 images x a few seeds come in steps; a twentieth of the width is the noise.
    assert found == pytest.approx([low, high], abs=(high - low) / 20)
    gain = paired_gain(run, reference, generations, seed=3, replicates=20_000)
    assert gain.low <= found[0] and gain.high >= found[1], "the wider of two"
    if len(set(generations)) == 1:
        assert (gain.low, gain.high) == pytest.approx(tuple(found)), "there is no t of one"


def test_students_t_is_over_generations():
    """SciPy's interval and test of the means of generations, where they are the wider."""
    rng = np.random.default_rng(8)
    run = rng.random((6, 4000)) < np.repeat([0.9, 0.8, 0.85], 2)[:, None]
    reference = rng.random((6, 4000)) < 0.7
    gain = paired_gain(run, reference, [0, 0, 1, 1, 2, 2], seed=0)
    means = 100 * (run.mean(1) - reference.mean(1)).reshape(3, 2).mean(1)
    t = stats.ttest_1samp(means, 0)
    assert (gain.low, gain.high) == pytest.approx(tuple(t.confidence_interval(0.95)))
    assert gain.p == pytest.approx(t.pvalue)


def test_a_gain_of_nothing_is_seldom_starred():
    """3 generations that differ by 1.5 points and 10,000 test images: the bootstrap alone errs in
    17 % of cases."""
    rng = np.random.default_rng(3)
    trials, images, generations = 300, 10_000, range(3)
    wrong, alone = 0, 0
    for _ in range(trials):
        run, reference = (
            rng.random((3, images), dtype=np.float32) < 0.8 + rng.normal(0, 0.015, (3, 1))
            for _ in range(2)
        )
        gain = paired_gain(run, reference, generations, seed=0, replicates=1000)
        wrong += gain.p < 0.05
        assert (gain.p < 0.05) == excludes_zero(gain.low, gain.high) or abs(gain.p - 0.05) < 0.02
        difference = run.astype(np.int8) - reference.astype(np.int8)
        drawn = two_way_bootstrap(difference, generations, seed=0, replicates=1000)
        alone += excludes_zero(*np.quantile(drawn, [0.025, 0.975]))
    assert wrong / trials <= 0.06
    assert alone / trials > 0.1, "so the test can tell"


def test_holm_adjusts_by_rank():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.02]) == [0.02]


def test_bootstrap_agrees_with_enumeration():
    run = np.array([[1, 1, 0], [1, 0, 0]], dtype=bool)
    reference = np.array([[0, 1, 0], [0, 0, 1]], dtype=bool)
    difference = run.astype(float) - reference
    every = [
        100 * difference[np.ix_(rows, images)].mean()
        for rows in itertools.product(range(2), repeat=2)
        for images in itertools.product(range(3), repeat=3)
    ]
    for level in (0.5, 0.8):
        tail = (1 - level) / 2
        low, high = np.quantile(every, [tail, 1 - tail])
        drawn = two_way_bootstrap(difference.astype(np.int8), [0, 1], seed=0, replicates=100_000)
        assert 100 * np.quantile(drawn, [tail, 1 - tail]) == pytest.approx([low, high])


def test_interval_covers_the_true_gain():
    """Seeds and images both vary; the true gain is that of the population of both."""
    rng = np.random.default_rng(5)
    trials, seeds, images, covered = 250, 10, 200, 0
    for _ in range(trials):
        hardness = rng.normal(0, 0.15, images)
        skill = rng.normal(0, 0.02, (2, seeds, 1))
        # Probabilities stay within [0, 1] up to far tails, so that the true gain is 5 points.
        chance = np.array([0.55, 0.50])[:, None, None] + skill + hardness
        run, reference = rng.random((2, seeds, images)) < chance
        gain = paired_gain(run, reference, range(seeds), seed=0, replicates=1000)
        covered += gain.low <= 5 <= gain.high
    # Two-way resampling counts the noise of each single prediction up to three times over, so the
    # interval errs on the wide side: at least 95 % within the binomial error, not far above.
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / trials) <= covered / trials


def test_interval_covers_when_seeds_dominate():
    """Here nothing is counted twice, so the coverage is close to the level from both sides."""
    rng = np.random.default_rng(6)
    trials, seeds, images, covered = 300, 20, 200, 0
    level = np.array([0.6, 0.5])[:, None, None]
    for _ in range(trials):
        skill = rng.normal(0, 0.1, (2, seeds, 1))
        run, reference = rng.random((2, seeds, images)) < level + skill
        gain = paired_gain(run, reference, range(seeds), seed=0, replicates=1000)
        covered += gain.low <= 10 <= gain.high
    assert abs(covered / trials - 0.95) <= 3.5 * np.sqrt(0.05 * 0.95 / trials)


def test_imagenet_takes_seconds():
    rng = np.random.default_rng(7)
    easy = rng.random(50_000) ** 0.2
    run, reference = rng.random((2, 9, 50_000)) < easy
    start = time.process_time()
    paired_gain(run, reference, [0, 0, 0, 1, 1, 1, 2, 2, 2], seed=0, replicates=2000)
    assert time.process_time() - start < 10


def test_unpaired_arrays_are_refused():
    with pytest.raises(ValueError, match="unpaired"):
        paired_gain(np.ones((2, 3)), np.ones((3, 3)), [0, 1], seed=0)
    with pytest.raises(ValueError, match="no pairs"):
        paired_gain(np.ones((0, 3)), np.ones((0, 3)), [], seed=0)
