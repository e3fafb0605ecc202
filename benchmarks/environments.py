"""Environments alone, under random actions: what it costs to begin episodes.

    python -m benchmarks.environments
    python -m benchmarks.environments --environments CartPole-v1 --sizes 2048 16384 131072 1048576

The programs of one size (PROGRAMS) take turns in one process (A B C, A B C, …), each going on from
where it was.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.report import core_count, device_name, machine, spread, steps, write
from experiments.harness import markdown, sections, start
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.envs.starts.api import Draw, Starts
from jaxrl.envs.starts.fresh import Bank, Fresh
from jaxrl.envs.starts.pool import Pool
from jaxrl.envs.vector import VectorEnv
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console, human
from jaxrl.types import Array, Key, PyTree, Transition

SIZES = {
    "CartPole-v1": (4, 64, 1024, 65_536, 1_048_576),
    "MountainCar-v0": (64, 1024, 65_536),
    "Breakout-MinAtar": (64, 1024, 8192, 131_072),
}
PROGRAMS = """\
physics  the environment's step and no ends: all rows go back to their first states every 16 steps
stored   VectorEnv.step (time limits, final observations, statistics), where every episode of a row
         begins with the row's first start: no reset is ever drawn
idle     fresh to the letter, but no start ever counts as used: no reset is drawn either. The
         stricter comparison: for the bank XLA finds out once who ended, in stored for each array
         anew
fresh    VectorEnv.step with Fresh: an exact reset for every episode, from the bank
pool     VectorEnv.step with a Pool of 1024
each     VectorEnv.step with a reset drawn for every row on every step; the same starts as those of
         fresh
gymnax   gymnax's own auto-resetting step, which draws one for every row on every step as well

A bank is renewed when a row ends for the second time, so short episodes are the worst case. Random
actions end CartPole and Breakout soonest; in MountainCar nearly all episodes last the 200 steps of
the time limit."""
SEGMENT = 16  # steps of `physics` between two beginnings
BASELINES = ("stored", "idle", "pool", "each", "gymnax")


@dataclass(frozen=True)
class Arguments:
    """Steps per second of environments alone."""

    environments: tuple[str, ...] = tuple(SIZES)
    """What to step; gymnax environments with discrete actions."""
    sizes: tuple[int, ...] = ()
    """Numbers of environments; none: what fits CPUs."""
    repeats: int = 7
    """Rounds."""
    seconds: float = 0.3
    """About how long one program runs in a round."""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu: seconds of processor time, for a machine with other work to do."""
    quick: bool = False
    """Sizes up to 1024, three short rounds."""


class TimedProgram(NamedTuple):
    """N environments in a scan. The carry ends with rewards [N] and numbers of ends [N]:
    nothing is dead code."""

    init: Callable[[Key], tuple]
    chunk: Callable[[tuple, Array], tuple]  # (carry, keys [T]) -> carry


