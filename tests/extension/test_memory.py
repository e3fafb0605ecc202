"""A policy with a memory, of an algorithm of one's own, as the baseline of deep StepMix."""

from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations, read_metrics
from tests.extension.conftest import LENGTH, LEVERS, OUTSIDE, PPO

TURNS = f"{OUTSIDE}.turns:turns"


def test_deep_stepmix_follows_a_baseline_that_counts_its_steps(run, ask, tmp_path):
    """Two episodes in each round, of an odd number of steps:
    in the second one only a memory begun anew is right."""
    assert LENGTH % 2 == 1
    baseline, folder = tmp_path / "runs" / "turns", tmp_path / "runs" / "deep"
    run(
        "train",
        TURNS,
        *LEVERS,
        "--num-evaluations",
        1,
        "--evaluation-episodes",
        50,
        "--folder",
        baseline,
        "--quiet",
    )
    returns = load_evaluations(baseline)["in_turn_returns"]
    assert set(returns.ravel().tolist()) == {2.0, 3.0}, (
        "one lever is pulled in two steps of five, the other in three"
    )

    words = [
        "train",
        "deep_stepmix",
        *PPO[2:],
        "--total-steps",
        80,
        "--return-high",
        LENGTH,
        "--folder",
        folder,
    ]
    words += ["--baseline", baseline, "--baseline-mode", "in_turn"]
    status, _, errors = ask(*words)
    assert status == 2 and f"--imports {TURNS}" in errors and not folder.exists()
    run(*words, "--imports", TURNS)
    rows = read_metrics(folder)
    assert [row["iteration"] for row in rows] == [1, 2]
    for row in rows:
        assert row["handover_step"] == LENGTH and row["episode_length"] == LENGTH, (
            "the baseline acts all the time"
        )
        assert row["env_in_turn"] == 1.0
    assert list(read_description(folder)["inputs"]) == ["baseline"]

    status, _, errors = ask(*words[:-1], "stochastic", "--imports", TURNS, "--overwrite")
    assert (
        status == 2
        and "unknown mode of the baseline 'stochastic'" in errors
        and "in_turn" in errors
    )
