"""What a sweep has found, in words: a table of its settings, and how sure the best of them is."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxrl.analysis.ranking import interval, member_scores, order, setting_score
from jaxrl.analysis.statistics import normalised
from jaxrl.config import flatten
from jaxrl.train import members
from jaxrl.train.experiment import Experiment
from jaxrl.train.output.console import Console
from jaxrl.train.runner import Result

# Seeds to train the best setting with again, at the least.
FEWEST_NEW_SEEDS = 5


def score_rows(
    settings: Sequence[dict[str, Any]],
    returns: dict[str, np.ndarray],
    reference: tuple[float, float] | None = None,
) -> list[dict[str, Any]]:
    """A row per setting and mode, the best setting in the first mode first.

    It holds score, 95 % interval, episodes and seeds. The score is the interquartile mean over
    seeds of the mean return [H, S, E] (see jaxrl.analysis.ranking): for one seed, its mean. Where
    the `reference` scores of a random and of an expert policy are known it is also normalised.
    """
    rows = []
    for index in order(member_scores(next(iter(returns.values())))):
        for mode, earned in returns.items():
            score = setting_score(member_scores(earned[index]))
            low, high = interval(earned[index])
            row = {"mode": mode, "return": score, "95% low": low, "95% high": high}
            if reference is not None:
                random, expert = reference
                row["normalised"] = normalised(score, random, expert)
            counts = {"episodes": earned[index].size, "seeds": len(earned[index])}
            rows.append(settings[index] | row | counts)
    return rows


def summarize(results: Sequence[Result], varied: Collection[str], console: Console) -> None:
    """Print the settings of runs that differ in what is `varied`, the best first, and the winner.

    They are evaluated in the same modes, on as many episodes of as many seeds.
    """
    shown = [_shown(result.experiment, varied) for result in results]
    settings = [each for one in shown for each in one]
    returns = {
        mode: np.concatenate([result.returns[mode] for result in results])
        for mode in results[0].returns
    }
    console.summary(score_rows(settings, returns, results[0].reference_scores), "final evaluation")
    if len(settings) > 1:
        name_the_winner(results, varied, console)


def name_the_winner(results: Sequence[Result], varied: Collection[str], console: Console) -> None:
    """Say which setting is best, how sure that is, and how to train it and look at its policy.

    The settings are those of all `results`, whose runs differ in what is `varied` besides.
    """
    mode = next(iter(results[0].returns))
    earned = np.concatenate([result.returns[mode] for result in results])
    ranked = order(member_scores(earned))
    places = [(result, setting) for result in results for setting in result.experiment.settings()]
    shown = [each for result in results for each in _shown(result.experiment, varied)]
    result, winner = places[ranked[0]]
    console.note(
        f"best setting  {members.in_words(shown[ranked[0]])}, by the interquartile mean over seeds "
        f"of the return (mode {mode})"
    )
    console.note(f"how sure      {_how_sure(earned[ranked])}")
    console.note(f"again         {members.command_of(result.experiment, winner)}")
    anew = members.command_of(_with_new_seeds(result.experiment), winner)
    console.note(f"new seeds     {anew}")
    member = f" --member {members.in_words(winner)}" if winner else ""
    console.note(f"look at it    jaxrl eval {result.folder}{member}")


def _how_sure(earned: np.ndarray) -> str:
    """What the returns of settings [H, S, E], the best first, say of the best, and what not."""
    low, _ = interval(earned[0])
    others = [interval(each)[1] for each in earned[1:]]
    near = sum(high >= low for high in others)  # of those that diverged it is no number
    reach = f"{near} of {len(others)} others have intervals that reach its own"
    if earned.shape[1] == 1:
        reach += ", which are over episodes: one seed does not show what luck does"
    return (
        f"{reach}. The highest of {len(earned)} noisy scores is too high: trust what the setting "
        "earns on new seeds"
    )


def _with_new_seeds(experiment: Experiment) -> Experiment:
    """The experiment with seeds that the sweep has not seen."""
    run = experiment.run
    fresh = dataclasses.replace(
        run, seed=run.seed + run.num_seeds, num_seeds=max(run.num_seeds, FEWEST_NEW_SEEDS)
    )
    return dataclasses.replace(experiment, run=fresh)


def _shown(experiment: Experiment, varied: Collection[str]) -> list[dict[str, Any]]:
    """The settings of a run as tables show them: what varies from run to run, and in it."""
    config = flatten(experiment.config)
    own = {name: _text(config[name]) for name in varied}
    return [own | setting for setting in experiment.settings()]


def _text(value: Any) -> Any:
    """A value in a table: sizes of layers as 64x64."""
    return "x".join(map(str, value)) if isinstance(value, list) else value
