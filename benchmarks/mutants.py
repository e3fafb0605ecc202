"""Whether some test notices when an option of PPO, StepMix, TD3 or SAC does nothing.

    python -m benchmarks.mutants                                  # every option: up to 40 minutes
    python -m benchmarks.mutants --options ppo.gae_lambda stepmix.replan

A mutant is the algorithm with one option at a fixed value, whatever the caller asks for
(benchmarks/mutated.py): one at which the option does nothing, where there is such a value, and else
its default. It counts if on a small task, with the option at another value, some iterations give
finite parameters that differ from those of the algorithm as it is. Then the tests that mention the
option run until one fails. That test must pass with the plugin and no mutation.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.report import RESULTS, ROOT, machine, steps, write
from experiments.harness import check_choices, markdown, start
from jaxrl.config import settings
from jaxrl.envs.starts.family import STARTS
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console

AT_ONCE = 2
# Wherever an algorithm is trained; slow tests are left out.
FOLDERS = (
    "algos",
    "core",
    "data",
    "envs",
    "nn",
    "contract",
    "train",
    "devices",
    "experiments",
    "cli",
)
KILLED, SURVIVES, SAME, UNTESTED = "killed", "SURVIVES", "NO MUTANT", "NOT MENTIONED"
PASSED, FAILED, NONE, LATE, BROKEN = "passed", "failed", "none", "late", "broken"
ENDS = {0: PASSED, 5: NONE}  # pytest's exit statuses; 5: no test was left to run
OUTCOMES = {
    PASSED: SURVIVES,
    NONE: "ONLY SLOW TESTS",
    LATE: "OUT OF TIME",
    BROKEN: "TESTS DO NOT START",
}


@dataclass(frozen=True)
class Mutant:
    """An option, a value at which it should matter, and the value that it is dropped to."""

    value: Any
    dropped: Any
    environment: str = "CartPole-v1"
    also: dict[str, Any] = field(default_factory=dict)


CONTINUOUS, GRID, KEYS = "Pendulum-v1", "Breakout-MinAtar", "dict/privileged"
OFF_POLICY = {
    "num_envs": 4,
    "num_steps": 64,
    "total_steps": 4 * 64 * 20,
    "warm_up": 64,
    "batch_size": 16,
    "replay_capacity": 4096,
    "updates_per_transition": 0.125,
    "hidden_sizes": (8, 8),
}
SMALL: dict[str, dict[str, Any]] = {
    "ppo": {"num_envs": 8, "num_steps": 64, "minibatch_size": 128, "total_steps": 8 * 64 * 20},
    "stepmix": {"num_envs": 64, "total_steps": 64 * 5 * 200, "bonus_scale": 0.01},
    "td3": OFF_POLICY,
    "sac": OFF_POLICY,
}
CHEAP = {
    "xla_backend_optimization_level": 0
}  # these programs run a handful of times: compile them fast
ITERATIONS = {"ppo": 2, "stepmix": 20, "td3": 2, "sac": 2}
# Sizes, without which nothing has the shape that a test expects: every test would notice.
SIZES = {"total_steps", "num_envs", "num_steps", "minibatch_size", "batch_size", "replay_capacity"}
HUB = "tabular/hub"


def off_policy(algorithm: str, **more: Mutant) -> dict[str, Mutant]:
    """The mutants of what TD3 and SAC share, and `more`."""
    shared = {
        "warm_up": Mutant(128, 16, CONTINUOUS),
        "warm_up_hold": Mutant(8, 1, CONTINUOUS),
        "updates_per_transition": Mutant(0.25, 0.125, CONTINUOUS),
        "n_step": Mutant(3, 1, CONTINUOUS),
        "gamma": Mutant(0.5, 1.0, CONTINUOUS),
        "normalize_observations": Mutant(True, False, CONTINUOUS),
        "starts": Mutant("pool", "fresh", CONTINUOUS),
        "pool_size": Mutant(8, 1024, CONTINUOUS, {"starts": "pool"}),
        "stagger": Mutant(True, False, CONTINUOUS),
        "policy_delay": Mutant(3, 1, CONTINUOUS),
        "learning_rate": Mutant(1e-2, 3e-4, CONTINUOUS),
        "critic_learning_rate": Mutant(1e-2, 3e-4, CONTINUOUS),
        "tau": Mutant(0.5, 1.0, CONTINUOUS),
        "hidden_sizes": Mutant((16,), (256, 256), CONTINUOUS),
        "activation": Mutant("tanh", "relu", CONTINUOUS),
        "layer_norm": Mutant(True, False, CONTINUOUS),
        "initialization": Mutant("orthogonal", "torch", CONTINUOUS),
        "num_critics": Mutant(3, 2, CONTINUOUS),
    }
    return {f"{algorithm}.{name}": mutant for name, mutant in (shared | more).items()}


MUTANTS = {
    "ppo.num_epochs": Mutant(2, 4),
    "ppo.learning_rate": Mutant(1e-2, 2.5e-4),
    "ppo.anneal_learning_rate": Mutant(True, False),
    "ppo.gamma": Mutant(0.5, 1.0),
    "ppo.gae_lambda": Mutant(0.5, 1.0),
    "ppo.clip_epsilon": Mutant(1e-4, 1e6),
    "ppo.value_clip_epsilon": Mutant(1e-3, float("inf")),
    "ppo.entropy_coefficient": Mutant(1.0, 0.0),
    "ppo.value_coefficient": Mutant(0.1, 1.0),
    "ppo.max_grad_norm": Mutant(1e-3, float("inf")),
    "ppo.target_kl": Mutant(1e-9, None),
    "ppo.ewma_center_of_mass": Mutant(4.0, None),
    "ppo.outer_step_size": Mutant(0.5, 1.0),
    "ppo.normalize_advantages": Mutant("minibatch", "none"),
    "ppo.normalize_observations": Mutant(True, False),
    "ppo.scale_rewards": Mutant(True, False),
    "ppo.starts": Mutant("pool", "fresh"),
    "ppo.pool_size": Mutant(8, 1024, also={"starts": "pool"}),
    "ppo.stagger": Mutant(True, False, CONTINUOUS),
    "ppo.torso": Mutant("cnn", "mlp", GRID),
    "ppo.hidden_sizes": Mutant((8,), (64, 64)),
    "ppo.activation": Mutant("relu", "tanh"),
    "ppo.shared_torso": Mutant(True, False),
    "ppo.squash_actions": Mutant(True, False, CONTINUOUS),
    "ppo.state_dependent_std": Mutant(True, False, CONTINUOUS),
    "ppo.initial_log_std": Mutant(-1.0, 0.0, CONTINUOUS),
    "ppo.train_std": Mutant(False, True, CONTINUOUS),
    "ppo.compute_dtype": Mutant("bfloat16", "float32"),
    "ppo.memory": Mutant("gru", "none"),
    "ppo.memory_size": Mutant(8, 64, also={"memory": "gru"}),
    "ppo.mixer": Mutant("ssd", "s6", also={"memory": "mamba"}),
    "ppo.state_size": Mutant(2, 16, also={"memory": "mamba"}),
    "ppo.expand": Mutant(1, 2, also={"memory": "mamba"}),
    "ppo.conv_width": Mutant(2, 4, also={"memory": "mamba"}),
    "ppo.head_size": Mutant(16, 32, also={"memory": "mamba", "mixer": "ssd"}),
    "ppo.actor_keys": Mutant(("seen",), (), KEYS),
    "ppo.critic_keys": Mutant(("seen",), (), KEYS),
    "stepmix.method": Mutant("epsmix", "stepmix", HUB),
    "stepmix.bound": Mutant("anchored", "kl", HUB),
    "stepmix.replan": Mutant("doubling", "always", HUB),
    "stepmix.know_rewards": Mutant(False, True, HUB),
    "stepmix.constraint": Mutant("absolute", "relative", HUB, {"constraint_level": 0.95}),
    "stepmix.constraint_level": Mutant(0.2, 0.9, HUB),
    "stepmix.bonus_scale": Mutant(0.01, 1.0, HUB),
    "stepmix.failure_probability": Mutant(0.9, 0.1, HUB),
    "stepmix.baseline": Mutant("epsilon-soft", "boltzmann", HUB),
    "stepmix.inverse_temperature": Mutant(3.0, 10.0, HUB),
    "stepmix.baseline_epsilon": Mutant(0.5, 0.1, HUB, {"baseline": "epsilon-soft"}),
    "stepmix.baseline_action": Mutant(1, 0, HUB, {"baseline": "constant"}),
    "stepmix.known_baseline_value": Mutant(True, False, HUB, {"bonus_scale": 1.0}),
    **off_policy(
        "td3",
        exploration_noise=Mutant(0.5, 0.0, CONTINUOUS),
        target_noise=Mutant(0.4, 0.0, CONTINUOUS),
        target_noise_clip=Mutant(0.1, 1e6, CONTINUOUS),
    ),
    **off_policy(
        "sac",
        initial_temperature=Mutant(0.1, 1.0, CONTINUOUS),
        train_temperature=Mutant(False, True, CONTINUOUS),
        temperature_learning_rate=Mutant(1e-2, 0.0, CONTINUOUS),
        temperature_loss=Mutant("linear", "log", CONTINUOUS, {"initial_temperature": 0.5}),
        target_entropy=Mutant(-3.0, None, CONTINUOUS),
    ),
}
# Read by the runner before the factory is called; the factory itself does not look at it.
READ_ELSEWHERE = {"stepmix.dataset"}
# Parts of which the package has one each.
ONE_OF_A_KIND = {"ppo.network", "ppo.optimizer"}
# Start distributions that nothing is dropped of yet: a bank or a guide would have to be made for
# each. Their options, of every algorithm that has them.
UNTRIED = ("snapshots", "jumpstart", "replayed")
OF_UNTRIED = {
    f"{algorithm}.{each.name}"
    for algorithm in ("ppo", "td3", "sac")
    for name in UNTRIED
    for each in settings(STARTS.find(name)())
}


@dataclass(frozen=True)
class Arguments:
    """Whether some test notices when an option does nothing."""

    options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = tuple(MUTANTS)
    """Which options to drop, as ppo.gamma. Of some, their rows of the written table are renewed."""
    patience: float = 120.0
    """Seconds after which the tests of a mutant are given up."""


def main(arguments: Arguments) -> int:
    """Drop every option in turn; print the table and write it."""
    check_choices("option", arguments.options, MUTANTS)
    rows = {}
    with steps(len(arguments.options)) as begin, ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(
            functools.partial(try_mutant, patience=arguments.patience), arguments.options
        )
        for name, result in zip(arguments.options, found, strict=True):
            begin(f"{name}: {result['verdict']}")
            rows[name] = result
            renew(rows)
    Console().note(text(renew(rows)))
    return int(any(row["verdict"] != KILLED for row in rows.values()))


def renew(rows: dict[str, Any]) -> dict[str, Any]:
    """Put rows into the written record, which is returned: those of options that are gone go."""
    written = RESULTS / "mutants.json"
    kept = json.loads(written.read_text())["rows"] if written.exists() else {}
    record = {
        "machine": machine(),
        "versions": versions(),
        "not_dropped": sorted(SIZES | READ_ELSEWHERE | ONE_OF_A_KIND | OF_UNTRIED),
        "not_tried": [name for name in MUTANTS if name not in kept | rows],
        "rows": {name: (kept | rows)[name] for name in MUTANTS if name in kept | rows},
    }
    write("mutants", record, text(record))
    return record


def try_mutant(name: str, patience: float) -> dict[str, Any]:
    """Whether dropping an option changes anything, and which test notices."""
    mutant = MUTANTS[name]
    about = {"value": mutant.value, "dropped": mutant.dropped}
    if not changes_parameters(name):
        return about | {"verdict": SAME, "test": None}
    algorithm, option = name.split(".")
    tests = mentions(algorithm, option)
    if not tests:
        return about | {"verdict": UNTESTED, "test": None}
    dropped = {"algorithm": algorithm, "option": option, "value": mutant.dropped}
    failing_anyhow: list[str] = []
    while True:
        outcome, failed = run_tests(dropped, tests, failing_anyhow, patience)
        if outcome != FAILED:
            return about | {"verdict": OUTCOMES[outcome], "test": None}
        if run_tests({"algorithm": algorithm}, [failed], [], patience)[0] == PASSED:
            return about | {"verdict": KILLED, "test": failed}
        failing_anyhow.append(failed)


def changes_parameters(name: str) -> bool:
    """Whether some iterations on a small task give finite parameters that differ from those without
    the option."""
    mutant = MUTANTS[name]
    algorithm, option = name.split(".")
    settings = SMALL[algorithm] | mutant.also
    whole, without = (
        trained(algorithm, mutant.environment, settings | {option: value})
        for value in (mutant.value, mutant.dropped)
    )
    finite = all(np.isfinite(leaf).all() for leaf in whole + without)
    shapes = [[leaf.shape for leaf in leaves] for leaves in (whole, without)]
    same = shapes[0] == shapes[1] and all(
        np.array_equal(a, b) for a, b in zip(whole, without, strict=True)
    )
    return finite and not same


def trained(algorithm: str, environment: str, settings: dict[str, Any]) -> list[np.ndarray]:
    """The policy's arrays after the iterations."""
    import jax

    from jaxrl.algos.registry import load
    from jaxrl.config import override
    from jaxrl.envs.registry import make

    spec = load(algorithm)
    made = spec.factory(make(environment), override(spec.config_class(), settings))
    compiled = functools.partial(jax.jit, compiler_options=CHEAP)
    step = compiled(lambda state: made.step(state)[0])
    state = compiled(made.init)(jax.random.key(0))
    for _ in range(ITERATIONS[algorithm]):
        state = step(state)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(made.policy(state))]


