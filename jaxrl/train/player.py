"""Evaluation: a population's policies, played in one mode after another, in pieces."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algos.registry import load
from jaxrl.envs.api import Environment
from jaxrl.envs.play import Episodes, Play, episodes, is_over, play_advance, play_begin
from jaxrl.envs.registry import make
from jaxrl.train.capacity import check_episodes
from jaxrl.train.devices import distributed
from jaxrl.train.experiment import Experiment
from jaxrl.train.modes import Asked, choose
from jaxrl.train.population import P, Population
from jaxrl.types import Agent, Array, Key, PyTree

# A stream of keys folded out of a member's root key (training uses 0).
EVALUATION = 1
# Below that, of two modes; others have streams of their own. A mode's keys are the same whichever
# others run.
FIRST_TWO = ("deterministic", "stochastic")
# Steps of the first piece; later ones grow until they last as long as a watcher will wait.
FIRST_PIECE = 64
SECONDS_PER_PIECE = 0.5


class Played(NamedTuple):
    """How far an evaluation in one mode has come."""

    mode: str
    steps: int
    horizon: int  # the time limit, and so the most steps that there can be
    ended: int  # episodes of all members
    episodes: int


# Called now and then; may say to stop there.
EachPiece = Callable[[Played], bool | None]


class EvaluationStopped(Exception):
    """An evaluation was stopped before its end, as was asked for."""


class Player:
    """Plays `num_episodes` episodes with each policy of a population, in each of the `modes`.

    The first of the modes ranks policies. It knows agents alone, and nothing of how they are
    trained: `make_agent(env, config)`.
    """

    def __init__(
        self,
        population: Population,
        make_agent: Callable[[Environment, Any], Agent],
        keys: Key,
        num_episodes: int,
        modes: Sequence[Asked] = (),
    ) -> None:
        self.population = population
        self.make_agent = make_agent
        self.num_episodes = num_episodes
        self._keys = keys
        self.modes = tuple(modes) or tuple(map(Asked, self.agent().modes))

    def agent(self) -> Agent:
        """The agent of the first member's configuration."""
        return self.make_agent(self.population.env, self.population.first_config)

    def abstract_policies(self) -> PyTree:
        """Shapes, types and structure of the policies, [H, S, ...] or [...], uncomputed."""
        shape = self.population.shape if self.population.is_population else ()
        policy = jax.eval_shape(lambda: self.agent().init(jax.random.key(0)))
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*shape, *leaf.shape), leaf.dtype), policy
        )

    def evaluate(
        self,
        policies: PyTree,
        iteration: int,
        each_piece: EachPiece | None = None,
    ) -> dict[str, Episodes]:
        """Episodes of all policies in each mode, in their order, on the host: leaves [H, S, E].

        `policies` lie as `Population.deal` puts them. Where `each_piece` says so, in any process,
        this ends in `EvaluationStopped`.
        """
        return {str(mode): self._play(policies, iteration, mode, each_piece) for mode in self.modes}

    def _play(
        self,
        policies: PyTree,
        iteration: int,
        mode: Asked,
        each_piece: EachPiece | None,
    ) -> Episodes:
        population, members = self.population, self.population.members
        number = np.float32(0.0 if mode.number is None else mode.number)
        steps = FIRST_PIECE
        steering = {"policies": ((policies, number), (members, P()))}
        roots = {"roots": (self._keys, members), "iteration": (np.int32(iteration), P())}
        keys = population.call(f"keys {mode.name}", self._derive(mode.name), roots, members)
        beginning = steering | {"keys": (keys, members)}
        steered = f"{mode.name}=" if mode.number is not None else ""
        play = population.call(f"begin {steered}", self._begin(mode), beginning, members)
        while True:
            begun, compiled = time.perf_counter(), population.compile_seconds
            piece = {"play": (play, members), "steps": (np.int32(steps), P())}
            name = f"play {steered or mode.name}"
            play, over = population.call(
                name, self._advance(mode), steering | piece, (members, members), donate="play"
            )
            over = distributed.to_host(over)
            elapsed = time.perf_counter() - begun - (population.compile_seconds - compiled)
            if np.all(over):
                break
            stopping = each_piece is not None and each_piece(self._played(mode, play))
            elapsed, stopping = distributed.max_over_processes([elapsed, bool(stopping)])
            if stopping:
                raise EvaluationStopped
            if elapsed < SECONDS_PER_PIECE:
                steps *= 2
        found = distributed.to_host(population.gather(episodes(play)))
        return jax.tree.map(lambda leaf: leaf.reshape(*population.shape, self.num_episodes), found)

    def _played(self, mode: Asked, play: Play) -> Played:
        running = distributed.to_host(self.population.gather(play.running))
        return Played(
            mode=str(mode),
            steps=int(np.max(distributed.to_host(play.time))),
            horizon=self.population.env.horizon,
            ended=int(np.sum(~running)),
            episodes=running.size,
        )

    def _derive(self, mode: str) -> Callable:
        """A member's key for its episodes: function(env, config, inputs, roots, iteration)."""

        def derive(
            env: Environment, config: Any, inputs: PyTree, roots: Key, iteration: Array
        ) -> Key:
            def one(env: Environment, config: Any, inputs: PyTree, root: Key) -> Key:
                del env, config, inputs
                if mode in FIRST_TWO:
                    both = jax.random.fold_in(jax.random.fold_in(root, EVALUATION), iteration)
                    return jax.random.split(both)[FIRST_TWO.index(mode)]
                return jax.random.fold_in(
                    jax.random.fold_in(root, zlib.crc32(mode.encode())), iteration
                )

            return self.population.over_members(one)(env, config, inputs, roots)

        return derive

    def _begin(self, mode: Asked) -> Callable:
        """Begins the episodes: function(env, config, inputs, (policies, number), keys)."""

        def begin(
            env: Environment, config: Any, inputs: PyTree, policies: tuple[PyTree, Array], keys: Key
        ) -> Play:
            of_members, number = policies

            def one(
                env: Environment, config: Any, inputs: PyTree, member: tuple[PyTree, Key]
            ) -> Play:
                del inputs
                policy, key = member
                agent = self.make_agent(env, config)
                policy = steered(agent, policy, mode, number)
                return play_begin(env, agent, policy, key, self.num_episodes)

            return self.population.over_members(one)(env, config, inputs, (of_members, keys))

        return begin

    def _advance(self, mode: Asked) -> Callable:
        """Plays on: function(env, config, inputs, (policies, number), play, steps).

        Returns (play, whether it is over).
        """

        def advance(
            env: Environment,
            config: Any,
            inputs: PyTree,
            policies: tuple[PyTree, Array],
            play: Play,
            steps: Array,
        ) -> tuple[Play, Array]:
            of_members, number = policies

            def one(
                env: Environment, config: Any, inputs: PyTree, member: tuple[PyTree, Play]
            ) -> tuple[Play, Array]:
                del inputs
                policy, play = member
                agent = self.make_agent(env, config)
                policy = steered(agent, policy, mode, number)
                play = play_advance(env, play, partial(agent.modes[mode.name].act, policy), steps)
                return play, is_over(env, play)

            return self.population.over_members(one)(env, config, inputs, (of_members, play))

        return advance


