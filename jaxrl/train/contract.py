"""The contract of an algorithm, held against one on a small environment.

Checks are as in `jaxrl.envs.contract`, of a `Case`: an algorithm, an environment, a configuration.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import replace_leaves, settings
from jaxrl.core.shards import Shards
from jaxrl.core.tree import copy
from jaxrl.envs.contract import (
    CHEAP,
    Check,
    afresh,
    broadcasts_silently,
    compilations,
    expect,
    in_words,
    structure,
    weak_leaves,
)
from jaxrl.train.contract_case import Case
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.types import Algorithm, Array, Box, Log, Mean, PyTree, zeros_of

UNITS = ("transitions", "gradient steps", "episodes")
# Modes whose actions are a function of what is seen.
DETERMINISTIC = ("deterministic", "target", "recurrent")
# Members of a population agree with single runs to rounding, after two iterations.
TOLERANCE = 1e-4


def bits(tree: PyTree) -> list[bytes]:
    """Every leaf as bytes, keys included."""

    def raw(leaf: Array) -> Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return [np.asarray(raw(leaf)).tobytes() for leaf in jax.tree.leaves(tree)]


def kinds(tree: PyTree) -> dict[str, str]:
    """The type and shape of every leaf, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype.name}{list(leaf.shape)}" for path, leaf in leaves
    }


def _abstract(function: Callable, *arguments: Any) -> PyTree:
    return jax.eval_shape(function, *arguments)


def _expect_alike(what: str, found: PyTree, expected: PyTree, advice: str) -> None:
    """Refuse a tree of another structure, or with leaves of another shape or type."""
    here, there = kinds(found), kinds(expected)
    differ = [
        f"{path or 'it'} is {here.get(path, 'missing')} and was {there.get(path, 'missing')}"
        for path in dict.fromkeys([*there, *here])
        if here.get(path) != there.get(path)
    ]
    if not differ and structure(found) != structure(expected):
        differ = ["its structure is another one"]
    expect(not differ, f"{what}: {'; '.join(differ[:3])}. {advice}")


