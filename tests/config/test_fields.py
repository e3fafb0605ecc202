"""Declared configurations: what a field may hold, and which fields a sweep may vary."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl.config import check, field_names, number, option, size, sweepable
from jaxrl.errors import JaxrlError


@struct.dataclass
class Inner:
    widths: tuple[int, ...] = size((4, 4))
    scale: float = number(1.0, 0, open_low=True)


@struct.dataclass
class Settings:
    rate: float = number(0.1, 0, 1)
    anything: float = number(-5.0)
    limit: float = number(1.0, 0, open_low=True, infinite=True)
    count: int = size(3)
    mode: Literal["fast", "slow"] = option("fast")
    flag: bool = option(False)
    target: float | None = option(None, 0, open_low=True)
    offset: float = option(0.0)
    inner: Inner = Inner()


def changed(**fields):
    inner = {name: fields.pop(name) for name in ("widths", "scale") if name in fields}
    return dataclasses.replace(Settings(), inner=Inner(**inner), **fields)


VALID = [
    {},
    {"rate": 0},
    {"rate": 1.0},
    {"anything": -1e38},
    {"limit": np.inf},
    {"rate": np.array([0.0, 0.5, 1.0])},
    {"count": np.int64(7)},
    {"mode": "slow"},
    {"flag": True},
    {"target": 0.1},
    {"widths": (1,)},
]
INVALID = [
    ({"rate": 1.5}, "rate is 1.5, but must lie in [0, 1]."),
    ({"rate": np.array([0.5, -2.0])}, "rate is -2, but must lie in [0, 1]."),
    ({"rate": float("nan")}, "rate is nan, but must lie in [0, 1]."),
    ({"anything": np.nan}, "anything is nan, but must lie in (-inf, inf)."),
    ({"anything": -np.inf}, "anything is -inf, but must lie in (-inf, inf)."),
    ({"anything": 1e300}, "anything is 1e+300, but must lie in (-inf, inf)."),
    ({"scale": np.array([1.0, np.inf])}, "scale is inf, but must lie in (0, inf)."),
    ({"limit": 1e-320}, "limit is 9.99989e-321, but must lie in (0, inf]."),
    ({"target": np.inf}, "target is inf, but must lie in (0, inf)."),
    ({"count": 0}, "count is 0, but must be a whole number of at least 1."),
    ({"count": 2.0}, "count is 2.0, but must be a whole number of at least 1."),
    ({"count": True}, "count is True, but must be a whole number of at least 1."),
    ({"mode": "fats"}, "unknown mode 'fats'. Did you mean fast?"),
    ({"flag": 1}, "flag is 1, but must be True or False."),
    ({"flag": "yes"}, "flag is 'yes', but must be True or False."),
    ({"rate": "0.5"}, "rate is '0.5', but must be a number."),
    ({"target": 0.0}, "target is 0, but must lie in (0, inf)."),
    ({"target": "x"}, "target is 'x', but must be a number or None."),
    ({"offset": None}, "offset is None, but must be a number."),
    ({"offset": np.nan}, "offset is nan, but must lie in (-inf, inf)."),
    ({"widths": 4}, "widths is 4, but must be a tuple of whole numbers."),
    ({"widths": (4, 0)}, "widths is 0, but must be a whole number of at least 1."),
    ({"scale": 0.0}, "scale is 0, but must lie in (0, inf)."),
]


@pytest.mark.parametrize("fields", VALID, ids=str)
def test_what_is_declared_passes(fields):
    check(changed(**fields))


@pytest.mark.parametrize(("fields", "text"), INVALID, ids=lambda value: str(value)[:40])
def test_what_is_not_declared_is_refused(fields, text):
    with pytest.raises(JaxrlError) as error:
        check(changed(**fields))
    assert str(error.value) == text


def test_numbers_may_be_traced_and_mapped():
    def checked(config):
        check(config)
        return config.rate * config.inner.scale

    assert float(jax.jit(checked)(changed(rate=0.5, scale=4.0))) == 2.0
    rates = jax.vmap(lambda rate: checked(changed(rate=rate)))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(rates, [0.1, 0.2])


def test_numbers_are_leaves_and_everything_else_is_static():
    leaves, structure = jax.tree.flatten(changed(rate=0.25, scale=2.0))
    assert sorted(leaves) == [-5.0, 0.25, 1.0, 2.0]
    assert structure == jax.tree.structure(changed(rate=0.75, scale=3.0))
    assert structure != jax.tree.structure(changed(count=4))
    hash(structure)


def test_a_changed_number_does_not_compile_again_but_a_changed_size_does():
    double = jax.jit(lambda config: 2.0 * config.rate)
    for rate in (0.1, 0.2):
        double(changed(rate=jnp.float32(rate)))
    assert double._cache_size() == 1
    double(changed(rate=jnp.float32(0.1), count=5))
    assert double._cache_size() == 2


def test_sweepable_names_the_numbers():
    assert sweepable(Settings()) == ["rate", "anything", "limit", "scale"]


def test_field_names_are_flat_and_lead_to_their_field():
    names = field_names(Settings())
    assert names["rate"] == ("rate",) and names["widths"] == ("inner", "widths")
    assert list(names) == [
        "rate",
        "anything",
        "limit",
        "count",
        "mode",
        "flag",
        "target",
        "offset",
        "widths",
        "scale",
    ]
