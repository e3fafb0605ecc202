r"""MuJoCo tasks: jaxrl's environments alone beside other ways to step them,
and what PPO leaves of that rate.

    python -m benchmarks.mujoco          # everything: some 40 minutes on two idle cores
    python -m benchmarks.mujoco --quick  # minutes: two sizes, one short round, only jaxrl's PPO
    python -m benchmarks.mujoco --environments HalfCheetah-v5 --sizes 64 512 \
        --contenders rollout jaxrl envpool

Every contender is a process of its own, which compiles and warms up once for each size and may use
all cores. Then they take turns, A B C A B C …, each for about `--seconds`; only one works at a
time, and one that does not answer in `--patience` seconds is ended. EnvPool and Stable-Baselines3
are installed into environments under `--venvs`.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.mujoco_report import draw, text
from benchmarks.report import RESULTS, ROOT, device_name, machine, steps, write
from benchmarks.venvs import interpreters
from benchmarks.workers import Job, take_turns
from experiments.harness import check_choices, start
from jaxrl.train.output.console import Console


class Contender(NamedTuple):
    """Where a contender runs, what it is told, and the most environments that it is asked for."""

    module: str
    venv: str | None = None  # None: our own
    most: int = sys.maxsize
    setting: dict[str, Any] = {}


STEPPING = {
    "rollout": Contender("mujoco_rollout"),
    "jaxrl": Contender("mujoco_jaxrl", setting={"backend": "mujoco"}),
    "envpool": Contender("mujoco_envpool", "envpool"),
    "sync": Contender("mujoco_gymnasium", most=64, setting={"mode": "sync"}),
    "async": Contender("mujoco_gymnasium", most=64, setting={"mode": "async"}),
    "spring": Contender("mujoco_brax", most=512, setting={"backend": "spring"}),
    "positional": Contender("mujoco_brax", most=512, setting={"backend": "positional"}),
    "generalized": Contender("mujoco_brax", most=512, setting={"backend": "generalized"}),
    # jaxlib 0.10 hangs for good on several large batches of Cholesky factorisations on few cores.
    "mjx": Contender("mujoco_mjx", most=64, setting={"backend": "mjx"}),
}
TRAINING = {
    "jaxrl": Contender("jaxrl_ppo"),
    "sbx": Contender("sbx_ppo", "sb3"),
    "sb3": Contender("sb3_ppo", "sb3"),
}
SIZES = {"HalfCheetah-v5": (1, 16, 64, 512, 2048), "Hopper-v5": (64, 512), "Ant-v5": (64, 512)}
EVERYWHERE = (
    "rollout",
    "jaxrl",
    "envpool",
    "sync",
)  # the other contenders, on the first environment only
TRAINED = "HalfCheetah-v5"


@dataclass(frozen=True)
class Arguments:
    """MuJoCo tasks: jaxrl's environments alone beside other ways to step them, and PPO training."""

    environments: tuple[str, ...] = tuple(SIZES)
    """What to step."""
    sizes: tuple[int, ...] = ()
    """Numbers of environments; none: up to 2048 for HalfCheetah-v5, 64 and 512 for others."""
    contenders: tuple[str, ...] = ()
    """What steps them; none: all on HalfCheetah-v5, those in C on others."""
    settings: tuple[str, ...] = ("reference", "tuned")
    """Settings of experiments/mujoco_ppo.py to train HalfCheetah-v5 with."""
    trainers: tuple[str, ...] = tuple(TRAINING)
    """What trains."""
    repeats: int = 5
    """Rounds; in each, every contender is timed once."""
    seconds: float = 3.0
    """About how long one timing takes."""
    patience: float = 600.0
    """Seconds after which a contender that has not answered is given up."""
    venvs: Path = ROOT / ".bench"
    """Where other libraries are installed."""
    quick: bool = False
    """One round of half a second: the first environment at 1 and 64, four contenders,
    one PPO; under another name."""

    def plan(self) -> list[tuple[str, int, list[str]]]:
        """(environment, number of environments, contenders) of every row."""
        rows = []
        for environment in self.environments:
            names = self.contenders or (
                tuple(STEPPING) if environment == self.environments[0] else EVERYWHERE
            )
            for size in self.sizes or SIZES.get(environment, (64, 512)):
                rows.append(
                    (environment, size, [name for name in names if size <= STEPPING[name].most])
                )
        return rows