def mentions(algorithm: str, option: str) -> list[str]:
    """The tests that mention an option by name: first those of files that speak of the algorithm,
    in the order of FOLDERS, whole files last."""
    word, name = re.compile(rf"\b{option}\b"), re.compile(rf"\b{algorithm}\b", re.IGNORECASE)
    of_it, others = [], []
    for folder in FOLDERS:
        for path in sorted((ROOT / "tests" / folder).rglob("test_*.py")):
            source = path.read_text()
            if word.search(source):
                (of_it if name.search(source) else others).extend(mentions_in(path, word))
    found = of_it + others
    return sorted(found, key=lambda test: "::" not in test)  # a whole file only says it somewhere


def mentions_in(path: Path, word: re.Pattern[str]) -> list[str]:
    """The test functions of a file in which a word stands; the whole file,
    if it stands elsewhere in it."""
    source = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    found = [f"{name}::{node.name}" for node in tests if word.search(whole_text(source, node))]
    return found or [name]


def whole_text(source: str, node: ast.FunctionDef) -> str:
    """A function's text with its decorators."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def run_tests(
    mutant: dict[str, Any], tests: list[str], left_out: list[str], patience: float
) -> tuple[str, str]:
    """How the tests end under a mutant, and the first that failed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "benchmarks.mutated",
        "-x",
        "-q",
        "--no-header",
        *tests,
    ]
    command += [f"--deselect={test}" for test in left_out]
    variables = os.environ | {"JAXRL_MUTANT": json.dumps(mutant)}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return LATE, ""
    if done.returncode in ENDS:
        return ENDS[done.returncode], ""
    if absent := re.search(
        r"found no collectors for (\S+)::", done.stderr or ""
    ):  # of a package that is not installed
        others = [test for test in tests if test.partition("::")[0] not in absent[1]]
        return run_tests(mutant, others, left_out, patience)
    failed = re.search(
        r"^(?:FAILED|ERROR) (\S+\.py::\w+(?:\[.*?\])?)(?: - |$)", done.stdout, re.MULTILINE
    )
    return (FAILED, failed[1]) if failed else (BROKEN, "")


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    rows = [
        {"option": name, "given": row["value"], "dropped to": str(row["dropped"])}
        | verdict_columns(row)
        for name, row in record["rows"].items()
    ]
    killed = sum(row["verdict"] == KILLED for row in record["rows"].values())
    missing = record.get("not_tried", [])
    return (
        f"{killed} of {len(rows)} options are noticed by a test when they are dropped. "
        f"Not dropped: {', '.join(record['not_dropped'])}."
        f"{' Not tried yet: ' + ', '.join(missing) + '.' if missing else ''}\n\n{markdown(rows)}"
    )


def verdict_columns(row: dict[str, Any]) -> dict[str, Any]:
    """What became of a mutant."""
    return {"verdict": row["verdict"], "by": row["test"]}


if __name__ == "__main__":
    start(main, Arguments)
