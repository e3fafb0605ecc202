"""What is meant by a command line, although it is written as in other programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Sequence
from typing import Any

from jaxrl.errors import JaxrlError

SWITCH = {"true": True, "false": False}
# Names of other programs, and what they are here; docs/coming-from.md says what else differs.
NAMES = {
    "lr": ("learning_rate",),
    "alpha": ("initial_temperature", "learning_rate"),
    "lr_anneal": ("anneal_learning_rate",),
    "anneal_lr": ("anneal_learning_rate",),
    "q_lr": ("critic_learning_rate",),
    "critic_lr": ("critic_learning_rate",),
    "policy_lr": ("learning_rate",),
    "actor_lr": ("learning_rate",),
    "actor_learning_rate": ("learning_rate",),
    "qf_learning_rate": ("critic_learning_rate",),
    "timesteps": ("total_steps",),
    "total_timesteps": ("total_steps",),
    "n_timesteps": ("total_steps",),
    "num_timesteps": ("total_steps",),
    "steps": ("total_steps",),
    "n_envs": ("num_envs",),
    "n_steps": ("n_step", "num_steps", "total_updates"),
    "n_steps_per_epoch": ("updates_per_iteration",),
    "rollout_length": ("num_steps",),
    "batch_size": ("minibatch_size", "batch_size"),
    "minibatch_size": ("batch_size",),
    "n_epochs": ("num_epochs",),
    "update_epochs": ("num_epochs",),
    "epochs": ("num_epochs",),
    "num_updates_per_batch": ("num_epochs",),
    "discount": ("gamma",),
    "discounting": ("gamma",),
    "lam": ("gae_lambda",),
    "lambda": ("gae_lambda",),
    "clip_range": ("clip_epsilon",),
    "clip_coef": ("clip_epsilon",),
    "clip_eps": ("clip_epsilon",),
    "clipping_epsilon": ("clip_epsilon",),
    "ent_coef": ("entropy_coefficient",),
    "entropy_cost": ("entropy_coefficient",),
    "vf_coef": ("value_coefficient",),
    "vf_loss_coefficient": ("value_coefficient",),
    "norm_adv": ("normalize_advantages",),
    "normalize_advantage": ("normalize_advantages",),
    "norm_obs": ("normalize_observations",),
    "norm_reward": ("scale_rewards",),
    "normalize_rewards": ("scale_rewards",),
    "buffer_size": ("replay_capacity",),
    "learning_starts": ("warm_up",),
    "fill_buffer": ("warm_up",),
    "policy_frequency": ("policy_delay",),
    "update_actor_interval": ("policy_delay",),
    "policy_noise": ("target_noise",),
    "target_policy_noise": ("target_noise",),
    "target_smoothing_sigma": ("target_noise",),
    "noise_clip": ("target_noise_clip",),
    "target_smoothing_clip": ("target_noise_clip",),
    "action_noise": ("exploration_noise",),
    "autotune": ("train_temperature",),
    "polyak": ("tau",),
    "n_critics": ("num_critics",),
    "weight_temp": ("inverse_temperature",),
    "max_weight": ("maximum_weight",),
    "actor_beta": ("actor_penalty",),
    "critic_beta": ("critic_penalty",),
    "context_size": ("context",),
    "hidden": ("hidden_sizes",),
    "hidden_size": ("hidden_sizes",),
    "hidden_dims": ("hidden_sizes",),
    "env_id": ("env",),
    "env_name": ("env",),
    "environment": ("env",),
    "seeds": ("num_seeds",),
    "n_seeds": ("num_seeds",),
    "eval_episodes": ("evaluation_episodes",),
    "num_eval_envs": ("evaluation_episodes",),
    "num_episodes": ("episodes",),
    "n_episodes": ("episodes",),
    "output_dir": ("folder", "output"),
    "logdir": ("folder",),
    "log_dir": ("folder",),
    "run_dir": ("folder",),
    "track": ("sinks",),
    "wandb": ("sinks",),
}


def corrected(command: type, prog: str, words: Sequence[str], default: Any = None) -> Sequence[str]:
    """`words`, with switches as the parser takes them: `--quiet true` is `--quiet`.

    An option that goes by another name here is refused, with that name.
    """
    known = dict(_fields(default if default is not None else command))
    written: list[str] = []
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        last = _switch(written[-1], known) if written else None
        if not word.startswith("--"):
            if last and word.lower() in SWITCH:
                written[-1] = f"--{last}" if SWITCH[word.lower()] else f"--no-{last}"
                continue
        elif name not in known and name.removeprefix("no_") not in known:
            _refuse_other_name(name, known, prog)
        elif equals and value.lower() in SWITCH and isinstance(known.get(name), bool):
            word = f"--{name}" if SWITCH[value.lower()] else f"--no-{name}"
        written.append(word)
    return written


def _fields(group: Any) -> Iterator[tuple[str, Any]]:
    """(name, default) of each option of a dataclass, or of an object of one, and of its groups."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name, field.default)
        if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _fields(value)
        else:
            yield field.name, value


def _switch(word: str, known: dict[str, Any]) -> str | None:
    """The name of the switch that a word turns on, if it is one that no value follows."""
    name = word.removeprefix("--").replace("-", "_")
    return name if word.startswith("--") and isinstance(known.get(name), bool) else None


def names_of(command: Any) -> set[str]:
    """The options of a command, or of a filled one."""
    return {name for name, _ in _fields(command)}


def name_here(name: str, known: Container[str]) -> str | None:
    """The option, among those that are known, that other programs call `name`."""
    return next((here for here in NAMES.get(name, ()) if here in known), None)


def _refuse_other_name(name: str, known: dict[str, Any], prog: str) -> None:
    """Refuse what is called otherwise here, if the command has it."""
    if here := name_here(name, known):
        spelt, meant = (each.replace("_", "-") for each in (name, here))
        raise JaxrlError(f"{prog} has no --{spelt}: it is called --{meant} here.")
