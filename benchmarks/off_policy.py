"""Training speed of TD3 and SAC in one environment: jaxrl beside SBX, rejax,
and the matrix products alone.

    python -m benchmarks.off_policy          # everything: some 20 minutes
    python -m benchmarks.off_policy --quick  # two rounds of a second; labelled quick

Every contender trains with the same settings in a process of its own, which compiles and takes its
random first steps, on one core, the same for all (os.sched_setaffinity), with one thread. Then they
take turns, A B C, C B A, …, each training for about `--seconds`; only one works at a time.
Each environment step is followed by one gradient step, so that one rate counts both. "bound" does
the matrix products of the gradient steps alone: see benchmarks/peers/off_policy_bound.py.
Other libraries are installed into environments under `--venvs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.off_policy_report import text
from benchmarks.turns import Case, Contender, Timing, time_all
from experiments.harness import check_choices, start

COMMON: dict[str, Any] = {
    "num_envs": 1,
    "num_steps": 1000,  # of an iteration of jaxrl
    "batch_size": 256,
    "warm_up": 256,
    "activation": "relu",
    "num_critics": 2,
    "learning_rate": 3e-4,
    "critic_learning_rate": 3e-4,
    "tau": 0.005,
    "gamma": 0.99,
}
TD3 = COMMON | {
    "algorithm": "td3",
    "policy_delay": 2,
    "exploration_noise": 0.1,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
}
SAC = COMMON | {"algorithm": "sac", "policy_delay": 1}
CHEETAH = {"environment": "HalfCheetah-v5", "hidden_sizes": [256, 256]}
PENDULUM = {"environment": "Pendulum-v1", "hidden_sizes": [64, 64]}
# Whether the replay buffer is full, of copies of its first rows, before it is timed.
SHORT = {"replay_capacity": 100_000, "full": False}
SMALL = {"replay_capacity": 10_000, "full": True}
LARGE = {"replay_capacity": 1_000_000, "full": True}


JAXRL = Contender("off_policy_jaxrl")
SMALL_RING = Contender("off_policy_jaxrl", setting=SMALL, goal=0.8)


def _rejax(goal: float) -> Contender:
    return Contender("off_policy_rejax", "rejax", goal=goal)


CASES = {
    "td3": Case(
        "TD3 on HalfCheetah-v5, 256 × 256",
        TD3 | CHEETAH | SHORT,
        {
            "jaxrl": JAXRL,
            "sbx": Contender("off_policy_sbx", "sb3", goal=2.2),
            "bound": Contender("off_policy_bound", goal=0.8),
        },
    ),
    "sac": Case(
        "SAC on HalfCheetah-v5, 256 × 256",
        SAC | CHEETAH | SHORT,
        {"jaxrl": JAXRL, "sbx": Contender("off_policy_sbx", "sb3")},
    ),
    "pendulum": Case(
        "TD3 on Pendulum-v1, 64 × 64, ring of 10,000",
        TD3 | PENDULUM | SMALL,
        {"jaxrl": JAXRL, "rejax": _rejax(1.3)},
    ),
    "pendulum_large": Case(
        "TD3 on Pendulum-v1, 64 × 64, ring of 1,000,000",
        TD3 | PENDULUM | LARGE,
        {"jaxrl": JAXRL, "rejax": _rejax(10.0), "jaxrl, ring of 10,000": SMALL_RING},
    ),
    "td3_large": Case(
        "TD3 on HalfCheetah-v5, 256 × 256, ring of 1,000,000",
        TD3 | CHEETAH | LARGE,
        {"jaxrl": JAXRL, "jaxrl, ring of 10,000": SMALL_RING},
    ),
}


@dataclass(frozen=True)
class Arguments(Timing):
    """Training speed of TD3 and SAC in one environment: jaxrl beside other libraries,
    and the matrix products alone."""

    cases: tuple[str, ...] = tuple(CASES)
    """What to time."""


def main(arguments: Arguments) -> None:
    """Time every contender of every case; print and write the results."""
    check_choices("case", arguments.cases, CASES)
    time_all([CASES[name] for name in arguments.cases], arguments, "off_policy", text)


if __name__ == "__main__":
    start(main, Arguments)
