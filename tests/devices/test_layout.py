"""How devices are shared out: chosen where nothing is said,
refused in the user's words where it cannot be."""

import jax
import pytest

from jaxrl.algos.ppo import PPOConfig
from jaxrl.errors import JaxrlError
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.nn.memory import GRUConfig
from jaxrl.train.devices.layout import Layout, LayoutError, choose

LARGE = PPOConfig(num_envs=64, num_steps=128, minibatch_size=2048)
SMALL = PPOConfig(num_envs=8, num_steps=8, minibatch_size=32)
REMEMBERING = PPOConfig(
    num_envs=8, num_steps=512, minibatch_size=512, network=NetworkConfig(memory=GRUConfig())
)
ODD = PPOConfig(num_envs=12, num_steps=8, minibatch_size=96)


def chosen(config, num_members=1, devices=None, mesh=(), splits=True):
    return choose(config, num_members, devices, mesh, splits)


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        ({"config": LARGE}, Layout(env=8)),  # 256 rows each
        ({"config": LARGE.replace(minibatch_size=1024)}, Layout(env=4)),
        ({"config": SMALL}, Layout()),  # too little work to share
        ({"config": REMEMBERING}, Layout()),  # one environment per minibatch
        ({"config": REMEMBERING.replace(minibatch_size=2048)}, Layout(env=4)),
        ({"config": SMALL, "num_members": 5}, Layout(seed=5)),
        ({"config": LARGE, "num_members": 4}, Layout(seed=4, env=2)),
        ({"config": LARGE, "num_members": 16}, Layout(seed=8)),
        ({"config": LARGE, "num_members": 4, "splits": False}, Layout(seed=4)),
        (
            {"config": object(), "num_members": 3},
            Layout(seed=3),
        ),  # an algorithm without environments
        ({"config": SMALL, "devices": 1}, Layout()),
        ({"config": SMALL, "devices": 8}, Layout(env=8)),
        ({"config": SMALL, "devices": 4, "num_members": 2}, Layout(seed=2, env=2)),
        ({"config": SMALL, "mesh": ("env=4",)}, Layout(env=4)),
        ({"config": SMALL, "mesh": ("env=4", "seed=2"), "num_members": 2}, Layout(seed=2, env=4)),
        ({"config": SMALL, "mesh": ("env=4,seed=2",), "num_members": 2}, Layout(seed=2, env=4)),
        ({"config": SMALL, "mesh": ("seed=2",), "num_members": 4}, Layout(seed=2)),
        (
            {"config": SMALL, "mesh": ("seed=2",), "num_members": 4, "devices": 8},
            Layout(seed=2, env=4),
        ),
        # Members need not divide evenly: three and two, or two on each of six, which eight would
        # not do sooner.
        ({"config": SMALL, "mesh": ("seed=2",), "num_members": 5}, Layout(seed=2)),
        ({"config": SMALL, "devices": 2, "num_members": 5}, Layout(seed=2)),
        ({"config": SMALL, "num_members": 12}, Layout(seed=6)),
        ({"config": SMALL, "devices": 3, "num_members": 5}, Layout(seed=3)),
        (
            {"config": LARGE.replace(starts="pool", pool_size=100)},
            Layout(env=4),
        ),  # a start pool is dealt out too
    ],
)
def test_the_layout_that_is_chosen(given, layout):
    assert chosen(**given) == layout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"devices": 0}, "devices is 0"),
        ({"devices": 9}, r"devices is 9, but JAX sees 8 \(cpu\)"),
        (
            {"mesh": ("env=16",)},
            r"mesh has env=16, which must divide num_envs = 12 and minibatch_size = 96",
        ),
        (
            {"mesh": ("env=6,seed=2",), "num_members": 2},
            r"mesh env=6,seed=2 needs 12 devices, but JAX sees 8",
        ),
        ({"mesh": ("env=5",)}, "mesh has env=5, which must divide num_envs = 12"),
        (
            {"mesh": ("seed=4",), "num_members": 3},
            r"mesh has seed=4, but the members \(seeds of settings\) are only 3",
        ),
        (
            {"mesh": ("env=2",), "splits": False},
            "env=2, but this algorithm cannot share its environments",
        ),
        ({"mesh": ("envs=2",)}, "unknown mesh axis 'envs'. Did you mean env"),
        ({"mesh": ("env",)}, "'env', but must be like env=4,seed=2"),
        ({"mesh": ("env=0",)}, "'env=0', but must be like env=4,seed=2"),
        (
            {"devices": 5, "num_members": 2},
            "members = 2 and num_envs = 12 and minibatch_size = 96 cannot be shared evenly by 5 "
            "devices. Numbers that can: 1, 2, 3, 4, 6, 8",
        ),
        (
            {"devices": 8, "mesh": ("env=3",)},
            "cannot be shared evenly by 8 devices. Numbers that can: 3",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_words(given, words):
    with pytest.raises(JaxrlError, match=words):
        chosen(ODD, **given)


def test_processes_share_a_run_on_all_of_their_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert chosen(SMALL) == Layout(env=8)
    assert chosen(SMALL, num_members=6) == Layout(seed=4, env=2)
    with pytest.raises(
        LayoutError, match="several processes share a run on all of their devices: 8, not 4"
    ):
        chosen(SMALL, devices=4)
    with pytest.raises(
        LayoutError, match="cannot be shared evenly by 8 devices. Numbers that can: 1, 2, 3, 4, 6"
    ):
        chosen(ODD)
