"""Parts chosen by name: they bring their own settings, which are written, read,
checked and swept like any others."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.bc import BCConfig
from jaxrl.algos.ppo import PPOConfig
from jaxrl.algos.registry import RESERVED
from jaxrl.config import (
    Family,
    check,
    check_settings,
    chosen,
    configuration,
    env_sizes,
    flatten,
    nested,
    number,
    option,
    override,
    part,
    replace_leaves,
    size,
    sweepable,
    without_unchosen,
)
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.envs.registry import make
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.fresh import Fresh, FreshConfig
from jaxrl.envs.starts.pool import Pool, PoolConfig
from jaxrl.envs.vector import VectorEnv
from jaxrl.errors import JaxrlError
from jaxrl.train.program import Program
from jaxrl.types import Agent, Algorithm, Budget, Mean, feed_forward


@configuration
class CreditConfig:
    """How credit is assigned."""


@configuration
class TraceConfig(CreditConfig):
    """A trace that decays."""

    decay: float = number(0.9, 0, 1)


@configuration
class WindowConfig(CreditConfig):
    """A window of steps."""

    length: int = size(5)
    weight: float = number(1.0, 0)

    def env_sizes(self):
        return {"length": self.length}


KINDS = {"trace": TraceConfig, "window": WindowConfig}
CREDIT = Family("credit", CreditConfig, names=KINDS.keys, find=KINDS.__getitem__)


@configuration
class BlendConfig(CreditConfig):
    """Two of them at once."""

    first: CreditConfig = part(CREDIT, "trace", prefix="a_")


KINDS["blend"] = BlendConfig


@configuration
class Settings:
    total_steps: int = size(1000)
    rate: float = number(0.1, 0)
    credit: CreditConfig = part(CREDIT, "trace")
    other: CreditConfig = part(CREDIT, "window", prefix="other_")


def test_a_part_is_written_flat_or_as_its_configuration():
    assert Settings(credit="window", length=3) == Settings(credit=WindowConfig(length=3))
    assert Settings(decay=0.5).credit == TraceConfig(decay=0.5)
    assert Settings(other_weight=2.0).other == WindowConfig(weight=2.0)
    assert Settings().replace(credit="window", length=3).credit == WindowConfig(length=3)
    assert PPOConfig(
        num_envs=8, starts="pool", pool_size=64, hidden_sizes=(8,)
    ).starts == PoolConfig(pool_size=64)


@pytest.mark.parametrize(
    "config",
    [
        Settings(),
        Settings(credit="window", length=3, other="trace", other_decay=0.5),
        Settings(credit="blend", a_decay=0.25),
        Settings(credit="blend", first="window", a_length=7),
        PPOConfig(starts="pool", pool_size=64),
    ],
    ids=str,
)
def test_it_survives_json_in_any_order(config):
    flat = json.loads(json.dumps(flatten(config)))
    assert override(type(config)(), flat) == config
    assert override(type(config)(), dict(reversed(flat.items()))) == config
    check(config)


def test_flat_names_are_those_of_the_chosen_part():
    assert flatten(Settings())["credit"] == "trace"
    names = ["total_steps", "rate", "credit", "decay", "other", "other_length", "other_weight"]
    assert list(flatten(Settings())) == names
    assert sweepable(Settings(credit="window")) == ["rate", "weight", "other_weight"]
    assert chosen(Settings(credit="blend")) == {
        "credit": "blend",
        "first": "trace",
        "other": "window",
    }
    assert env_sizes(Settings(other_length=3)) == {"other_length": 3}
    assert env_sizes(PPOConfig()) == {} and env_sizes(PPOConfig(starts="pool")) == {
        "pool_size": 1024
    }


def test_a_part_that_stays_keeps_its_options_and_another_has_its_defaults():
    config = Settings(credit="window", length=3)
    assert override(config, {"credit": "window", "weight": 2}).credit == WindowConfig(
        length=3, weight=2.0
    )
    assert override(config, {"credit": "trace"}).credit == TraceConfig()
    assert override(config, {"credit": WindowConfig()}).credit == WindowConfig()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"length": 3}, "length is an option of credit=window, but credit is trace."),
        ({"a_decay": 0.5}, "a_decay is an option of credit=blend, but credit is trace."),
        ({"other_decay": 0.5}, "other_decay is an option of other=trace, but other is window."),
        ({"lenght": 3}, "unknown option of Settings 'lenght'. Did you mean length"),
        ({"credit": "windw"}, "unknown credit 'windw'. Did you mean window?"),
        (
            {"credit": 5},
            "credit is 5, but must be a name: trace, window, blend, or package.module:Name.",
        ),
        ({"credit": {"window": 3}}, "credit is {'window': 3}, but must be a name"),
        ({"credit": "no.such:Credit"}, "cannot import credit 'no.such:Credit'"),
    ],
)
def test_what_is_not_chosen_or_not_there_is_refused(changes, text):
    with pytest.raises(JaxrlError) as error:
        override(Settings(), changes)
    assert text in str(error.value)
    if isinstance(next(iter(changes.values())), str | float | int) and changes != {"credit": 5}:
        with pytest.raises(JaxrlError) as error:
            Settings(**changes)
        assert text in str(error.value)


def test_the_value_of_a_part_is_checked():
    with pytest.raises(JaxrlError, match="credit is 5, but must be a CreditConfig"):
        check(Settings(credit=5))
    with pytest.raises(JaxrlError, match="a_decay is 2, but must lie in"):
        check(Settings(credit="blend", a_decay=2.0))


def test_a_name_may_mean_another_thing_in_each_of_two_choices_but_not_beside_them():
    @configuration
    class LongConfig(CreditConfig):
        """Also with a length."""

        length: int = size(50)

    family = Family("credit", CreditConfig, lambda: kinds, lambda name: kinds[name])
    kinds = {"window": WindowConfig, "long": LongConfig, "trace": TraceConfig}

    @configuration
    class Fine:
        credit: CreditConfig = part(family, "trace")

    @configuration
    class Clash:
        length: int = size(5)
        credit: CreditConfig = part(family, "trace")

    check_settings(Fine, RESERVED)
    assert Fine(credit="long").credit.length == 50
    with pytest.raises(
        JaxrlError, match="length is an option of credit=long or credit=window, but credit is trace"
    ):
        Fine(length=3)
    with pytest.raises(
        JaxrlError,
        match=r"Clash.length and Clash.credit.length \(of credit=window\) are both called",
    ):
        check_settings(Clash, RESERVED)
    check_settings(Settings, RESERVED)


@pytest.fixture
def somebodys(monkeypatch):
    """A module of somebody's with parts of their own."""

    @configuration
    class Mine(CreditConfig):
        """Somebody's."""

        strength: float = number(0.5, 0)

    class Bare(CreditConfig):
        strength: float = number(0.5, 0)

    @configuration
    class Stranger:
        strength: float = number(0.5, 0)

    module = types.ModuleType("somebodys")
    for made in (Mine, Bare, Stranger):
        made.__module__, made.__qualname__ = "somebodys", made.__name__
        setattr(module, made.__name__, made)
    module.CreditConfig = CreditConfig
    monkeypatch.setitem(sys.modules, "somebodys", module)
    return module