class Stored(Fresh):
    """Every episode of a row begins with the row's first start."""

    def draw(
        self, state: Bank, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[Bank, Draw]:
        """What the bank holds."""
        return state, self.offer(state)

    def offer(self, bank: Bank) -> Draw:
        """The rows of the bank as starts."""
        full = (jnp.full(bank.used.shape, value, jnp.int32) for value in (self.env.horizon, -1))
        return Draw(bank.state, bank.observation, *full)


class Idle(Fresh):
    """The bank, in which no start counts as used."""

    def draw(
        self, state: Bank, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[Bank, Draw]:
        """As `Fresh`; the compiler does not know that no episode is ever beyond the first."""
        state, draw = super().draw(state, key, ended, seen, reached)
        return replace(state, used=state.used & (state.episode > 0)), draw


class Each(Stored):
    """A reset for every row on every step."""

    def draw(
        self, state: Bank, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[Bank, Draw]:
        """The same starts as those of `Fresh`, made anew on every step."""
        start, observation = self._make(state.key, state.episode)
        made = replace(state, state=start, observation=observation)
        return replace(state, episode=state.episode + ended), self.offer(made)


def random_action(words: Array, n: int) -> tuple[Array, Array]:
    """(next words, actions 0 … n−1) of a linear congruential generator a row, uint32 [N]:
    next to nothing."""
    words = words * jnp.uint32(1664525) + jnp.uint32(1013904223)
    return words, (((words >> 16) * jnp.uint32(n)) >> 16).astype(jnp.int32)


def vectorised(env: Environment, starts: Starts, num_envs: int) -> TimedProgram:
    """VectorEnv.step in a scan."""
    vector = VectorEnv(env, starts, num_envs)

    def init(key: Key) -> tuple:
        key_init, key_words = jax.random.split(key)
        return vector.init(key_init), *accounts(key_words, num_envs)

    def step(carry: tuple, key: Key) -> tuple[tuple, None]:
        state, words, reward, ends = carry
        words, action = random_action(words, env.action_space.n)
        state, seen = vector.step(state, action, key)
        return (state, words, reward + seen.reward, ends + (seen.terminated | seen.truncated)), None

    return TimedProgram(init, lambda carry, keys: jax.lax.scan(step, carry, keys)[0])


def physics(env: Environment, num_envs: int) -> TimedProgram:
    """`step` alone. Rows start over together, or poles would fall for ever,
    through slower paths of the sine."""

    def init(key: Key) -> tuple:
        key_reset, key_words = jax.random.split(key)
        first = jax.vmap(env.reset)(jax.random.split(key_reset, num_envs))
        return first, *accounts(key_words, num_envs)

    def step(carry: tuple, key: Key) -> tuple[tuple, None]:
        (state, _), words, reward, ends = carry
        words, action = random_action(words, env.action_space.n)
        state, seen = jax.vmap(env.step)(jax.random.split(key, num_envs), state, action)
        return (
            (state, seen.observation),
            words,
            reward + seen.reward,
            ends + seen.terminated,
        ), None

    def chunk(carry: tuple, keys: Array) -> tuple:
        def segment(carry: tuple, keys: Array) -> tuple[tuple, Array]:
            carry, _ = jax.lax.scan(step, carry, keys)
            return (first, *carry[1:]), jax.tree.leaves(carry[0][1])[0].sum()

        first = carry[0]
        carry, observed = jax.lax.scan(segment, carry, keys.reshape(-1, SEGMENT))
        return *carry[:-1], carry[-1] + (observed.sum() == -1.0)

    return TimedProgram(init, chunk)


def gymnax(env: Any, num_envs: int) -> TimedProgram:
    """gymnax's `step` in a scan."""
    theirs = env._gymnax()

    def init(key: Key) -> tuple:
        key_reset, key_words = jax.random.split(key)
        first = jax.vmap(theirs.reset, in_axes=(0, None))(
            jax.random.split(key_reset, num_envs), env.parameters
        )
        return first, *accounts(key_words, num_envs)

    def step(carry: tuple, key: Key) -> tuple[tuple, None]:
        (_, state), words, reward, ends = carry
        words, action = random_action(words, env.action_space.n)
        stepped = jax.vmap(theirs.step, in_axes=(0, 0, 0, None))
        seen, state, more, *done, _ = stepped(
            jax.random.split(key, num_envs), state, action, env.parameters
        )
        return ((seen, state), words, reward + more, ends + (done[0] | done[1])), None

    return TimedProgram(init, lambda carry, keys: jax.lax.scan(step, carry, keys)[0])


def accounts(key: Key, num_envs: int) -> tuple[Array, Array, Array]:
    """What every program carries besides its environments: random words, rewards, ends."""
    return jax.random.bits(key, (num_envs,)), jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32)


def programs(env: Environment, num_envs: int) -> dict[str, TimedProgram]:
    """All programs of one size."""
    starts = {
        "stored": Stored(env),
        "idle": Idle(env),
        "fresh": Fresh(env),
        "pool": Pool(env),
        "each": Each(env),
    }
    named = {name: vectorised(env, each, num_envs) for name, each in starts.items()}
    return {"physics": physics(env, num_envs), **named, "gymnax": gymnax(env, num_envs)}


class Running:
    """One compiled program and where it is."""

    def __init__(self, program: TimedProgram, num_envs: int) -> None:
        self.steps = SEGMENT * max(
            1, min(64, 2**18 // (SEGMENT * num_envs))
        )  # of a call: enough to hide the call
        self.num_envs, self.calls = num_envs, 0
        keys = jax.random.split(jax.random.key(1), self.steps)
        self.carry = jax.jit(program.init)(jax.random.key(0))
        self._run = jax.jit(program.chunk, donate_argnums=0).lower(self.carry, keys).compile()

    def run(self, calls: int) -> None:
        """So many calls, under keys of their own."""
        for _ in range(calls):
            self.calls += 1
            self.carry = self._run(
                self.carry, jax.random.split(jax.random.key(self.calls), self.steps)
            )
        jax.block_until_ready(self.carry)

    def ended(self) -> float:
        """The share of steps that have ended an episode."""
        ends = jax.device_get(self.carry[-1]).sum(dtype="int64")
        return float(ends) / (self.num_envs * self.steps * self.calls)


def measure(name: str, num_envs: int, arguments: Arguments) -> dict[str, Any]:
    """Rates of every program at one size, round by round."""
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    running = {
        each: Running(program, num_envs) for each, program in programs(make(name), num_envs).items()
    }
    calls, seconds = {}, {each: [] for each in running}
    for each, program in running.items():
        program.run(
            -(-256 // program.steps)
        )  # in the first hundred steps episodes still end together
        begun = clock()
        program.run(2)
        calls[each] = max(1, round(2 * arguments.seconds / (clock() - begun)))
    for _ in range(arguments.repeats):
        for each, program in running.items():
            begun = clock()
            program.run(calls[each])
            seconds[each].append((clock() - begun) / calls[each])
    rates = {
        each: [num_envs * running[each].steps / taken for taken in seconds[each]]
        for each in running
    }
    return {
        "environment": name,
        "num_envs": num_envs,
        "steps_per_second": {each: spread(rates[each]) for each in running},
        "ended": {each: program.ended() for each, program in running.items()},
        "fresh_over": {
            other: spread(
                [mine / theirs for mine, theirs in zip(rates["fresh"], rates[other], strict=True)]
            )
            for other in BASELINES
        },
    }


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""

    def cell(found: PyTree, style: Callable[[float], str]) -> str:
        return f"{style(found['median'])} [{style(found['min'])}, {style(found['max'])}]"

    rates, ratios = [], []
    for row in record["rows"]:
        size = {"environment": row["environment"], "N": f"{row['num_envs']:,}"}
        rates.append(
            size | {each: human(found["median"]) for each, found in row["steps_per_second"].items()}
        )
        over = {
            f"fresh / {each}": cell(found, "{:.2f}".format)
            for each, found in row["fresh_over"].items()
        }
        ratios.append(size | over | {"steps per episode": f"{1 / row['ended']['fresh']:.1f}"})
    clock = (
        ""
        if record["clock"] == "wall"
        else " Seconds are of processor time: the machine had other work to do."
    )
    parts = [
        "Environment steps per second, random actions, median of "
        f"{record['repeats']} rounds.{clock}",
        markdown(rates),
        "Ratios of the same round: median, in brackets the least and the greatest.",
        markdown(ratios),
        f"```text\n{PROGRAMS}\n```",
        f"Device: {record['device']}; {record['machine']['processor']}, "
        f"{core_count(record['machine'])}.",
        ", ".join(
            f"{package} {version}".strip() for package, version in record["versions"].items()
        ),
    ]
    return sections(*parts)


def main(arguments: Arguments) -> None:
    """Time every size; print and write the rates."""
    if arguments.quick:
        sizes = arguments.sizes or (64, 1024)
        arguments = dataclasses.replace(arguments, sizes=sizes, repeats=3, seconds=0.05)
    settings = [
        (name, num_envs)
        for name in arguments.environments
        for num_envs in arguments.sizes or SIZES.get(name, (1024,))
    ]
    rows = []
    with steps(len(settings)) as begin:
        for name, num_envs in settings:
            begin(f"{name}, N = {num_envs:,}")
            try:
                rows.append(measure(name, num_envs, arguments))
            except jax.errors.JaxRuntimeError as error:  # the largest may not fit
                Console().note(
                    f"{name}, N = {num_envs:,}: {next(iter(str(error).splitlines()), '')}"
                )
    device = jax.devices()[0]
    record = {"repeats": arguments.repeats, "seconds": arguments.seconds, "clock": arguments.clock}
    record |= {
        "device": device.device_kind,
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    quick = "quick_" if arguments.quick else ""
    name = f"environments_{quick}{device_name(device.platform, device.device_kind)}"
    Console().note(write(name, record, text(record)))


if __name__ == "__main__":
    start(main, Arguments)
