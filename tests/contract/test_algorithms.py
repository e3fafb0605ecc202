"""The Algorithm contract, held against every algorithm in `jaxrl.algos` on an environment for each
kind of action."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos import registry
from jaxrl.config import field_names, override, replace_leaves, settings, sweepable
from jaxrl.core.shards import Shards
from jaxrl.core.tree import copy
from jaxrl.envs import registry as environments
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.types import Agent, Algorithm, Box, Log, Mean, View, zeros_of
from tests.algos.offline import of_episodes
from tests.envs.acting import actor

# Small sizes, where an algorithm has a field of the name; everything stateful is switched on.
TINY = {
    "total_steps": 32 * 100,
    "total_updates": 32 * 100,
    "updates_per_iteration": 4,
    "num_envs": 4,
    "num_steps": 8,
    "minibatch_size": 16,
    "num_epochs": 2,
    "hidden_sizes": (8,),
    "normalize_observations": True,
    "scale_rewards": True,
    "known_baseline_value": True,
    "know_rewards": False,
    # A ring that has gone round by the second iteration.
    "replay_capacity": 50,
    "batch_size": 8,
    "warm_up": 8,
    "updates_per_transition": 0.5,
    "n_step": 2,
    # The average that acts moves from the second gradient step on.
    "ema_start": 1,
    "ema_interval": 1,
    "time_width": 4,
    "diffusion_steps": 2,
    "flow_steps": 2,
    "candidates": 3,
}
CHEAP = {
    "xla_backend_optimization_level": 0
}  # these programs run a handful of times: compile them fast
ENVIRONMENTS = ("probe/two-lengths", "probe/continuous-action", "probe/multi-discrete-action")
# Algorithms for environments of another kind.
OWN = {
    "ppo": (*ENVIRONMENTS, "dict/locks"),
    "stepmix": ("tabular/paper",),
    "deep_stepmix": ("probe/two-lengths",),
    "td3": ("probe/continuous-never-ending",),
    "sac": ("probe/continuous-never-ending",),
    "bc": ("probe/two-lengths", "probe/continuous-action"),
    "td3_bc": ("probe/continuous-never-ending",),
    "iql": ("probe/continuous-never-ending",),
    "rebrac": ("probe/continuous-never-ending",),
    "ofql": ("probe/continuous-never-ending",),
    "dql": ("probe/continuous-never-ending",),
    "fql": ("probe/continuous-never-ending",),
    "decision_mamba": ("probe/continuous-action",),
    "decision_transformer": ("probe/multi-discrete-action",),
}
# A constraint that binds nothing, so that the learner acts; and what is read from disk otherwise.
UNBOUND = {
    "constraint": "absolute",
    "constraint_level": -20.0,
    "return_low": -20.0,
    "return_high": 20.0,
}
# With a memory whole environments are read; a round of deep StepMix holds whole episodes.
MEMORY = {"memory": "gru", "memory_size": 4}
SETTINGS = {
    "deep_stepmix": UNBOUND | MEMORY | {"num_steps": 20, "minibatch_size": 40},
    "ppo on probe/multi-discrete-action": MEMORY,
}
SEQUENCES = {"context": 2, "width": 8, "num_layers": 1, "warm_up_updates": 0}
SETTINGS |= {
    "decision_mamba": SEQUENCES | {"state_size": 2, "expand": 1, "stages": 2000},
    "decision_transformer": SEQUENCES,
}
# Modes whose actions are a function of what is seen.
DETERMINISTIC = ("deterministic", "target", "recurrent")


def random_steps(env):
    """A dataset of episodes of two random steps."""
    keys = jax.random.split(jax.random.key(0), 40)
    action = np.asarray(jax.vmap(env.action_space.sample)(keys))
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(40, *env.observation_space.shape))
    return {"dataset": of_episodes(env, observation, action, rng.normal(size=40), [2] * 20)}


INPUTS = {
    "deep_stepmix": lambda env: {
        "baseline": actor(lambda observation, key: env.action_space.sample(key))
    },
    "bc": random_steps,
    "td3_bc": random_steps,
    "iql": random_steps,
    "rebrac": random_steps,
    "ofql": random_steps,
    "dql": random_steps,
    "fql": random_steps,
    "decision_mamba": random_steps,
    "decision_transformer": random_steps,
}
# Numbers that change what is learned, where not all of them do: cloning reads no reward.
SWEPT = {"bc": ["learning_rate"]}
CASES = [
    (name, each) for name in registry.algorithm_names() for each in OWN.get(name, ENVIRONMENTS)
]
each_case = pytest.mark.parametrize(("name", "environment_id"), CASES)


def tiny_config(name, environment_id):
    config = registry.load(name).config_class()
    sizes = {field: value for field, value in TINY.items() if field in field_names(config)}
    settings = SETTINGS.get(name, {}) | SETTINGS.get(f"{name} on {environment_id}", {})
    return override(config, sizes | settings)


class Compiled:
    """One algorithm on one environment: a single member,
    and a population of 2 settings × 2 seeds."""

    def __init__(self, name, environment_id):
        self.name, self.env = name, environments.make(environment_id)
        inputs = INPUTS.get(name, lambda env: {})(self.env)
        self.factory = functools.partial(registry.load(name).factory, **inputs)
        config = tiny_config(name, environment_id)
        self.algorithm, self.swept = self.factory(self.env, config), sweepable(config)
        self.swept = SWEPT.get(name, self.swept)
        self.config = jax.tree.map(np.float32, config)
        self.init = jax.jit(self.make_init, compiler_options=CHEAP)
        self.first = self.init(self.config, jax.random.key(3))
        self.chunk = jax.jit(self.make_chunk, donate_argnums=1, compiler_options=CHEAP)
        # As whoever plays a saved policy makes it, without what training reads.
        self.agent = registry.load(name).agent(self.env, config)
        self.act = {name: self.make_act(mode.act) for name, mode in self.agent.modes.items()}

    def make_act(self, act):
        """A mode for one environment, under several keys at once."""
        return jax.jit(jax.vmap(act, in_axes=(None, None, None, 0)), compiler_options=CHEAP)

    def view(self, observation):
        """What a policy is shown at the beginning of an episode."""
        return View.at_start(observation, self.env.action_space)

    def make_init(self, config, key):
        return self.factory(self.env, config).init(key)

    def make_chunk(self, config, state, iterations):
        """As many iterations as a traced number says; metrics are summed over them."""
        step = self.factory(self.env, config).step

        def body(_, carry):
            state, metrics = step(carry[0])
            return state, jax.tree.map(jnp.add, carry[1], metrics)

        shapes = jax.eval_shape(step, state)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, iterations, body, (state, nothing))

    def over_members(self, function, *axes):
        """Map `function(config, x, …)` over settings, then seeds."""
        over_seeds = jax.vmap(function, in_axes=(None, 0, *axes))
        return jax.vmap(over_seeds, in_axes=(0, 0, *axes))

    def run(self, iterations, state=None):
        """(state, metrics) after so many iterations from `state`, or from the beginning."""
        return self.chunk(
            self.config, copy(self.first) if state is None else state, jnp.int32(iterations)
        )


compiled = functools.cache(Compiled)


def bits(tree):
    """Every leaf as bytes, keys included."""

    def raw(leaf):
        return (
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )

    return [np.asarray(raw(leaf)).tobytes() for leaf in jax.tree.leaves(tree)]


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


@each_case
def test_the_factory_makes_an_algorithm_that_says_what_a_step_consumes(name, environment_id):
    algorithm = compiled(name, environment_id).algorithm
    assert isinstance(algorithm, Algorithm)
    unit, per_step, steps, also = algorithm.budget
    assert unit in ("transitions", "gradient steps", "episodes") and unit not in also
    assert set(also) <= {"transitions", "gradient steps", "episodes"}
    assert all(type(count) is int and count >= 1 for count in (per_step, steps, *also.values()))
    assert steps == TINY["total_steps"] // per_step


def abstract(function, *arguments):
    """(structure, shapes and types) of what a function returns."""
    tree = jax.eval_shape(function, *arguments)
    return jax.tree.structure(tree), kinds(tree)


@each_case
def test_the_agent_that_is_made_without_inputs_acts_with_the_policies_that_training_makes(
    name, environment_id
):
    case = compiled(name, environment_id)
    agent, algorithm, key = case.agent, case.algorithm, jax.random.key(0)
    assert isinstance(agent, Agent) and list(agent.modes) == list(algorithm.agent.modes) != []
    trained = abstract(lambda key: algorithm.policy(algorithm.init(key)), key)
    assert abstract(agent.init, key) == abstract(algorithm.agent.init, key) == trained
    assert abstract(agent.memory, case.algorithm.policy(case.first)) == abstract(
        algorithm.agent.memory, case.algorithm.policy(case.first)
    )


@each_case
def test_every_mode_keeps_the_memory_and_the_value_is_a_number(name, environment_id):
    case = compiled(name, environment_id)
    policy, space = jax.eval_shape(case.agent.init, jax.random.key(0)), case.env.observation_space
    memory = abstract(case.agent.memory, policy)
    arguments = (
        policy,
        jax.eval_shape(case.agent.memory, policy),
        case.view(zeros_of(space)),
        jax.random.key(0),
    )
    for mode in case.agent.modes.values():
        assert abstract(lambda *given, act=mode.act: act(*given)[1], *arguments) == memory
        if mode.steer is not None:
            assert abstract(mode.steer, policy, jnp.float32(1.0)) == abstract(
                case.agent.init, jax.random.key(0)
            )
    if case.agent.value is not None:
        value = jax.eval_shape(case.agent.value, *arguments)
        assert value.shape == () and value.dtype == jnp.float32


def without_counters(tree):
    """The leaves of a tree; of a Log the rows alone: every device counts those of its own block."""

    def is_log(node):
        return isinstance(node, Log)

    rows = jax.tree.map(lambda node: node.rows if is_log(node) else node, tree, is_leaf=is_log)
    return jax.tree.leaves(rows)


@each_case
def test_what_is_sharded_has_rows_that_two_devices_halve_and_nothing_else_has(name, environment_id):
    case = compiled(name, environment_id)
    if "shards" not in inspect.signature(registry.load(name).factory).parameters:
        pytest.skip("it does not share its environments")

    def state_of(devices):
        """The state on each of so many devices, [devices, ...]."""
        shards = Shards("env", devices)
        init = case.factory(case.env, tiny_config(name, environment_id), shards=shards).init
        each = jax.vmap(init, in_axes=None, axis_name=shards.axis_name, axis_size=devices)
        return jax.eval_shape(each, jax.random.key(0))

    def check(split, whole, share):
        for one, half in zip(without_counters(whole), without_counters(share), strict=True):
            expected = (one.shape[1] // 2, *one.shape[2:]) if split else one.shape[1:]
            assert half.shape[1:] == expected
        return split

    found = jax.tree.map(check, case.algorithm.sharded, state_of(1), state_of(2))
    assert False in jax.tree.leaves(found)


@each_case
def test_a_run_begins_from_a_policy_that_was_trained_before(name, environment_id):
    case = compiled(name, environment_id)
    if case.algorithm.begin_from is None:
        pytest.skip("it does not")
    policy = case.algorithm.policy(case.run(1)[0])
    begun = case.algorithm.begin_from(case.first, policy)
    assert (
        bits(case.algorithm.policy(begun))
        == bits(policy)
        != bits(case.algorithm.policy(case.first))
    )
    assert jax.tree.structure(begun) == jax.tree.structure(case.first) and kinds(begun) == kinds(
        case.first
    )


@each_case
def test_init_is_a_function_of_its_key_alone(name, environment_id):
    case = compiled(name, environment_id)
    first, again, other = (case.init(case.config, jax.random.key(seed)) for seed in (0, 0, 1))
    assert bits(first) == bits(again) != bits(other)
    assert jax.tree.structure(first) == jax.tree.structure(case.first)
    assert kinds(first) == kinds(case.first)


@each_case
def test_a_step_keeps_the_structure_types_and_shapes_of_the_state(name, environment_id):
    algorithm = compiled(name, environment_id).algorithm
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    following, _ = jax.eval_shape(algorithm.step, state)
    assert jax.tree.structure(state) == jax.tree.structure(following)
    assert kinds(state) == kinds(following)
    leaves = jax.tree.leaves_with_path((state, following))
    assert not [
        jax.tree_util.keystr(path) for path, leaf in leaves if getattr(leaf, "weak_type", False)
    ]


@each_case
def test_metrics_are_finite_pairs_of_scalars_and_the_same_every_time(name, environment_id):
    case = compiled(name, environment_id)
    state, first = case.run(1)
    _, second = case.run(2, state)
    for metrics in (first, second):
        assert all(isinstance(pair, Mean) for pair in metrics.values())
        for name_of_metric, pair in metrics.items():
            for leaf in pair:
                assert leaf.shape == () and leaf.dtype == jnp.float32, name_of_metric
                assert np.isfinite(leaf), name_of_metric
            assert float(pair.count) >= 0.0
    assert jax.tree.structure(first) == jax.tree.structure(second)


@each_case
def test_three_chunks_of_any_length_are_one_compilation(name, environment_id):
    case = compiled(name, environment_id)
    state, _ = case.run(1)
    for iterations in (2, 1):
        state, _ = case.run(iterations, state)
    assert case.chunk._cache_size() == 1


@each_case
def test_a_donated_state_cannot_be_read_again(name, environment_id):
    case = compiled(name, environment_id)
    state = copy(case.first)
    following, _ = case.run(1, state)
    donated = [leaf for leaf in jax.tree.leaves(state) if leaf.is_deleted()]
    assert len(donated) == len(jax.tree.leaves(state))
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(next(leaf for leaf in donated if leaf.dtype == jnp.float32))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(following))


@each_case
def test_the_same_seed_gives_the_same_bits(name, environment_id):
    case = compiled(name, environment_id)
    (first, first_metrics), (second, second_metrics) = case.run(2), case.run(2)
    assert bits((first, first_metrics)) == bits((second, second_metrics))


@each_case
def test_one_chunk_of_four_is_four_chunks_of_one(name, environment_id):
    case = compiled(name, environment_id)
    whole, whole_metrics = case.run(4)
    state, total = None, None
    for _ in range(4):
        state, metrics = case.run(1, state)
        total = metrics if total is None else jax.tree.map(jnp.add, total, metrics)
    assert bits(state) == bits(whole)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), total, whole_metrics)


@each_case
def test_a_run_resumed_from_a_checkpoint_goes_on_bit_for_bit(name, environment_id, tmp_path):
    case = compiled(name, environment_id)
    whole, _ = case.run(4)
    half, _ = case.run(2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, half, {"seconds": 1.5})
    restored = checkpoints.restore_latest(
        jax.eval_shape(case.make_init, case.config, jax.random.key(0))
    )
    assert restored.iteration == 2 and bits(restored.state) == bits(half)
    resumed, _ = case.run(2, restored.state)
    assert jax.tree.structure(resumed) == jax.tree.structure(whole)
    assert bits(resumed) == bits(whole)
    assert case.chunk._cache_size() == 1


@each_case
def test_seeds_and_settings_are_vmapped_axes_of_one_compilation(name, environment_id):
    case = compiled(name, environment_id)
    chunk = jax.jit(
        case.over_members(case.make_chunk, None), donate_argnums=1, compiler_options=CHEAP
    )
    init = jax.jit(case.over_members(case.make_init), compiler_options=CHEAP)
    factors, policies = jnp.array([1.0, 0.5]), []
    both = jax.tree.map(lambda number: jnp.broadcast_to(number, 2), case.config)
    values = {each.name: each.value for each in settings(both)}
    # The checker of keys takes vmap's own transposition of a scan's keys for a second use of them.
    with jax.debug_key_reuse(False):
        keys = jnp.stack([jax.random.key(3), jax.random.key(4)])
        first = init(both, jnp.broadcast_to(keys, (2, 2)))
        for swept in case.swept[:2]:
            config = replace_leaves(both, {swept: values[swept] * factors})
            state, metrics = chunk(config, copy(first), jnp.int32(2))
            assert all(leaf.shape[:2] == (2, 2) for leaf in jax.tree.leaves((state, metrics)))
            policies.append(jax.device_get(case.algorithm.policy(state)))
        assert chunk._cache_size() == 1

    alone = jax.device_get(case.algorithm.policy(case.run(2)[0]))
    for found, expected in zip(jax.tree.leaves(policies[0]), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(found[0, 0], expected, rtol=1e-4, atol=1e-4)
    leaves = jax.tree.leaves(policies[0])
    assert any(not np.array_equal(leaf[0, 0], leaf[0, 1]) for leaf in leaves), "seeds must differ"
    assert any(not np.array_equal(leaf[0, 0], leaf[1, 0]) for leaf in leaves), (
        "settings must differ"
    )


@each_case
def test_the_policy_acts_for_one_environment_within_its_space(name, environment_id):
    case = compiled(name, environment_id)
    policy, space = case.algorithm.policy(case.first), case.env.action_space
    view = case.view(jax.jit(case.env.reset)(jax.random.key(0))[1])
    memory, unique = case.agent.memory(policy), {}
    for mode, act in case.act.items():
        keys = jax.random.split(jax.random.key(1), 20)
        actions, following = act(policy, memory, view, keys)
        assert jax.tree.structure(following) == jax.tree.structure(memory)
        assert actions.shape == (20, *space.shape) and actions.dtype == space.dtype
        if isinstance(space, Box):
            assert np.all(np.asarray(actions) >= space.low) and np.all(
                np.asarray(actions) <= space.high
            )
        unique[mode] = len(np.unique(np.asarray(actions), axis=0))
    assert set(unique) & set(DETERMINISTIC)
    assert all((number == 1) == (mode in DETERMINISTIC) for mode, number in unique.items())


@each_case
def test_a_policy_needs_nothing_else_of_the_state(name, environment_id):
    case = compiled(name, environment_id)
    state, _ = case.run(1)
    policy, space = copy(case.algorithm.policy(state)), case.env.observation_space
    mode = "stochastic" if "stochastic" in case.act else next(iter(case.act))

    def act(seed):
        keys = jax.random.split(jax.random.key(seed), 20)
        view = case.view(zeros_of(space))
        return case.act[mode](policy, case.agent.memory(policy), view, keys)[0]

    before = act(1)
    case.run(1, state)  # donates the state
    np.testing.assert_array_equal(before, act(1))
