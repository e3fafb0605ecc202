"""Tables and expectations of scaling_envs.py, from its JSON alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Cells, sections, table

from jaxrl.analysis.statistics import mean_interval
from jaxrl.analysis.style import count_label, short_number


def final(record: dict[str, Any]) -> np.ndarray:
    """Scores [H, S], the mean over the last quarter of a run."""
    return score_by(record, record["iterations"][-1])


def score_by(record: dict[str, Any], iterations: float) -> np.ndarray:
    """Scores [H, S], the mean over the last quarter of so many iterations;
    NaN if none was measured there."""
    marks, scores = np.array(record["iterations"]), np.array(record["scores"], np.float64)
    late = (marks > 0.75 * iterations) & (marks <= iterations)
    return scores[late].mean(axis=0) if late.any() else np.full(scores.shape[1:], np.nan)


def cut(record: dict[str, Any], iterations: int) -> dict[str, Any]:
    """The record of a shorter run; its late metrics stay those of the whole."""
    marks = [mark for mark in record["iterations"] if mark <= iterations]
    return record | {"iterations": marks, "scores": record["scores"][: len(marks)]}


def late(record: dict[str, Any], name: str) -> float:
    """A metric over the last quarter, the mean over seeds; NaN where it was not measured."""
    values = record["late"].get(name)
    return float("nan") if values is None else float(np.mean(np.array(values, np.float64)))


def numbered(cells: Cells, prefix: str) -> dict[int, dict[str, Any]]:
    """Cells named prefix/NUMBER, by number."""
    named = {
        name.removeprefix(prefix + "/"): cell
        for name, cell in cells.items()
        if name.startswith(prefix + "/")
    }
    return {int(name): named[name] for name in sorted(named, key=int)}


def scaled(cells: Cells, part: str) -> dict[int, dict[str, dict[str, Any]]]:
    """Cells named part/NUMBER/RULE, by number and rule."""
    result: dict[int, dict[str, dict[str, Any]]] = {}
    for name, cell in cells.items():
        if name.startswith(part + "/"):
            number, rule = name.removeprefix(part + "/").split("/")
            result.setdefault(int(number), {})[rule] = cell
    return dict(sorted(result.items()))


def sweeps(cells: Cells) -> dict[str, dict[float, np.ndarray]]:
    """Regret of each seed by setting and value."""
    result = {}
    for name in ("learning_rate", "clip_epsilon"):
        if cell := cells.get(f"bandit/sweep/{name}"):
            result[name] = dict(zip(cell["asked"]["sweep"][name], final(cell), strict=True))
    if epochs := numbered(cells, "bandit/sweep/num_epochs"):
        result["num_epochs"] = {count: final(cell)[0] for count, cell in epochs.items()}
    return result


def expectations(cells: Cells) -> list[tuple[str, float, str, float]]:
    """(what, measured, "≤" or "≥", bound): what the outer loop as stochastic optimisation lets one
    expect."""
    plateaus = numbered(cells, "bandit/plateau")
    rules = scaled(cells, "bandit/rules")
    result = []
    for small, large in ((256, 1024), (1024, 4096)):
        if small in plateaus and large in plateaus:
            ratio = final(plateaus[large]).mean() / final(plateaus[small]).mean()
            result.append((f"regret at B = {large} / at {small}", ratio, "≤", 0.8))
    if "bandit/release" in cells:
        arms = {
            name: final(arm).mean() for name, arm in cells["bandit/release"]["releases"].items()
        }
        others = [name for name in arms if name != "continue"]
        result += [
            (f"released by {name} / continued", arms[name] / arms["continue"], "≤", 0.85)
            for name in others
        ]
    large = {batch: cell for batch, cell in plateaus.items() if batch >= 1024}
    if 16 in rules and "R1" in rules[16]:
        large |= {16 * 1024: rules[16]["R1"]}
    moves = {batch: late(cell, "kl_to_previous") for batch, cell in large.items()}
    if len(moves) > 1:
        spread = max(moves.values()) / min(moves.values())
        result.append(("largest / smallest KL of an iteration, B ≥ 1024, R1", spread, "≤", 1.6))
    for batch, move in moves.items():
        if 4 * batch in moves:
            ratio = 4 * move / moves[4 * batch]
            result.append((f"transitions per nat at B = {4 * batch} / at {batch}", ratio, "≥", 3.0))
    if {"R1", "R4"} <= set(rules.get(16, {})):
        ratio = final(rules[16]["R4"]).mean() / final(rules[16]["R1"]).mean()
        result.append(("regret of R4 / of R1 at 16 times the environments", ratio, "≥", 1.5))
    return result


def text(cells: Cells) -> str:
    """Every table that the finished cells fill."""
    return sections(
        plateau_table(cells),
        release_table(cells),
        sweep_table(cells),
        rules_table(cells),
        expectation_table(cells),
        minatar_table(cells),
    )


def _regret(seeds: np.ndarray) -> str:
    return f"{np.mean(seeds):.3f} ± {np.std(seeds, ddof=1):.3f}"


def plateau_table(cells: Cells) -> str:
    """Where learning stops, by transitions of an iteration."""
    rows = []
    for batch, cell in numbered(cells, "bandit/plateau").items():
        kl = late(cell, "kl_to_previous")
        steps = f"{late(cell, 'gradient_steps'):.0f}"
        rows.append(
            [
                batch,
                cell["iterations"][-1],
                steps,
                _regret(final(cell)),
                f"{kl:.4f}",
                count_label(batch / kl),
            ]
        )
    header = ["transitions of an iteration (B)", "iterations", "gradient steps"]
    header += ["regret ± sd over seeds", "KL of an iteration", "transitions per nat"]
    return table(header, rows, "**Bandit: the plateau under R1**")


def release_table(cells: Cells) -> str:
    """What frees a run that sits on its plateau."""
    arms = cells.get("bandit/release", {}).get("releases", {})
    rows = []
    for name, arm in arms.items():
        ratio = final(arm).mean() / final(arms["continue"]).mean()
        rows.append([name, arm["iterations"][-1], _regret(final(arm)), f"{ratio:.2f}"])
    header = ["change", "iterations more", "regret ± sd", "relative to continue"]
    return table(header, rows, "**Bandit: released from B = 1024**")


def sweep_table(cells: Cells) -> str:
    """One setting at a time."""
    rows = []
    for name, values in sweeps(cells).items():
        shown = "; ".join(
            f"{short_number(value)}: {_regret(seeds)}" for value, seeds in values.items()
        )
        rows.append([f"`{name}`", shown])
    caption = "**Bandit: one setting at a time, B = 1024**"
    return table(["setting", "value: regret ± sd"], rows, caption)


def bandit_rules(cells: Cells) -> dict[int, dict[str, dict[str, Any]]]:
    """Cells by factor and rule; factor 1, where the rules are one,
    is the plateau's run up to as many iterations."""
    by_factor = scaled(cells, "bandit/rules")
    base = cells.get("bandit/plateau/1024")
    if by_factor and base:
        compared = next(
            cell["iterations"][-1] for rules in by_factor.values() for cell in rules.values()
        )
        by_factor = {1: {"R1": cut(base, compared)}} | by_factor
    return by_factor


