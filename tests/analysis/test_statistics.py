"""Aggregates against numbers worked out by hand, a slow loop, a simulation, and rliable."""

import numpy as np
import pytest

from jaxrl.analysis.statistics import (
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    normalised,
    performance_profile,
    probability_of_improvement,
    summarize,
)


def test_interquartile_mean_by_hand():
    # Eight scores: the two lowest and the two highest go; (3 + 4 + 5 + 6) / 4 remain.
    assert interquartile_mean([100, 1, 5, 3, -50, 6, 4, 7]) == 4.5
    # Six: ⌊6/4⌋ = 1 goes at either end.
    assert interquartile_mean([0, 1, 2, 3, 4, 1000]) == 2.5
    # Three are too few to trim: the mean.
    assert interquartile_mean([0, 1, 5]) == 2


def test_interquartile_mean_pools_tasks_or_reduces_one_axis():
    scores = np.arange(8.0).reshape(4, 2)
    assert interquartile_mean(scores) == 3.5
    np.testing.assert_allclose(interquartile_mean(scores, axis=0), [3, 4])


def test_agrees_with_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    for seed, shape in enumerate([(3, 1), (5, 7), (10, 26), (8, 3)]):
        scores = np.random.default_rng(seed).lognormal(size=shape)
        summary = summarize(scores, repetitions=10)
        assert summary.iqm == pytest.approx(metrics.aggregate_iqm(scores))
        assert summary.mean == pytest.approx(metrics.aggregate_mean(scores))
        assert summary.runs == shape[0]


def test_interval_is_the_stratified_percentile_bootstrap():
    """A slow loop over repetitions and tasks, on draws of its own."""
    scores = np.random.default_rng(0).lognormal(size=(6, 4)) * np.array([1, 10, 100, 1000])
    generator = np.random.default_rng(1)
    values = []
    for _ in range(3000):
        columns = [scores[generator.integers(0, 6, 6), task] for task in range(4)]
        values.append(interquartile_mean(np.stack(columns, axis=1)))
    expected = np.percentile(values, [5, 95])
    given = bootstrap_interval(scores, confidence=0.9, repetitions=3000)
    np.testing.assert_allclose(given, expected, rtol=0.05)


def test_strata_do_not_mix():
    """Runs that agree within every task leave nothing to resample,
    however far apart the tasks are."""
    scores = np.tile([1.0, 100.0, 7.0], (5, 1))
    assert bootstrap_interval(scores) == (interquartile_mean(scores),) * 2


@pytest.mark.parametrize("interval", [bootstrap_interval, mean_interval])
def test_interval_covers_the_truth_at_about_its_rate(interval):
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(400):
        low, high = interval(generator.normal(3.0, 1.0, 30), repetitions=300, seed=trial)
        covered += low <= 3.0 <= high
    assert 0.88 < covered / 400 < 0.99


def test_interval_is_reproducible():
    scores = np.random.default_rng(3).normal(size=(7, 3))
    assert bootstrap_interval(scores) == bootstrap_interval(scores)
    assert bootstrap_interval(scores) != bootstrap_interval(scores, seed=1)


def test_many_scores_are_resampled_in_pieces(monkeypatch):
    scores = np.random.default_rng(4).normal(size=1000)
    whole = mean_interval(scores)
    monkeypatch.setattr("jaxrl.analysis.statistics.CHUNK", 7000)
    np.testing.assert_allclose(mean_interval(scores), whole, atol=0.01)


def test_normalised_scores_by_hand():
    assert normalised(-20.0, -20.0, 80.0) == 0.0 and normalised(80.0, -20.0, 80.0) == 100.0
    np.testing.assert_array_equal(
        normalised(np.array([5.0, 130.0, np.nan]), -20.0, 80.0), [25.0, 150.0, np.nan]
    )
    assert np.isnan(normalised(1.0, 2.0, 2.0))  # there is no scale


def test_one_run_has_no_interval():
    summary = summarize([3.0])
    assert (summary.mean, summary.iqm, summary.runs) == (3.0, 3.0, 1)
    assert np.isnan([summary.low, summary.high]).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: interquartile_mean([]), "no scores"),
        (lambda: summarize(np.zeros((0, 3))), r"no scores .* \(0, 3\)"),
        (lambda: summarize([1.0, np.nan, np.inf]), "2 of 3 scores"),
        (lambda: summarize(np.zeros((2, 2, 2))), r"\[runs\] or \[runs, tasks\]"),
        (lambda: bootstrap_interval([1.0, 2.0], confidence=95), "confidence is 95"),
        (lambda: bootstrap_interval([1.0, 2.0], repetitions=0), "repetitions is 0"),
    ],
)
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_profile_by_hand():
    scores = [[1.0, 10.0], [2.0, 20.0], [3.0, 2.0]]
    share, low, high = performance_profile(scores, [0.0, 2.0, 3.0, 15.0, 20.0])
    np.testing.assert_allclose(share, [1, 3 / 6, 2 / 6, 1 / 6, 0])
    assert (low <= share).all() and (share <= high).all() and (low < high)[1:4].all()
    assert (low[0], high[0], low[-1], high[-1]) == (1, 1, 0, 0)
    share, low, high = performance_profile([5.0], [4.0, 6.0])
    assert share.tolist() == [1, 0] and np.isnan([low, high]).all()


def test_improvement_by_hand():
    # 1 beats neither; 3 beats 2 and ties with 3; 4 beats both: (0 + 1.5 + 2) / 6.
    assert probability_of_improvement([1, 3, 4], [2, 3]) == pytest.approx(3.5 / 6)
    assert probability_of_improvement([2, 3], [1, 3, 4]) == pytest.approx(2.5 / 6)
    # Of two tasks, won and lost, whatever their scales.
    assert probability_of_improvement([[1, 0], [2, 0]], [[0, 1e6], [0, 2e6]]) == 0.5
    with pytest.raises(ValueError, match="of 2 tasks, the second of 1"):
        probability_of_improvement([[1, 2]], [1, 2])


def test_profiles_and_improvement_agree_with_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    library = pytest.importorskip("rliable.library")
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.3, 1, (5, 4)).round(1), generator.normal(0, 1, (7, 4))
    second = second.round(1)
    assert probability_of_improvement(first, second) == pytest.approx(
        metrics.probability_of_improvement(first, second)
    )
    thresholds = np.linspace(-2, 2, 9)
    expected, _ = library.create_performance_profile({"a": first}, thresholds, reps=5)
    np.testing.assert_allclose(performance_profile(first, thresholds)[0], expected["a"])


def test_the_interval_of_an_improvement_draws_both_sides_again():
    """A slow loop over repetitions and tasks, on draws of its own."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.5, 1, (6, 2)), generator.normal(0, 1, (4, 2))
    values = []
    for _ in range(3000):
        wins = []
        for task in range(2):
            a = first[generator.integers(0, 6, 6), task]
            b = second[generator.integers(0, 4, 4), task]
            wins.append(np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b]))
        values.append(np.mean(wins))
    expected = np.percentile(values, [2.5, 97.5])
    given = improvement_interval(first, second, repetitions=3000)
    np.testing.assert_allclose(given, expected, atol=0.03)
    assert given == improvement_interval(first, second, repetitions=3000)
    assert np.isnan(improvement_interval([1.0], [1.0, 2.0])).all()
    assert improvement_interval([3.0, 4.0], [1.0, 2.0]) == (1.0, 1.0)
