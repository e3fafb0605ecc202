"""Configurations inside of configurations, as somebody who writes an algorithm meets them."""

import copy
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl.algos.registry import RESERVED
from jaxrl.config import (
    budget,
    budget_field,
    check,
    check_settings,
    configuration,
    field_names,
    flatten,
    nested,
    number,
    override,
    replace_leaves,
    size,
    sizes,
    sweepable,
)
from jaxrl.errors import JaxrlError


@configuration
class Layers:
    hidden_sizes: tuple[int, ...] = size((4, 4))
    dropout: float = number(0.0, 0, 1)
    warm_up: int = size(0, low=0)


@configuration
class Twins:
    """Two networks of one type."""

    gradient_steps: int = budget(100, unit="gradient steps")
    rate: float = number(0.1, 0)
    actor: Layers = nested(Layers(), prefix="actor_")
    critic: Layers = nested(Layers(hidden_sizes=(8,)), prefix="critic_")


NAMES = ["gradient_steps", "rate"]
NAMES += [
    f"{network}_{name}"
    for network in ("actor", "critic")
    for name in ("hidden_sizes", "dropout", "warm_up")
]


def test_prefixes_tell_two_networks_apart():
    config = Twins()
    assert list(field_names(config)) == NAMES == list(flatten(config))
    assert field_names(config)["critic_dropout"] == ("critic", "dropout")
    assert sweepable(config) == ["rate", "actor_dropout", "critic_dropout"]
    assert sizes(config) == ["gradient_steps", "actor_warm_up", "critic_warm_up"]
    assert (
        budget_field(config) == ("gradient_steps", "gradient steps")
        and budget_field(Layers()) is None
    )
    changed = override(config, {"actor_hidden_sizes": [2], "critic_dropout": 1})
    assert changed.actor.hidden_sizes == (2,) and changed.critic == Layers(
        hidden_sizes=(8,), dropout=1.0
    )
    assert override(Twins(), json.loads(json.dumps(flatten(changed)))) == changed


def test_the_constructor_takes_flat_names():
    config = Twins(rate=0.5, actor_hidden_sizes=(2,), critic=Layers(dropout=0.5), critic_warm_up=3)
    assert config.actor == Layers(hidden_sizes=(2,)) and config.critic == Layers(
        dropout=0.5, warm_up=3
    )
    assert dataclasses.replace(config, actor_dropout=0.25).actor.dropout == 0.25
    assert config.replace(critic_warm_up=4).critic == Layers(dropout=0.5, warm_up=4)
    assert Twins(50, 0.2).rate == 0.2
    with pytest.raises(
        JaxrlError, match="unknown option of Twins 'actor_dropuot'. Did you mean actor_dropout"
    ):
        Twins(actor_dropuot=0.1)
    with pytest.raises(JaxrlError, match="unknown option of Twins 'hidden_sizes'. Did you mean"):
        Twins(hidden_sizes=(2,))


def test_it_is_copied_pickled_and_a_pytree():
    config = Twins(actor_dropout=0.25)
    for again in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        jax.tree.map(lambda leaf: leaf, config),
    ):
        assert again == config and hash(again) == hash(config)
    assert jax.tree.leaves(config) == [0.1, 0.25, 0.0]
    assert jax.tree.structure(config) == jax.tree.structure(Twins())
    assert jax.tree.structure(config) != jax.tree.structure(Twins(actor_warm_up=1))
    total = jax.jit(
        lambda config: config.rate + config.actor.dropout + config.replace(critic_dropout=1.0).rate
    )
    assert float(total(config)) == pytest.approx(0.45)
    many = replace_leaves(config, {"critic_dropout": jnp.arange(3.0)})
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, many)
    np.testing.assert_array_equal(
        jax.vmap(lambda config: config.critic.dropout, in_axes=(axes,))(many), [0, 1, 2]
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"critic_dropout": 1.5}, "critic_dropout is 1.5, but must lie in [0, 1]."),
        ({"actor_warm_up": -1}, "actor_warm_up is -1, but must be a whole number of at least 0."),
        (
            {"critic_hidden_sizes": (0,)},
            "critic_hidden_sizes is 0, but must be a whole number of at least 1.",
        ),
        ({"gradient_steps": 0}, "gradient_steps is 0, but must be a whole number of at least 1."),
        ({"actor": 5}, "actor is 5, but must be Layers."),
    ],
)
def test_messages_name_the_flat_setting_and_its_bound(settings, text):
    check(Twins(actor_warm_up=0))
    with pytest.raises(JaxrlError) as error:
        check(Twins(**settings))
    assert str(error.value) == text


def test_two_settings_of_one_name_are_refused_where_they_are_defined():
    with pytest.raises(JaxrlError) as error:

        @configuration
        class Siamese:
            actor: Layers = nested(Layers())
            critic: Layers = nested(Layers())

    text = str(error.value)
    assert (
        "Siamese.actor.hidden_sizes and Siamese.critic.hidden_sizes are both called hidden_sizes"
        in text
    )
    assert "prefix" in text
    with pytest.raises(
        JaxrlError, match="Clash.critic_dropout and Clash.critic.dropout are both called"
    ):

        @configuration
        class Clash:
            critic_dropout: float = number(0.0)
            critic: Layers = nested(Layers(), prefix="critic_")

    with pytest.raises(JaxrlError, match="Demanding.rate needs a default"):

        @configuration
        class Demanding:
            rate: float


def test_what_has_no_decorator_is_refused_where_it_is_loaded():
    @struct.dataclass
    class Siamese:
        actor: Layers = nested(Layers())
        critic: Layers = nested(Layers())

    with pytest.raises(
        JaxrlError,
        match="Siamese.actor.hidden_sizes and Siamese.critic.hidden_sizes are both called",
    ):
        check_settings(Siamese, RESERVED)


def test_options_that_every_run_has_are_no_settings():
    @configuration
    class Seeded:
        seed: int = size(1)

    @configuration
    class Holder:
        data: Seeded = nested(Seeded(), prefix="data_")

    check_settings(Holder, RESERVED)
    with pytest.raises(
        JaxrlError, match="Seeded.seed is called seed, as an option of every run is: rename it"
    ):
        check_settings(Seeded, RESERVED)


def test_a_derived_configuration_takes_flat_names_as_well():
    @configuration
    class More(Twins):
        rate: float = number(0.3, 0)
        extra: int = size(2)

    config = More(critic_dropout=0.5, extra=3)
    assert (config.rate, config.critic.dropout, config.extra) == (0.3, 0.5, 3)
    assert isinstance(config, Twins) and type(config.replace(actor_warm_up=1)) is More
