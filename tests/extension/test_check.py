"""`jaxrl check` names what is wrong with a template that somebody has broken, and where."""

import numpy as np
import pytest

from jaxrl.algos import registry as algorithms
from jaxrl.envs import contract as of_environments
from jaxrl.envs import registry as environments
from jaxrl.envs.contract import EnvironmentCase, hold
from jaxrl.train import contract as of_algorithms
from jaxrl.train.contract_case import Case, small_config
from tests.extension.templates import outside  # noqa: F401

NUMPY = ("import jax.numpy as jnp\n", "import jax.numpy as jnp\nimport numpy as np\n")
CONTINUOUS = "probe/continuous-action"
SPLIT = "key_policy, key_vector, key = jax.random.split(key, 3)"
ITERATION = "iteration=jnp.zeros((), jnp.int32)"
BUDGET = "config.total_steps // transitions)"
REWARD = "jnp.float32(-self.cost)"
# (the check that finds it, what is changed in A2C, what is said of it)
ALGORITHMS = {
    "an if on a number": (
        "traced",
        [("    check(config)\n", "    check(config)\n    assert config.gamma > 0.5\n")],
        ["in a2c: a Python `if`", "declare it as static"],
    ),
    "a key used twice": (
        "keys",
        [
            ("key_rollout, key_loss, key_starts, key = jax", "key_loss, key_starts, key = jax"),
            (".split(state.key, 4)", ".split(state.key, 3)\n        key_rollout = state.key"),
        ],
        ["a key is used twice", "jax.random.split once a function"],
    ),
    "ranks that are broadcast": (
        "ranks",
        [("0.5 * jnp.square(value - target)", "jnp.ones((1, 1)) * jnp.square(value - target)")],
        ["in loss: ", "write the axis: x[None]"],
    ),
    "a counter of another type": (
        "structure",
        [("iteration = state.iteration + 1", "iteration = state.iteration + 1.0")],
        [".iteration is float32[] and was int32[]"],
    ),
    "a Python number in the state": (
        "structure",
        [
            (ITERATION, "iteration=jnp.asarray(0)"),
            ("return strip_weak_types(state)", "return state"),
        ],
        ["of weak type: ", "strip_weak_types"],
    ),
    "a policy that the agent does not know": (
        "agent",
        [("policy=lambda state: state.policy,", "policy=lambda state: state.policy.params,")],
        ["the policy of a state", "what the agent's `init` makes"],
    ),
    "a budget that is no whole number": (
        "budget",
        [(BUDGET, BUDGET.replace("//", "/"))],
        ["Python integers of at least 1"],
    ),
    "random numbers of NumPy": (
        "init",
        [NUMPY, (ITERATION, "iteration=jnp.int32(np.random.default_rng().integers(10**6))")],
        ["another state the second time (.iteration)"],
    ),
    "a metric that is no pair": (
        "metrics",
        [('"gradient_norm": Mean.of(norm)', '"gradient_norm": norm')],
        ["gradient_norm is a", "Mean.of(values)"],
    ),
    "a metric that is not finite": (
        "metrics",
        [("Mean.of(norm)", "Mean.of(norm / 0.0)")],
        ["gradient_norm is inf"],
    ),
    "a seed that is not used": (
        "members",
        [(SPLIT, SPLIT.replace("(key,", "(jax.random.key(0),"))],
        ["two seeds learn the same"],
    ),
    "actions in other units": (
        "actions",
        [
            ("    Array,\n    Budget,", "    Array,\n    Box,\n    Budget,"),
            (
                "        env.action_space,\n        squ",
                "        Box(-9.0, 9.0, (1,)),\n        squ",
            ),
        ],
        ["leaves the action space Box(1)", "-9 to 9"],
    ),
}


@pytest.mark.parametrize(("check", "changes", "said"), ALGORITHMS.values(), ids=list(ALGORITHMS))
def test_a_broken_algorithm_is_named(outside, check, changes, said):  # noqa: F811
    spec = algorithms.load(f"{outside('a2c', *changes)}:a2c")
    env = environments.make(CONTINUOUS if check == "actions" else "probe/two-lengths")
    case = Case(spec, env, small_config(spec), swept=["learning_rate"])
    (finding,) = hold([getattr(of_algorithms, f"check_{check}")], case, spec.factory)
    assert finding.verdict == ("noted" if check == "ranks" else "broken")
    assert [text for text in said if text not in finding.text] == [], finding.text