def test_a_part_of_ones_own(somebodys):
    config = Settings(credit="somebodys:Mine", strength=2.0)
    assert config.credit == somebodys.Mine(strength=2.0)
    assert flatten(config)["credit"] == "somebodys:Mine" and "strength" in sweepable(config)
    assert override(Settings(), flatten(config)) == config
    with pytest.raises(JaxrlError, match="unknown option of Settings 'strength'"):
        Settings(strength=2.0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("somebodys:Bare", "'somebodys:Bare' needs the decorator @jaxrl.config.configuration"),
        (
            "somebodys:Stranger",
            "is the class Stranger, but must be a class that derives from CreditConfig",
        ),
        (
            "somebodys:CreditConfig",
            "is the class CreditConfig, but must be a class that derives from CreditConfig",
        ),
        ("somebodys:Mime", "unknown credit in somebodys 'Mime'. Did you mean Mine?"),
    ],
)
def test_what_is_no_part_is_refused(somebodys, name, text):
    with pytest.raises(JaxrlError) as error:
        override(Settings(), {"credit": name})
    assert text in str(error.value)


def test_run_folders_of_before_held_options_that_nothing_read():
    old = {"gaussian": True, "layer_norm": True, "num_critics": 2}
    assert without_unchosen(BCConfig(), old) == {"gaussian": True}
    with pytest.raises(JaxrlError, match="unknown option of BCConfig 'layer_norm'"):
        override(BCConfig(), old)


