"""What an environment is: its own parameters, those of what it is made of, and its models."""

import json
import shutil

import jax.numpy as jnp
import pytest
from flax import struct

from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.envs.identity import check_identity, identity
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Dict, Space, Timestep


class Pay(Environment):
    """Pays `gain` for each step."""

    gain: float = 1.0
    space: Space = struct.field(pytree_node=False, default=Box(-1.0, 1.0, (1,)))
    kind: str = struct.field(pytree_node=False, default="plain")
    rule: object = struct.field(pytree_node=False, default=None)

    horizon = 5
    action_space = Box(-1.0, 1.0, (1,))

    @property
    def observation_space(self):
        return self.space

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, key, state, action):
        return state, Timestep(jnp.zeros(1), jnp.asarray(self.gain), jnp.zeros((), bool))


class Fine(Pay):
    """The same, by another class."""


class Around(Environment):
    """One environment within another, or several."""

    env: object

    horizon = 5
    observation_space = action_space = Box(-1.0, 1.0, (1,))

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(1)


def kept(env):
    """As the header of a file has it."""
    return json.loads(json.dumps(identity(env)))


def first_form(env):
    """As the first headers had it: of the outermost environment alone."""
    found = kept(env)
    del found["form"]
    found["parameters"] = {
        name: each for name, each in found["parameters"].items() if not isinstance(each, str)
    }
    return found


WIDE = Box(-2.0, 2.0, (1,))


@pytest.mark.parametrize(
    ("there", "here", "says"),
    [
        (Around(Pay(1.0)), Around(Pay(2.0)), "env.gain: 1.0 there, 2.0 here"),
        (Around(Pay()), Around(Fine()), "env.class: .*Pay there, .*Fine here"),
        (Around(Pay()), Around(Pay(kind="odd")), "env.kind: plain there, odd here"),
        (Around(Around(Pay())), Around(Around(Fine())), "env.env.class: "),
        (Around((Pay(), Pay())), Around((Pay(), Fine())), "env.1.class: "),
        (Pay(), Pay(space=WIDE), r"space: Box\(low=-1.0, .* there, Box\(low=-2.0, .* here"),
        (Pay(space=Dict({"a": WIDE})), Pay(space=Dict({"a": Pay.action_space})), "space: Dict"),
    ],
    ids=["leaf", "class", "static", "deeper", "several", "bounds", "bounds of a part"],
)
def test_what_an_environment_is_made_of_tells_it_apart(there, here, says):
    check_identity(kept(there), there, "it")
    with pytest.raises(JaxrlError, match=says):
        check_identity(kept(there), here, "it")


def test_where_an_object_lies_in_memory_says_nothing():
    def rule():
        def zero():
            return 0.0

        return zero

    check_identity(kept(Pay(rule=rule())), Pay(rule=rule()), "it")


def test_headers_of_the_first_form_are_compared_by_what_they_say():
    wrapped = Around(Pay(1.0))
    check_identity(first_form(wrapped), wrapped, "it")
    with pytest.raises(JaxrlError, match=r"env.gain: 1.0 there, 2.0 here"):
        check_identity(first_form(wrapped), Around(Pay(2.0)), "it")
    bare = first_form(Pay())
    bare["parameters"] |= {"space": "Box(1) float32", "kind": "plain", "rule": "None"}
    check_identity(bare, Pay(), "it")


@pytest.mark.parametrize("backend", ["mujoco", "mjx"])
def test_a_model_is_told_by_what_its_file_holds(tmp_path, backend):
    pytest.importorskip("gymnasium")
    pytest.importorskip("mujoco.mjx" if backend == "mjx" else "mujoco")
    env = registry.make("InvertedPendulum-v5", backend=backend)
    model, before = env.physics.model, kept(env)

    def at(path, **changes):
        changed = model._replace(path=str(path), **changes)
        return env.replace(physics=env.physics.__class__(changed))

    elsewhere = tmp_path / "model.xml"
    shutil.copy(model.path, elsewhere)
    check_identity(before, at(elsewhere), "it")
    with pytest.raises(JaxrlError, match="physics: .*frame_skip=2.* there, .*frame_skip=3.* here"):
        check_identity(before, at(elsewhere, frame_skip=3), "it")
    # The first headers had the path and no hash.
    old = first_form(env)
    for place in ("/some/where/model.xml", "/o'neil/model.xml"):
        old["parameters"]["physics"] = str(env.physics).replace(repr(model.path), repr(place))
        assert place in old["parameters"]["physics"]
        check_identity(old, env, "it")
        with pytest.raises(JaxrlError, match="frame_skip=3"):
            check_identity(old, at(elsewhere, frame_skip=3), "it")
    elsewhere.write_text(elsewhere.read_text().replace('gravity="', 'gravity="0 '))
    with pytest.raises(JaxrlError, match=r"physics: .*sha256 .* there, .*sha256 .* here"):
        check_identity(before, at(elsewhere), "it")


def test_environments_that_are_there_are_themselves_again():
    for environment_id in (
        "CartPole-v1",
        "tabular/deep-sea",
        "memory/cartpole",
        "maze/point-umaze",
    ):
        check_identity(kept(registry.make(environment_id)), registry.make(environment_id), "it")
