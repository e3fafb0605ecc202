"""The contract of an environment, held against one by running it; and what every contract shares.

A check is a function of what it is held against. Its docstring says what is promised; it raises
where that is broken, and may return a note. `jaxrl check` holds them against what its users have
made, tests/contract against what jaxrl has.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np

from jaxrl.envs.api import Environment
from jaxrl.envs.check import check_environment
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Dict, Discrete, ObservationSpace, PyTree, Timestep, zeros_of

Case = TypeVar("Case")
Check = Callable[[Case], str | None]

# These programs run a handful of times: compile them fast.
CHEAP: dict[str, Any] = {"xla_backend_optimization_level": 0}
BATCH, STEPS = 2, 100
# Rounding of bounds.
TOLERANCE = 1e-4
# What JAX refuses while it traces, and what to write instead.
ADVICE: dict[type[Exception] | tuple[type[Exception], ...], str] = {
    (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ): "a Python `if`, float(), int() or a function of NumPy asks for the value of what is traced, "
    "as every number of a configuration or an environment is. Use jnp.where and jax.numpy, or "
    "declare it as static: `option` or `size`, struct.field(pytree_node=False).",
    jax.errors.KeyReuseError: "a key is used twice, and gives the same random numbers again. Call "
    "jax.random.split once a function, and use each part once.",
    jax.errors.UnexpectedTracerError: "something that is traced is kept from one call to the next. "
    "Return it as a part of the state.",
}


class Broken(JaxrlError):
    """A promise that is not kept; the message says how, and what to do."""


class Finding(NamedTuple):
    """What one check has found."""

    promise: str
    verdict: Literal["kept", "noted", "broken"]
    text: str = ""


def expect(kept: Any, text: str) -> None:
    """Say what is wrong, unless the promise is kept."""
    if not kept:
        raise Broken(text)


def hold(checks: Iterable[Check], case: Any, made: Any) -> Iterator[Finding]:
    """Hold a case against checks, one after the other; `made` is what its author has written.

    Whatever a check raises is a finding: after it the other checks go on.
    """
    for check in checks:
        promise = (inspect.getdoc(check) or "").partition("\n")[0].rstrip(".")
        try:
            note = check(case)
        except Exception as error:  # the author's code may raise whatever it likes
            yield Finding(promise, "broken", in_words(error, made))
        else:
            yield Finding(promise, "noted" if note else "kept", note or "")


def in_words(error: Exception, made: Any) -> str:
    """What went wrong, where in the file of what was `made`, and what to write instead."""
    if isinstance(error, JaxrlError):
        return str(error)
    for kinds, advice in ADVICE.items():
        if isinstance(error, kinds):
            text = advice
            break
    else:
        text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
    file = inspect.getsourcefile(inspect.unwrap(made))
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    return f"line {frames[-1].lineno}, in {frames[-1].name}: {text}" if frames else text


def afresh(function: Callable) -> Callable:
    """A function that does the same and was never traced: JAX keeps what it has traced by it."""

    def traced_anew(*arguments: Any) -> Any:
        return function(*arguments)

    return traced_anew


def broadcasts_silently(function: Callable, *arguments: Any) -> Exception | None:
    """The error of arrays of different ranks that are combined, where a function does so."""
    try:
        with jax.numpy_rank_promotion("raise"):
            jax.eval_shape(afresh(function), *arguments)
    except ValueError as error:
        if "rank_promotion" in str(error):
            return error
        raise
    return None


def kinds(tree: PyTree) -> PyTree:
    """The shape and type of every leaf, and whether its type is weak."""
    return jax.tree.map(
        lambda leaf: (leaf.shape, str(leaf.dtype), getattr(leaf, "weak_type", False)), tree
    )


def structure(tree: PyTree) -> Any:
    """What a tree is made of, beside its leaves."""
    return jax.tree.structure(tree)


def compilations(program: Any) -> int:
    """How often a jitted function was compiled."""
    return program._cache_size()


def weak_leaves(tree: PyTree) -> list[str]:
    """The paths of leaves whose type is weak: Python's numbers, which JAX types as it likes."""
    return [
        jax.tree_util.keystr(path).lstrip(".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if getattr(leaf, "weak_type", False)
    ]


class EnvironmentCase:
    """An environment that is held against its contract; `make()` builds it again."""

    def __init__(
        self, name: str, env: Environment, make: Callable[[], Environment], steps: int = STEPS
    ) -> None:
        self.name, self.env, self.make, self.steps = name, env, make, steps

    @functools.cached_property
    def shapes(self) -> tuple[tuple[PyTree, PyTree], tuple[PyTree, Timestep]]:
        """Abstract (state, observation) of a reset and (state, timestep) of the step after it."""

        def reset_and_step(key: jax.Array) -> tuple:
            key_reset, key_step, key_action = jax.random.split(key, 3)
            state, observation = self.env.reset(key_reset)
            action = self.env.action_space.sample(key_action)
            return (state, observation), self.env.step(key_step, state, action)

        return jax.eval_shape(reset_and_step, jax.random.key(0))

    def walk(self, steps: int) -> Iterator[tuple[PyTree, Timestep | None, np.ndarray]]:
        """Random steps of a batch: (observation, timestep, which of its rows count).

        Of a reset there is no timestep. What follows the end of an episode does not count; where
        all have ended, or at the time limit, all begin again. Each walk is a program of its own.
        """

        @functools.partial(jax.jit, compiler_options=CHEAP)
        def reset(env: Environment, keys: jax.Array) -> tuple:
            return jax.vmap(env.reset)(keys)

        @functools.partial(jax.jit, compiler_options=CHEAP)
        def step(env: Environment, keys: jax.Array, state: PyTree) -> tuple:
            both = jax.vmap(jax.random.split)(keys)
            actions = jax.vmap(env.action_space.sample)(both[:, 0])
            return jax.vmap(env.step)(both[:, 1], state, actions)

        env, running, clock = self.env, np.zeros(BATCH, bool), 0
        # Under vmap the checker takes the branches of a condition for two uses of a key.
        with jax.debug_key_reuse(False):
            for keys in jax.random.split(jax.random.key(1), (steps, BATCH)):
                if clock == env.horizon or not running.any():
                    state, observation = reset(
                        env, jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
                    )
                    running, clock = np.ones(BATCH, bool), 0
                    yield observation, None, running
                state, timestep = step(env, keys, state)
                yield timestep.observation, timestep, running
                running, clock = running & ~np.asarray(timestep.terminated), clock + 1
                env = self.make()  # an equal one: what was compiled serves it too
        expect(
            compilations(step) == 1,
            "made twice, it is compiled twice: a static field differs, or a state has other types "
            "than the one before.",
        )


def check_spaces(case: EnvironmentCase) -> None:
    """Spaces can be hashed, and the horizon is a whole number of at least 1."""
    env = case.env
    try:
        hash((env.observation_space, env.action_space))
    except TypeError as error:
        raise Broken(f"{error}: give bounds as numbers or tuples, not as arrays.") from error
    expect(
        isinstance(env.observation_space, Box | Discrete | Dict),
        f"observation_space is {env.observation_space}, but must be a Box, or a Dict of them.",
    )
    expect(
        type(env.horizon) is int and env.horizon >= 1,
        f"horizon is {env.horizon!r}, but must be a Python integer of at least 1.",
    )


def check_traced(case: EnvironmentCase) -> None:
    """Reset and step return what the spaces declare, and the state keeps its structure."""
    check_environment(case.name, case.env)
    (state, first), (successor, timestep) = case.shapes
    for observation in (first, timestep.observation):
        expect(
            kinds(observation) == kinds(zeros_of(case.env.observation_space)),
            "observations are not of the shapes and types of observation_space.",
        )
    expect(
        structure(state) == structure(successor),
        f"the state that step returns is a {structure(successor)}, but that of reset a "
        f"{structure(state)}.",
    )


def check_weak_types(case: EnvironmentCase) -> None:
    """Nothing that reset and step return has a weak type."""
    weak = weak_leaves(case.shapes)
    expect(
        not weak,
        f"of weak type: {', '.join(weak)}. A Python number becomes one: write jnp.float32(0) for "
        "0.0, jnp.int32(0) for 0.",
    )


def check_ranks(case: EnvironmentCase) -> str | None:
    """Arrays of different ranks are not combined by accident."""

    def reset_and_step(key: jax.Array) -> PyTree:
        state, _ = case.env.reset(key)
        return case.env.step(key, state, case.env.action_space.sample(key))

    error = broadcasts_silently(reset_and_step, jax.random.key(0))
    if error is None:
        return None
    return f"{in_words(error, type(case.env))} If it is meant, write the axis: x[None]."


def check_made_twice(case: EnvironmentCase) -> None:
    """Made twice, it is the same structure, so that what was compiled is used again."""
    expect(
        structure(case.env) == structure(case.make()),
        "made twice, its static fields differ: what they hold must compare equal.",
    )


def check_batch(case: EnvironmentCase) -> None:
    """In a batch, random steps stay within the observation space, and rewards are finite."""
    space = case.env.observation_space
    for observation, timestep, running in case.walk(case.steps):
        expect(
            kinds(observation) == kinds(zeros_of(space, (BATCH,))),
            "observations of a batch are not of the shapes and types of observation_space.",
        )
        _expect_within(
            "an observation", space, jax.tree.map(lambda x, r=running: x[r], observation)
        )
        if timestep is None:
            continue
        expect(
            timestep.reward.shape == timestep.terminated.shape == (BATCH,),
            f"rewards of a batch of {BATCH} are {list(timestep.reward.shape)}.",
        )
        reward = np.asarray(timestep.reward)[running]
        expect(np.all(np.isfinite(reward)), "a reward is not finite: NaN or infinity.")
        blown_up = np.any(timestep.info.get("blow_up", False))
        expect(not blown_up, "the simulation blows up under random actions.")


def _expect_within(what: str, space: ObservationSpace, seen: PyTree) -> None:
    """Refuse what lies outside of a Box, or of those of a Dict."""
    if isinstance(space, Dict):
        for key, box in space.entries:
            _expect_within(f"{what}, of {key},", box, seen[key])
    elif isinstance(space, Box):
        low, high = (np.asarray(bound, np.float32) for bound in (space.low, space.high))
        values = np.asarray(seen, np.float32)
        outside = values[~((values >= low - TOLERANCE) & (values <= high + TOLERANCE))]  # or NaN
        if outside.size:
            raise Broken(
                f"{what} leaves its space: {outside[0]:g} is outside of {space}. Widen the bounds, "
                "or clip what is observed."
            )


def check_pure(case: EnvironmentCase) -> None:
    """Randomness comes from the key alone: the same keys give the same steps."""

    def leaves() -> list[np.ndarray]:
        walk = [(observed, timestep) for observed, timestep, _ in case.walk(min(case.steps, 10))]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(walk)]

    equal = [np.array_equal(a, b, equal_nan=True) for a, b in zip(leaves(), leaves(), strict=False)]
    expect(
        all(equal),
        "the same keys give other steps the second time: random numbers of NumPy or Python, or "
        "something that reset and step change outside of the state. Use jax.random with `key`.",
    )


CHECKS: tuple[Check, ...] = (
    check_spaces,
    check_traced,
    check_weak_types,
    check_ranks,
    check_made_twice,
    check_batch,
    check_pure,
)