def make_player(experiment: Experiment, evaluation_seed: int | None = None) -> Player:
    """What plays an experiment's policies on one device; it reads no file, and compiles nothing.

    `evaluation_seed` and those after it replace the members' own seeds: seeds differ in their
    episodes too, for an interval over seeds takes them for independent.
    """
    run = experiment.check()
    env = make(experiment.environment, **experiment.environment_options)
    seeds = experiment.seeds()
    if evaluation_seed is not None:
        seeds = [evaluation_seed + index for index in range(len(seeds))]
    population = Population(
        env, experiment.swept_config(), {}, (len(experiment.settings()), len(seeds))
    )
    make_agent = load(experiment.algorithm).agent
    agent = make_agent(env, experiment.config)
    num_episodes = run.evaluation_episodes
    chosen = choose(run.modes, agent.modes, experiment.algorithm)
    assert num_episodes is not None
    check_episodes(env, agent, num_episodes, population.size)
    return Player(population, make_agent, population.keys(seeds), num_episodes, chosen)


def steered(agent: Agent, policy: PyTree, mode: Asked, number: Array | None = None) -> PyTree:
    """The policy as a mode asks for it; `number` may stand for the mode's own, traced."""
    steer = agent.modes[mode.name].steer
    if steer is None or mode.number is None:
        return policy
    return steer(policy, jnp.float32(mode.number) if number is None else number)