def test_a_gate_is_asked_before_anything_is_imported():
    asked = []

    def gate(setting, name):
        asked.append((setting, name))
        raise JaxrlError("not this one")

    for read in (override, without_unchosen):
        with pytest.raises(JaxrlError, match="not this one"):
            read(Settings(), {"rate": 0.5, "other": "no.such:Module"}, gate)
    assert asked == [("other", "no.such:Module")] * 2
    assert override(Settings(), {"credit": "window"}, gate).credit == WindowConfig()


def test_run_folders_of_before_held_options_of_parts_that_were_not_chosen():
    old = {"rate": 0.1, "credit": "trace", "length": 5, "weight": 1.0, "decay": 0.5}
    read = without_unchosen(Settings(), old)
    assert read == {"rate": 0.1, "credit": "trace", "decay": 0.5}
    assert (
        without_unchosen(Settings(), old | {"length": 6})["length"] == 6
    )  # which `override` refuses
    assert without_unchosen(Settings(), old | {"wrong": 6})["wrong"] == 6
    assert without_unchosen(PPOConfig(), {"starts": "pool", "pool_size": 64}) == {
        "starts": "pool",
        "pool_size": 64,
    }


def test_start_distributions_are_parts():
    env = make("probe/two-lengths")
    assert isinstance(PPOConfig().starts, FreshConfig) and isinstance(
        PPOConfig().starts, StartsConfig
    )
    assert isinstance(FreshConfig().make(env, SINGLE), Fresh)
    assert PoolConfig(pool_size=10).make(env, Shards("env", 4)) == Pool(env, 3)


@configuration
class ToyConfig:
    """Settings of a toy."""

    total_steps: int = size(100)
    rate: float = number(0.5, 0)
    clip: bool = option(False)
    credit: CreditConfig = part(CREDIT, "trace")
    head: WindowConfig = nested(WindowConfig(weight=3.0), prefix="head_")


def toy(env, config: ToyConfig) -> Algorithm:
    """A learner of nothing, whose metrics tell its numbers."""
    check(config)
    vector = VectorEnv(env, Fresh(env), 2)

    def step(state):
        key, count = state
        numbers = {"decay": config.credit.decay, "weight": config.head.weight, "rate": config.rate}
        return (key, count + config.credit.decay), {
            name: Mean.of(value) for name, value in numbers.items()
        }

    def act(policy, observation, key):
        return env.action_space.sample(key)

    del vector
    return Algorithm(
        init=lambda key: (key, jnp.zeros(())),
        step=step,
        policy=lambda state: state[1],
        agent=Agent(init=lambda key: jnp.zeros(()), modes={"stochastic": feed_forward(act)}),
        budget=Budget("transitions", 1, config.total_steps),
    )


def test_numbers_at_any_depth_are_swept_over_seeds_in_one_program():
    swept = {"decay": np.float32([0.1, 0.2, 0.3]), "head_weight": np.float32([1, 2, 3])}
    config = replace_leaves(ToyConfig(), swept)
    program = Program(
        toy, make("probe/two-lengths"), config, [0, 1], num_settings=3, num_episodes=2
    )
    state, metrics = program.chunk(program.init(), 4)
    expected = np.repeat([[0.1], [0.2], [0.3]], 2, axis=1)
    np.testing.assert_allclose(metrics["decay"].sum / metrics["decay"].count, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["weight"].sum / 4, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_allclose(metrics["rate"].sum / 4, np.full((3, 2), 0.5))
    np.testing.assert_allclose(program.whole(state)[1], 4 * expected, rtol=1e-6)
    alone = Program(toy, make("probe/two-lengths"), ToyConfig(decay=0.2), [0], num_episodes=2)
    np.testing.assert_allclose(alone.chunk(alone.init(), 4)[0][1], 0.8, rtol=1e-6)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(alone.population.config))