def _differing(found: PyTree, expected: PyTree) -> str:
    """The paths of the leaves whose bits differ, as text."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(expected)]
    return ", ".join(
        jax.tree_util.keystr(path) or "it"
        for path, one, other in zip(paths, bits(found), bits(expected), strict=True)
        if one != other
    )


def check_traced(case: Case) -> None:
    """`init` and `step` are traced, with every number of the configuration: one compilation."""
    state = _abstract(case.make_init, case.config, jax.random.key(0))
    _abstract(case.make_step, case.config, state)


def check_keys(case: Case) -> None:
    """No key is used twice."""
    with jax.debug_key_reuse(True):
        state = jax.jit(afresh(case.make_init)).eval_shape(case.config, jax.random.key(0))
        jax.jit(afresh(case.make_step)).eval_shape(case.config, state)


def check_ranks(case: Case) -> str | None:
    """Arrays of different ranks are not combined by accident."""

    def init_and_step(config: Any, key: Array) -> PyTree:
        return case.make_step(config, case.make_init(config, key))

    error = broadcasts_silently(init_and_step, case.config, jax.random.key(0))
    if error is None:
        return None
    return f"{in_words(error, case.spec.factory)} If it is meant, write the axis: x[None]."


def check_budget(case: Case) -> None:
    """The budget says what a step consumes, in whole numbers."""
    algorithm = case.algorithm
    expect(isinstance(algorithm, Algorithm), f"the factory returns a {type(algorithm).__name__}.")
    unit, per_step, steps, also = algorithm.budget
    known = unit in UNITS and unit not in also and set(also) <= set(UNITS)
    expect(known, f"budget counts {unit} and {sorted(also)}, but units are {', '.join(UNITS)}.")
    counts = (per_step, steps, *also.values())
    expect(
        all(type(count) is int and count >= 1 for count in counts),
        f"budget is {algorithm.budget}, but its counts must be Python integers of at least 1.",
    )


def check_agent(case: Case) -> None:
    """The agent that is made without training acts with the policies that training makes."""
    agent, algorithm, key = case.agent, case.algorithm, jax.random.key(0)
    expect(agent.modes, "the agent has no modes to act in.")
    expect(
        list(agent.modes) == list(algorithm.agent.modes),
        f"the agent has the modes {list(agent.modes)}, but that of the algorithm "
        f"{list(algorithm.agent.modes)}.",
    )
    trained = _abstract(lambda key: algorithm.policy(algorithm.init(key)), key)
    advice = "`policy(state)` must give what the agent's `init` makes, or it cannot be read back."
    _expect_alike("the policy of a state", trained, _abstract(agent.init, key), advice)
    _expect_alike(
        "a policy of the algorithm's agent", _abstract(algorithm.agent.init, key), trained, advice
    )
    _expect_alike(
        "the agent's memory",
        _abstract(agent.memory, trained),
        _abstract(algorithm.agent.memory, trained),
        advice,
    )


def check_modes(case: Case) -> None:
    """Every mode keeps the shapes of the memory, and the value is a number."""
    key = jax.random.key(0)
    policy = _abstract(case.agent.init, key)
    memory = _abstract(case.agent.memory, policy)
    arguments = (policy, memory, case.view(zeros_of(case.env.observation_space)), key)
    for name, mode in case.agent.modes.items():
        _, after = _abstract(mode.act, *arguments)
        _expect_alike(f"the memory after {name}", after, memory, "`act` must keep it as it is.")
        if mode.steer is not None:
            steered = _abstract(mode.steer, policy, jnp.float32(1.0))
            _expect_alike(f"a policy that is steered, {name}", steered, policy, "")
    if case.agent.value is not None:
        value = _abstract(case.agent.value, *arguments)
        _expect_alike("the value of a view", value, jnp.float32(0), "It is one number, float32.")


def _without_counters(tree: PyTree) -> list[PyTree]:
    """The leaves of a tree; of a Log the rows alone: every device counts those of its own block."""

    def is_log(node: Any) -> bool:
        return isinstance(node, Log)

    rows = jax.tree.map(lambda node: node.rows if is_log(node) else node, tree, is_leaf=is_log)
    return jax.tree.leaves(rows)


def check_sharded(case: Case) -> str | None:
    """What is sharded has rows that two devices halve, and nothing else has."""
    if "shards" not in inspect.signature(case.spec.factory).parameters:
        return "it takes no `shards`: a run stays on one device, its seeds on several."

    def state_of(devices: int) -> PyTree:
        """The state on each of so many devices, [devices, ...]."""
        shards = Shards("env", devices)
        init = case.factory(case.env, case.plain_config, shards=shards).init
        each = jax.vmap(init, in_axes=None, axis_name=shards.axis_name, axis_size=devices)
        return _abstract(each, jax.random.key(0))

    def check(split: bool, whole: PyTree, share: PyTree) -> bool:
        for one, half in zip(_without_counters(whole), _without_counters(share), strict=True):
            expected = (one.shape[1] // 2, *one.shape[2:]) if split else one.shape[1:]
            expect(
                half.shape[1:] == expected,
                f"`sharded` says {split} of a leaf {list(one.shape[1:])}, and on two devices it is "
                f"{list(half.shape[1:])}, not {list(expected)}: True where there is a row an "
                "environment, else False.",
            )
        return split

    found = jax.tree.map(check, case.algorithm.sharded, state_of(1), state_of(2))
    expect(False in jax.tree.leaves(found), "`sharded` splits everything, the policy too.")
    return None


def check_begin_from(case: Case) -> str | None:
    """A run begins from a policy that was trained before."""
    begin = case.algorithm.begin_from
    if begin is None:
        return "it has no `begin_from`: --init-from is refused."
    policy_of = case.algorithm.policy
    policy = policy_of(case.run(1)[0])
    begun = begin(case.first, policy)
    expect(
        bits(policy_of(begun)) == bits(policy) != bits(policy_of(case.first)),
        "the state that `begin_from` makes has another policy than the one it was given.",
    )
    _expect_alike("the state that `begin_from` makes", begun, case.first, "")
    return None


def check_init(case: Case) -> None:
    """`init` is a function of its key alone."""
    first, again, other = (case.init(case.config, jax.random.key(seed)) for seed in (0, 0, 1))
    traced_again = jax.jit(afresh(case.make_init), compiler_options=CHEAP)(
        case.config, jax.random.key(0)
    )
    for same in (again, traced_again):
        expect(
            bits(first) == bits(same),
            f"the same key gives another state the second time ({_differing(same, first)}): random "
            "numbers that are not jax.random's?",
        )
    expect(bits(first) != bits(other), "two keys give the same state: does it hold its key?")
    _expect_alike("the first state", first, case.first, "")


def check_structure(case: Case) -> None:
    """A step keeps the structure, the shapes and the types of the state."""
    state = _abstract(case.algorithm.init, jax.random.key(0))
    following, _ = _abstract(case.algorithm.step, state)
    _expect_alike(
        "the state after a step", following, state, "Begin with what a step leaves behind."
    )
    weak = weak_leaves((state, following))
    expect(
        not weak,
        f"of weak type: {', '.join(weak)}. Pass the first state through "
        "jaxrl.core.tree.strip_weak_types, or write jnp.float32(0) for 0.0.",
    )


def check_metrics(case: Case) -> None:
    """Metrics are finite pairs (sum, count) of scalars, and the same ones every time."""
    state, first = case.run(1)
    _, second = case.run(2, state)
    for metrics in (first, second):
        for name, pair in metrics.items():
            expect(
                isinstance(pair, Mean), f"{name} is a {type(pair).__name__}: write Mean.of(values)."
            )
            for leaf in pair:
                _expect_alike(f"{name}", leaf, jnp.float32(0), "Mean.of(values) makes a pair.")
                expect(
                    np.isfinite(leaf), f"{name} is {float(leaf)}: NaN or infinity within 3 steps."
                )
            expect(float(pair.count) >= 0.0, f"{name} counts {float(pair.count)}.")
    names = (sorted(first), sorted(second))
    expect(names[0] == names[1], f"metrics were {names[0]}, and then {names[1]}.")


def check_compilations(case: Case) -> None:
    """Chunks of any length are one compilation."""
    state, _ = case.run(1)
    for iterations in (2, 1):
        state, _ = case.run(iterations, state)
    compiled = compilations(case.chunk)
    expect(
        compiled == 1,
        f"three chunks are {compiled} compilations: the state changes a type or a static field.",
    )


def check_donation(case: Case) -> None:
    """A state can be donated: every one of its buffers is its own, and is used again."""
    state = copy(case.first)
    following, _ = case.run(1, state)
    kept = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if not leaf.is_deleted()
    ]
    expect(
        not kept,
        f"{', '.join(kept)} cannot be donated: a step must return each leaf in the shape and type "
        "that it had.",
    )
    expect(
        not any(leaf.is_deleted() for leaf in jax.tree.leaves(following)),
        "a step returns a buffer that it was given and that is gone.",
    )


def check_same_bits(case: Case) -> None:
    """The same seed gives the same bits."""
    first, second = case.run(2), case.run(2)
    expect(
        bits(first) == bits(second), f"run twice, it differs in {_differing(second[0], first[0])}."
    )


def check_chunks(case: Case) -> None:
    """One chunk of four iterations is four chunks of one."""
    whole, whole_metrics = case.run(4)
    state, total = case.run(1)
    for _ in range(3):
        state, metrics = case.run(1, state)
        total = jax.tree.map(jnp.add, total, metrics)
    expect(
        bits(state) == bits(whole),
        f"they differ in {_differing(state, whole)}: a step depends on what is not in its state.",
    )
    for name, pair in whole_metrics.items():
        expect(
            np.allclose(np.asarray(total[name]), np.asarray(pair), rtol=1e-5),
            f"{name} is {pair} over the chunk of four, and {total[name]} over four of one.",
        )


def check_resume(case: Case) -> None:
    """A run that is saved, read back and resumed goes on bit for bit."""
    whole, _ = case.run(4)
    half, _ = case.run(2)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(2, half, {"seconds": 1.5})
        template = _abstract(case.make_init, case.config, jax.random.key(0))
        restored = checkpoints.restore_latest(template)
    lost = _differing(restored.state, half)
    expect(
        restored.iteration == 2 and not lost,
        f"what was read back differs in {lost}: of a Log, only rows that are appended are saved.",
    )
    resumed, _ = case.run(2, restored.state)
    expect(
        structure(resumed) == structure(whole) and bits(resumed) == bits(whole),
        f"resumed, it differs in {_differing(resumed, whole)}: what is not in the state is lost.",
    )


def check_members(case: Case) -> str | None:
    """Seeds and settings are vmapped axes of one compilation, and a member is a single run."""
    chunk = jax.jit(
        case.over_members(case.make_chunk, None), donate_argnums=1, compiler_options=CHEAP
    )
    init = jax.jit(case.over_members(case.make_init), compiler_options=CHEAP)
    both = jax.tree.map(lambda number: jnp.broadcast_to(number, 2), case.config)
    values = {each.name: each.value for each in settings(both)}
    policies: dict[str, PyTree] = {}
    # The checker of keys takes vmap's own transposition of a scan's keys for a second use of them.
    with jax.debug_key_reuse(False):
        keys = jnp.stack([jax.random.key(3), jax.random.key(4)])
        first = init(both, jnp.broadcast_to(keys, (2, 2)))
        for name in case.swept or ("",):
            changed = {name: values[name] * jnp.array([1.0, 0.5])} if name else {}
            state, metrics = chunk(replace_leaves(both, changed), copy(first), jnp.int32(2))
            for leaf in jax.tree.leaves((state, metrics)):
                expect(leaf.shape[:2] == (2, 2), f"a leaf of four members is {list(leaf.shape)}.")
            policies[name] = jax.device_get(case.algorithm.policy(state))
    expect(compilations(chunk) == 1, "a sweep over another number is another compilation.")
    alone = jax.device_get(case.algorithm.policy(case.run(2)[0]))
    leaves = [jax.tree.leaves(policy) for policy in policies.values()]
    for found, expected in zip(leaves[0], jax.tree.leaves(alone), strict=True):
        expect(
            np.allclose(found[0, 0], expected, rtol=TOLERANCE, atol=TOLERANCE),
            "after two iterations a seed beside others has another policy than the same seed "
            "alone: something is mixed across members, or an `if` became a select.",
        )
    expect(
        any(not np.array_equal(leaf[0, 0], leaf[0, 1]) for leaf in leaves[0]),
        "two seeds learn the same: is the key that `init` is given used?",
    )
    idle = [
        name
        for name, each in zip(policies, leaves, strict=True)
        if name and all(np.array_equal(leaf[0, 0], leaf[1, 0]) for leaf in each)
    ]
    expect(len(idle) < len(policies) or not case.swept, "no number changes what is learned.")
    return f"halved, these change nothing here: {', '.join(idle)}." if idle else None


def check_actions(case: Case) -> None:
    """The policy acts for one environment within its action space, in every mode."""
    policy, space = case.algorithm.policy(case.first), case.env.action_space
    view = case.view(jax.jit(case.env.reset)(jax.random.key(0))[1])
    memory = case.agent.memory(policy)
    for mode, act in case.act.items():
        actions, following = act(policy, memory, view, jax.random.split(jax.random.key(1), 20))
        expect(
            structure(following) == structure(memory),
            f"{mode} returns another memory than it was given.",
        )
        _expect_alike(
            f"20 actions of {mode}",
            actions,
            zeros_of(space, (20,)),
            f"Actions are {space}, in the environment's units: jaxrl.nn.action_units.scale_action.",
        )
        array = np.asarray(actions)
        low, high = (space.low, space.high) if isinstance(space, Box) else (0, _last(space))
        expect(
            np.all(array >= low) and np.all(array <= high),
            f"{mode} leaves the action space {space}: {array.min():g} to {array.max():g}.",
        )
        different = len(np.unique(array, axis=0))
        if mode in DETERMINISTIC:
            expect(different == 1, f"{mode} gives {different} actions for one observation.")
        elif mode == "stochastic":
            expect(different > 1, "stochastic gives the same action 20 times.")


def _last(space: Any) -> np.ndarray:
    """The last of whole numbers, or of each of their factors."""
    return np.asarray(getattr(space, "nvec", None) or space.n) - 1


def check_policy(case: Case) -> None:
    """A policy needs nothing else of the state, which may be donated."""
    state, _ = case.run(1)
    policy = copy(case.algorithm.policy(state))
    mode = "stochastic" if "stochastic" in case.act else next(iter(case.act))

    def act() -> Array:
        keys = jax.random.split(jax.random.key(1), 20)
        view = case.view(zeros_of(case.env.observation_space))
        return case.act[mode](policy, case.agent.memory(policy), view, keys)[0]

    before = np.asarray(act())
    case.run(1, state)  # donates the state
    expect(np.array_equal(before, act()), "it acts otherwise once the state was donated.")


CHECKS: tuple[Check, ...] = (
    check_budget,
    check_structure,
    check_keys,
    check_ranks,
    check_agent,
    check_modes,
    check_init,
    check_metrics,
    check_compilations,
    check_donation,
    check_same_bits,
    check_chunks,
    check_resume,
    check_members,
    check_actions,
    check_policy,
    check_begin_from,
    check_sharded,
)
# Those that the kind of action makes a difference to.
OF_ACTIONS: tuple[Check, ...] = (
    check_structure,
    check_keys,
    check_agent,
    check_modes,
    check_metrics,
    check_actions,
    check_policy,
)