def test_a_number_without_effect_is_noted(outside):  # noqa: F811
    changes = [("entropy_coefficient * entropy", "entropy_coefficient * 0.0 * entropy")]
    spec = algorithms.load(f"{outside('a2c', *changes)}:a2c")
    swept = ["learning_rate", "entropy_coefficient"]
    case = Case(spec, environments.make("probe/two-lengths"), small_config(spec), swept=swept)
    note = of_algorithms.check_members(case)
    assert note == "halved, these change nothing here: entropy_coefficient."


# The same of the corridor.
ENVIRONMENTS = {
    "bounds as arrays": (
        "spaces",
        [NUMPY, ("Box(0.0, 1.0, (1,))", "Box(np.zeros(1), 1.0, (1,))")],
        ["give bounds as numbers or tuples"],
    ),
    "a Python number": (
        "weak_types",
        [(REWARD, "jnp.asarray(-self.cost)")],
        ["of weak type: ", "reward", "write jnp.float32(0)"],
    ),
    "ranks that are broadcast": (
        "ranks",
        [("position[0] >= 1.0", "(position >= jnp.ones((1, 1)))[0, 0]")],
        ["in step: ", "write the axis: x[None]"],
    ),
    "an observation out of bounds": (
        "batch",
        [("-0.1), 0.0, 1.0)", "-0.1), -1.0, 1.0)")],
        ["an observation leaves its space: -", "Widen the bounds"],
    ),
    "a step that fails": (
        "batch",
        [(REWARD, "jnp.float32(-self.coast)")],
        ["in step: AttributeError: 'Corridor' object has no attribute 'coast'"],
    ),
    "a reward that is NaN": (
        "batch",
        [(REWARD, "jnp.float32(jnp.nan)")],
        ["a reward is not finite"],
    ),
    "random numbers of NumPy": (
        "pure",
        [NUMPY, ("maxval=0.5)", "maxval=0.5) * np.float32(np.random.default_rng().uniform())")],
        ["the same keys give other steps", "jax.random with `key`"],
    ),
}


@pytest.mark.parametrize(
    ("check", "changes", "said"), ENVIRONMENTS.values(), ids=list(ENVIRONMENTS)
)
def test_a_broken_environment_is_named(outside, check, changes, said):  # noqa: F811
    name = f"{outside('corridor', *changes)}:Corridor"
    made = environments.import_factory("environment", name, environments.check_factory)
    case = EnvironmentCase(name, made(), made, steps=20)
    (finding,) = hold([getattr(of_environments, f"check_{check}")], case, made)
    assert finding.verdict == ("noted" if check == "ranks" else "broken")
    assert [text for text in said if text not in finding.text] == [], finding.text


def test_what_follows_the_end_of_an_episode_does_not_count(outside):  # noqa: F811
    """Beyond its end the corridor reports NaN: nobody looks."""
    changes = [(REWARD, "jnp.where(state[0] >= 1.0, jnp.nan, jnp.float32(-1))")]
    made = environments.import_factory(
        "environment", f"{outside('corridor', *changes)}:Corridor", environments.check_factory
    )
    case = EnvironmentCase("it", made(), made, steps=100)
    of_environments.check_batch(case)
    ended = [np.any(step.terminated) for _, step, _ in case.walk(100) if step is not None]
    assert any(ended)


@pytest.fixture
def only(monkeypatch):
    """Check the budget of algorithms alone, and the spaces of environments."""
    for names in ("CHECKS", "OF_ACTIONS"):
        monkeypatch.setattr(of_algorithms, names, (of_algorithms.check_budget,))
    monkeypatch.setattr("jaxrl.cli.check.OF_ACTIONS", (of_algorithms.check_budget,))
    monkeypatch.setattr(of_environments, "CHECKS", (of_environments.check_spaces,))


