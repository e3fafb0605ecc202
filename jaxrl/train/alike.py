"""Whether the policies of two runs act alike: the same parameters may be those of two functions."""

from __future__ import annotations

import re

import jax
import numpy as np

from jaxrl.config import flatten
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import Experiment
from jaxrl.train.saved import agent_of
from jaxrl.types import View

# Where a function of JAX's own lies in memory, which its text says.
ADDRESS = re.compile(r"0x[0-9a-f]+")


def differences(theirs: Experiment, ours: Experiment) -> list[str]:
    """The settings by which two runs make other actions of the same parameters, in words.

    "activation: mish there, relu here". Of the settings that differ they are those which change
    what our policies compute if they are taken from the other run. [] where both compute the same.
    """
    theirs, ours = theirs.alone(0, 0), ours.alone(0, 0)
    here = _computed(ours)
    if _computed(theirs) == here:
        return []

    def matters(name: str) -> bool:
        try:
            return _computed(ours.changed({name: found[name]})) != here
        except JaxrlError:  # by itself it does not go with what is here
            return False

    found, own = flatten(theirs.config), flatten(ours.config)
    names = [name for name in own if name in found and own[name] != found[name] and matters(name)]
    return [f"{name}: {found[name]} there, {own[name]} here" for name in names] or [
        "other settings of the algorithm or of the environment"
    ]


def _computed(experiment: Experiment) -> tuple[str, list[bytes]]:
    """What the first mode of an agent computes, as text, and the constants in it."""
    agent = agent_of(experiment)
    env = make(experiment.environment, **experiment.environment_options)
    key = jax.random.key(0)
    policy = jax.eval_shape(agent.init, key)
    observation = jax.eval_shape(env.reset, key)[1]
    view = jax.eval_shape(lambda seen: View.at_start(seen, env.action_space), observation)
    act = next(iter(agent.modes.values())).act
    traced = jax.make_jaxpr(act)(policy, jax.eval_shape(agent.memory, policy), view, key)
    constants = [np.asarray(each).tobytes() for each in traced.consts]
    return ADDRESS.sub("", str(traced.jaxpr)), constants