@dataclass
class Benchmark:
    """What is asked for, where it runs, and what has been found."""

    arguments: Arguments
    begin: Callable[[str], None]
    record: dict[str, Any]
    pythons: dict[str, str] = field(default_factory=dict)

    def time(
        self, contenders: dict[str, Contender], setting: dict[str, Any], label: str
    ) -> dict[str, Any]:
        """Every contender that could be installed, in turns."""
        jobs = {}
        for name, contender in contenders.items():
            if contender.module in self.pythons:
                given = setting | {"seconds": self.arguments.seconds} | contender.setting
                jobs[name] = Job(
                    self.pythons[contender.module], contender.module, given, self.arguments.patience
                )
        found = take_turns(
            jobs, self.arguments.repeats, lambda text: self.begin(f"{label}, {text}")
        )
        for name, result in found.items():
            self.record["versions"][contenders[name].module] = result.pop("versions", None)
            if result.get("device", self.record["device"])["platform"] != "cpu":
                self.record["device"] = result["device"]
        return found

    def step(self, environment: str, size: int, names: list[str]) -> None:
        """A row of environments alone."""
        setting = {"environment": environment, "num_envs": size}
        found = self.time(
            {name: STEPPING[name] for name in names}, setting, f"{size} × {environment}"
        )
        self.record["stepping"].append(setting | {"systems": found})

    def train(self, name: str) -> None:
        """A row of PPO: its rate of training,
        and in the same rounds that of stepping as many environments."""
        setting = training_setting(name)
        contenders = {each: TRAINING[each] for each in self.arguments.trainers} | {
            "stepping": STEPPING["jaxrl"]
        }
        found = self.time(contenders, setting, f"PPO, {name}")
        sizes = {
            size: setting[size]
            for size in ("num_envs", "num_steps", "num_minibatches", "num_epochs")
        }
        self.record["training"].append({"setting": name} | sizes | {"systems": found})


def training_setting(name: str) -> dict[str, Any]:
    """One of the settings of experiments/mujoco_ppo.py as plain data, for a worker."""
    sys.path.append(str(ROOT / "experiments"))
    config = importlib.import_module("mujoco_ppo").experiment(TRAINED, name, quick=False).config
    setting = dataclasses.asdict(config)
    setting |= setting.pop("network")
    del setting["total_steps"]
    minibatches = config.num_envs * config.num_steps // setting.pop("minibatch_size")
    return setting | {"environment": TRAINED, "num_minibatches": minibatches}


def main(arguments: Arguments) -> None:
    """Time everything; print and write the results after every row."""
    for kind, given, known in (
        ("contender", arguments.contenders, STEPPING),
        ("trainer", arguments.trainers, TRAINING),
        ("setting", arguments.settings, ("reference", "tuned")),
    ):
        check_choices(kind, given, known)
    if arguments.quick:
        less: dict[str, Any] = {
            "environments": arguments.environments[:1],
            "sizes": arguments.sizes or (1, 64),
        }
        less |= {
            "contenders": arguments.contenders or EVERYWHERE,
            "trainers": arguments.trainers[:1],
        }
        arguments = dataclasses.replace(arguments, repeats=1, seconds=0.5, **less)
    plan = arguments.plan()
    asked = [STEPPING[name] for *_, names in plan for name in names]
    asked += [TRAINING[name] for name in arguments.trainers if arguments.settings] + [
        STEPPING["jaxrl"]
    ]
    modules = {contender.module: contender.venv for contender in asked}
    trainings = len(arguments.settings) * (1 + len(arguments.trainers))
    rounds = (1 + arguments.repeats) * (sum(len(names) for *_, names in plan) + trainings)
    record = {"repeats": arguments.repeats, "seconds": arguments.seconds, "machine": machine()}
    record |= {"device": {"platform": "cpu", "kind": "cpu"}, "versions": {}, "missing": {}}
    record |= {"stepping": [], "training": []}
    with steps(len(modules) + rounds) as begin:
        benchmark = Benchmark(arguments, begin, record)
        benchmark.pythons = interpreters(modules, arguments.venvs, record["missing"], begin)
        for row in plan:
            benchmark.step(*row)
            save(record, arguments.quick)
        for name in arguments.settings:
            benchmark.train(name)
            save(record, arguments.quick)
    Console().note(save(record, arguments.quick))


def save(record: dict[str, Any], quick: bool) -> str:
    """JSON, Markdown and a picture under benchmarks/results/, named after the device;
    what is to be printed of them."""
    device = device_name(record["device"]["platform"], record["device"]["kind"])
    name = f"mujoco_{'quick_' if quick else ''}{device}"
    draw(record, RESULTS / f"{name}.png")
    return write(name, record, text(record))


if __name__ == "__main__":
    start(main, Arguments)
