"""StepMix as one compiled program against a straightforward NumPy loop of the same algorithm,
on the hub MDP.

    python -m benchmarks.stepmix
    python -m benchmarks.stepmix --quick

The loop plans and plays one episode after the other; it is also the oracle that
tests/algos/test_stepmix.py holds the library against. It runs one seed, whose time is multiplied by
the number of seeds. The program is timed on one core, and as a run of `jaxrl train` has it: its
seeds dealt out to all cores. They take turns, in one process; seconds are those of the clock, so
nothing else may run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
import numpy as np

from benchmarks.report import core_count, machine, spread, write
from experiments.harness import markdown, start
from jaxrl.algos.stepmix import StepMixConfig, stepmix
from jaxrl.envs.registry import make
from jaxrl.train.devices.layout import Layout, choose
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console
from jaxrl.train.program import Program


class Planned(NamedTuple):
    """A plan: with chance `weight` an episode follows `bold`, else `cautious`;
    and the bounds it was made from."""

    bold: np.ndarray
    cautious: np.ndarray
    weight: float
    lower: list[float]
    upper: float


@dataclass
class Loop:
    """StepMix (or EpsMix) in NumPy and float64, with the formulas written down one by one."""

    transitions: np.ndarray
    rewards: np.ndarray
    baseline: np.ndarray
    threshold: float
    scale: float = 1.0
    failure: float = 0.1
    bound: Literal["kl", "anchored"] = "kl"
    prefixes: tuple[int, ...] = ()  # all of them, unless given

    def __post_init__(self) -> None:
        self.horizon, self.states, self.actions = self.rewards.shape
        self.prefixes = self.prefixes or tuple(range(self.horizon + 1))
        self.counts = np.zeros(self.transitions.shape)

    def rates(self, visits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """β(n)/n and β*(n)/n of one step's pairs."""
        anchors = 1 if self.bound == "kl" else len(self.prefixes)
        union = np.log(3 * self.states * self.actions * self.horizon * anchors / self.failure)
        growth = np.log(8 * np.e * (visits + 1))
        return (union + self.states * growth) / visits, (union + growth) / visits

    def model(self, h: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(empirical transitions, visited, β/n, β*/n) at step h."""
        visits = self.counts[h].sum(-1)
        seen = np.maximum(visits, 1)
        return self.counts[h] / seen[..., None], visits > 0, *self.rates(seen)

    def backup(self, h: int, above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(Q̃, Q̲) [S, A] at step h from (Ṽ, V̲) [S] at the next one."""
        chance, visited, kl_rate, bernstein_rate = self.model(h)
        span, reward = self.horizon - 1 - h, self.rewards[h]

        def spread(values: np.ndarray) -> np.ndarray:
            return (chance * (values - (chance @ values)[..., None]) ** 2).sum(-1)

        def width(values: np.ndarray) -> np.ndarray:
            if self.bound == "kl":
                return self.scale * (2 * np.sqrt(spread(values) * kl_rate) + 3.5 * span * kl_rate)
            deviation = 3 * np.sqrt(spread(above) * bernstein_rate)
            gap = chance @ (above - below) / self.horizon
            return self.scale * (deviation + 14 * self.horizon * span * kl_rate) + gap

        upper = np.minimum(reward + span, reward + chance @ above + width(above))
        lower = np.maximum(reward, reward + chance @ below - width(below))
        return np.where(visited, upper, reward + span), np.where(visited, lower, reward)

    def bounds(
        self, prefix: int, optimistic: np.ndarray, priority: np.ndarray | None
    ) -> tuple[float, float]:
        """(upper, lower) of one candidate, from state 0;
        with `priority` the optimistic policy is found on the way."""
        above, below = np.zeros(self.states), np.zeros(self.states)
        for h in reversed(range(self.horizon)):
            upper, lower = self.backup(h, above, below)
            if priority is not None:
                tied = np.where(upper == upper.max(-1, keepdims=True), priority[h], -1)
                optimistic[h] = np.eye(self.actions)[tied.argmax(-1)]
            if h < prefix:
                above, below = (
                    (self.baseline[h] * upper).sum(-1),
                    (self.baseline[h] * lower).sum(-1),
                )
            else:
                above, below = upper.max(-1), (optimistic[h] * lower).sum(-1)
        return above[0], below[0]

    def plan(self, priority: np.ndarray) -> Planned:
        """The boldest mixture of neighbouring candidates whose lower bound is the threshold."""
        optimistic = np.zeros_like(self.baseline)
        found = [self.bounds(j, optimistic, None if j else priority) for j in self.prefixes]
        lower = [below for _, below in found]

        def candidate(prefix: int) -> np.ndarray:
            return np.concatenate([self.baseline[:prefix], optimistic[prefix:]])

        first = next((i for i, value in enumerate(lower) if value >= self.threshold), None)
        if first is None:
            return Planned(self.baseline, self.baseline, 1.0, lower, found[0][0])
        if first == 0:
            return Planned(optimistic, optimistic, 1.0, lower, found[0][0])
        weight = (lower[first] - self.threshold) / (lower[first] - lower[first - 1])
        ends = (candidate(self.prefixes[first - 1]), candidate(self.prefixes[first]))
        return Planned(*ends, weight, lower, found[0][0])

    def episode(self, planned: Planned, generator: np.random.Generator) -> None:
        """Play one, and count it."""
        policy = planned.bold if generator.random() < planned.weight else planned.cautious
        state = 0
        for h in range(self.horizon):
            action = generator.choice(self.actions, p=policy[h, state])
            successor = generator.choice(self.states, p=self.transitions[h, state, action])
            self.counts[h, state, action, successor] += 1
            state = successor

    def value(self, policy: np.ndarray) -> float:
        """The exact expected return of a policy."""
        values = np.zeros(self.states)
        for h in reversed(range(self.horizon)):
            values = (policy[h] * (self.rewards[h] + self.transitions[h] @ values)).sum(-1)
        return values[0]

    def run(self, num_episodes: int, generator: np.random.Generator) -> np.ndarray:
        """Expected returns of so many episodes, each planned on all before it."""
        returns = np.zeros(num_episodes)
        for k in range(num_episodes):
            planned = self.plan(generator.random((self.horizon, self.actions)))
            bold, cautious = self.value(planned.bold), self.value(planned.cautious)
            returns[k] = planned.weight * bold + (1 - planned.weight) * cautious
            self.episode(planned, generator)
        return returns


def hub_loop(scale: float = 0.1) -> Loop:
    """The loop on the hub MDP, whose baseline stays in the hub and must keep nine tenths of what
    that pays."""
    env = make("tabular/hub")
    transitions = np.asarray(env.transitions, np.float64)
    transitions /= transitions.sum(-1, keepdims=True)
    baseline = np.zeros(env.rewards.shape)
    baseline[..., 0] = 1
    return Loop(
        transitions, np.asarray(env.rewards, np.float64), baseline, 0.9 * 0.5 * env.horizon, scale
    )


@dataclass(frozen=True)
class Arguments:
    """StepMix as one compiled program against a NumPy loop."""

    episodes: int = 20_000
    """Episodes per seed."""
    seeds: int = 10
    """Seeds, all in one program."""
    rounds: int = 3
    """Times that each is timed, in turns; medians count."""
    quick: bool = False
    """A tenth of the episodes; its results are written under another name."""


def main(arguments: Arguments) -> None:
    """Time the loop and the program; print and write seconds and ratios of the same round."""
    episodes = arguments.episodes // 10 if arguments.quick else arguments.episodes
    env = make("tabular/hub")
    config = StepMixConfig(total_steps=episodes * env.horizon, baseline="constant", bonus_scale=0.1)
    layouts = {
        1: Layout(),
        (dealt := choose(config, arguments.seeds, None, (), splits=False)).devices: dealt,
    }
    programs = {
        f"program on {core_count({'cores': cores})}": Program(
            stepmix, env, config, seeds=list(range(arguments.seeds)), layout=layout
        )
        for cores, layout in layouts.items()
    }
    for program in programs.values():
        jax.block_until_ready(program.chunk(program.init(), 1))
    taken: dict[str, list[float]] = {name: [] for name in ("loop", *programs)}
    for index in range(arguments.rounds):
        for name, program in programs.items():
            state, begun = program.init(), time.perf_counter()
            jax.block_until_ready(program.chunk(state, episodes))
            taken[name].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        hub_loop().run(episodes, np.random.default_rng(index))
        taken["loop"].append((time.perf_counter() - begun) * arguments.seeds)
    compiled = {name: program.compile_seconds for name, program in programs.items()}
    record = {"seeds": arguments.seeds, "episodes_per_seed": episodes, "compile_seconds": compiled}
    record |= {"seconds": {name: spread(seconds) for name, seconds in taken.items()}}
    record |= {"machine": machine(), "versions": versions()}
    name = "stepmix_quick" if arguments.quick else "stepmix"
    Console().note(write(name, record, text(record)))


def text(record: dict[str, Any]) -> str:
    """Seconds of each, and how many times as long the loop of the same round took."""
    loop, rows = record["seconds"]["loop"], []
    for name, seconds in record["seconds"].items():
        ratio = spread(
            [slow / fast for slow, fast in zip(loop["samples"], seconds["samples"], strict=True)]
        )
        times = f"{ratio['median']:.0f} [{ratio['min']:.0f}, {ratio['max']:.0f}]"
        rows.append({"what": name, "seconds": f"{seconds['median']:.2f}", "times as fast": times})
    about = f"{record['seeds']} seeds of {record['episodes_per_seed']:,} episodes, medians."
    return markdown(rows, about)


if __name__ == "__main__":
    start(main, Arguments)