@pytest.mark.usefixtures("only")
def test_the_command_says_what_was_checked_and_its_status_whether_it_holds(run, outside):  # noqa: F811
    whole = outside("a2c")
    output, _ = run("check", f"{whole}:a2c")
    assert output.count("ok      The budget says") == 3
    assert output.endswith(f"{whole}:a2c: every promise is kept\n")
    budget, traced = ALGORITHMS["a budget that is no whole number"][1], [*ALGORITHMS.values()][0][1]
    output, _ = run("check", f"{outside('a2c', *budget)}:a2c", "--env", CONTINUOUS, status=1)
    assert "BROKEN  The budget says" in output and output.endswith(": 1 broken\n")
    output, _ = run("check", f"{outside('a2c', *traced)}:a2c", "--env", CONTINUOUS, status=1)
    assert (
        "BROKEN  `init` and `step` are traced" in output
        and "can be checked once this is mended" in output
    )
    fails = outside("a2c", ("    check(config)\n", "    check(config)\n    nothing\n"))
    output, _ = run("check", f"{fails}:a2c", "--env", CONTINUOUS, status=1)
    assert "in a2c: NameError: name 'nothing' is not defined" in output

    output, _ = run("check", f"{outside('corridor')}:Corridor", "--env-options", "cost=0.5")
    assert "ok      Spaces can be hashed" in output and output.endswith("every promise is kept\n")
    branch = (
        "        position = jnp.clip",
        "        assert self.cost > 0\n        position = jnp.clip",
    )
    output, _ = run("check", f"{outside('corridor', branch)}:Corridor", status=1)
    assert "BROKEN  it can be made and traced" in output and output.endswith(": 1 broken\n")


@pytest.mark.usefixtures("only")
def test_kinds_of_action_that_it_refuses_are_said_and_no_fault(run, outside):  # noqa: F811
    output, _ = run("check", f"{outside('ars')}:ars")
    assert output.count("ok      The budget says") == 1
    assert "refused  probe/continuous-action: ars is for discrete actions" in output


@pytest.mark.usefixtures("only")
def test_settings_are_set_and_where_small_ones_are_refused_its_own_are_taken(run, ask, outside):  # noqa: F811
    name = f"{outside('ars')}:ars"  # an iteration takes 32,000 transitions here, more than is small
    run("check", name, "--env", "CartPole-v1")
    status, _, errors = ask("check", name, "--env", "CartPole-v1", "--set", "total_steps=10")
    assert status == 2 and "total_steps is 10, but one iteration takes 32000." in errors
    assert "refuses it" in errors and "--set NAME=VALUE" in errors


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["A2C:Corridor"], "cannot import algorithm or environment 'A2C:Corridor'"),
        (["MODULE:a2d"], "unknown algorithm or environment in MODULE 'a2d'. Did you mean a2c"),
        (
            ["MODULE:A2CConfig"],
            "algorithm or environment 'MODULE:A2CConfig' is the class A2CConfig",
        ),
        (["MODULE.py"], "MODULE.py is a file: name what is in it, MODULE:NAME"),
        (["CartPole-v2"], "Did you mean CartPole-v1"),
        (["MODULE:a2c", "--env", "CartPole-v2"], "Did you mean CartPole-v1"),
        (["MODULE:a2c", "--set", "gama=1"], "Did you mean gamma"),
        (["MODULE:a2c", "--set", "gamma=2"], "gamma is 2, but must lie in [0, 1]"),
        (["MODULE:a2c", "--env-options", "cost=1"], "is for the environment of --env"),
        (["probe/two-lengths", "--env", "CartPole-v1"], "--env is for algorithms"),
        (["probe/two-lengths", "--set", "gamma=1"], "--set is for algorithms"),
    ],
)
def test_a_bad_request_is_refused(ask, outside, words, text):  # noqa: F811
    module = outside("a2c")
    status, output, errors = ask("check", *(word.replace("MODULE", module) for word in words))
    assert status == 2 and text.replace("MODULE", module) in errors, errors
    assert "ok" not in output.split()