def rules_table(cells: Cells) -> str:
    """The rules at equal iterations and at equal transitions."""
    rows = []
    for factor, rules in bandit_rules(cells).items():
        for rule, cell in rules.items():
            config, iterations = cell["asked"]["config"], cell["iterations"][-1]
            equal = score_by(cell, iterations / factor)
            row = [
                factor,
                rule if factor > 1 else "any",
                config["minibatch_size"],
                short_number(config["learning_rate"]),
            ]
            rows.append(
                [*row, _regret(final(cell)), f"{late(cell, 'kl_to_previous'):.4f}", _regret(equal)]
            )
    header = ["times 1024 environments", "rule", "minibatch", "learning rate"]
    header += ["regret ± sd at equal iterations", "KL of an iteration"]
    header += ["regret ± sd at equal transitions"]
    return table(header, rows, "**Bandit: the rules**")


def expectation_table(cells: Cells) -> str:
    """What was expected beforehand, and whether it was met."""
    rows = []
    for what, value, sense, bound in expectations(cells):
        met = value <= bound if sense == "≤" else value >= bound
        rows.append([what, f"{value:.2f}", f"{sense} {bound:g}", "met" if met else "**not met**"])
    return table(["ratio", "measured", "expected", "verdict"], rows, "**Expectations**")


def games(cells: Cells) -> list[str]:
    """The MinAtar games among the cells."""
    return list(dict.fromkeys(name.split("/")[1] for name in cells if name.startswith("minatar/")))


def minatar_table(cells: Cells) -> str:
    """Returns at equal transitions, by environments and rule."""
    rows = []
    for game in games(cells):
        for num_envs, rules in scaled(cells, f"minatar/{game}").items():
            for rule, cell in rules.items():
                config, seeds, iterations = (
                    cell["asked"]["config"],
                    final(cell)[0],
                    cell["iterations"][-1],
                )
                low, high = mean_interval(seeds)
                row = [
                    game,
                    num_envs,
                    rule,
                    config["minibatch_size"],
                    short_number(config["learning_rate"]),
                    iterations,
                ]
                score = f"{seeds.mean():.1f} [{low:.1f}, {high:.1f}]"
                rows.append(
                    [
                        *row,
                        score,
                        f"{late(cell, 'kl_to_previous'):.4f}",
                        count_label(iterations * cell["batch"]),
                    ]
                )
    header = ["game", "environments", "rule", "minibatch", "learning rate", "iterations"]
    header += ["return [95 %]", "KL of an iteration", "transitions"]
    return table(header, rows, "**MinAtar at equal transitions**")
