"""Errors say what was given, what is allowed, and the nearest valid choice."""

import jax
import numpy as np
import pytest

from jaxrl.errors import JaxrlError, check_choice, check_positive_int, check_range, unknown


def message(function, *arguments, **options):
    with pytest.raises(JaxrlError) as error:
        function(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("CartPole-v2", "Did you mean CartPole-v1?"),
        ("cartpole", "Did you mean CartPole-v1?"),
        ("zzz", "Choose one of: Acrobot-v1, CartPole-v1, Pendulum-v1."),
    ],
)
def test_unknown_names_come_with_the_nearest(given, advice):
    error = unknown("environment", given, ["Pendulum-v1", "CartPole-v1", "Acrobot-v1"])
    assert str(error) == f"unknown environment {given!r}. {advice}"


def test_several_near_names_are_offered_the_nearest_first():
    text = str(unknown("environment", "cartpole-v1", ["Pendulum-v1", "CartPole-v1", "Acrobot-v1"]))
    assert text.endswith("Did you mean CartPole-v1 or Acrobot-v1?")


def test_errors_are_value_errors():
    assert issubclass(JaxrlError, ValueError) and isinstance(unknown("x", "y", ["z"]), JaxrlError)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5, 1, np.float32(0.3), np.array([0.0, 1.0])])
def test_values_within_a_closed_range_pass(value):
    check_range("gamma", value, 0, 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.01, "1.01"),
        (-0.1, "-0.1"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (np.array([0.5, 3.0, -1.0]), "3"),
    ],
    ids=str,
)
def test_values_outside_are_refused_element_by_element(value, shown):
    assert (
        message(check_range, "gamma", value, 0, 1) == f"gamma is {shown}, but must lie in [0, 1]."
    )


@pytest.mark.parametrize("value", [None, True, "0.5"])
def test_what_is_no_number_is_refused(value):
    assert (
        message(check_range, "gamma", value, 0, 1) == f"gamma is {value!r}, but must be a number."
    )


def test_an_open_bound_is_refused_itself():
    check_range("clip_epsilon", np.inf, 0, open_low=True)
    assert (
        message(check_range, "clip_epsilon", 0, 0, open_low=True)
        == "clip_epsilon is 0, but must lie in (0, inf]."
    )


def test_traced_values_pass():
    def checked(x):
        check_range("gamma", x, 0, 1)
        return x

    assert float(jax.jit(checked)(7.0)) == 7.0
    assert jax.vmap(checked)(np.full(2, 7.0, np.float32)).shape == (2,)


@pytest.mark.parametrize("value", [1, 10**12, np.int32(3), np.int64(4)])
def test_whole_numbers_of_at_least_one_pass(value):
    check_positive_int("num_envs", value)


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None, np.float32(1)])
def test_other_sizes_are_refused(value):
    expected = f"num_envs is {value!r}, but must be a whole number of at least 1."
    assert message(check_positive_int, "num_envs", value) == expected


def test_choices_are_held_against_the_options():
    check_choice("torso", "mlp", ("mlp", "cnn"))
    assert (
        message(check_choice, "torso", "mpl", ("mlp", "cnn"))
        == "unknown torso 'mpl'. Did you mean mlp?"
    )
    assert (
        message(check_choice, "torso", 3, iter(("mlp", "cnn")))
        == "unknown torso '3'. Choose one of: cnn, mlp."
    )
