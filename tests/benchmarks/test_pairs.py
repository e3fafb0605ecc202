"""Two revisions in turns: what is compared, in which order, and what is said of it."""

import pytest

from benchmarks import pairs
from benchmarks.pairs import SIZES, compare, text, time_size
from benchmarks.revisions import Revision
from jaxrl.errors import JaxrlError
from tests.tables import unpadded


def test_pairs_are_of_neighbours():
    found = compare([100.0, 200.0, 50.0], [99.0, 180.0, 52.0])
    assert found["ratio"] == {
        "median": pytest.approx(0.99),
        "low": pytest.approx(0.945),
        "high": pytest.approx(1.015),
    }
    assert found["verdict"] == "as fast" and found["pairs"][1] == {"old": 200.0, "new": 180.0}
    assert compare([100.0], [96.0])["verdict"] == "SLOWER"


def test_each_revision_runs_its_own_code_and_a_failure_is_told(tmp_path, monkeypatch):
    def pretend(jobs, repeats, begin, alternate):
        assert alternate and [job.code.name for job in jobs.values()] == ["0", "1"]
        assert jobs["new"].setting["num_envs"] == 64
        return {
            "old": {"versions": {"jax": "1"}, "device": {"platform": "cpu", "kind": "cpu"}},
            "new": {"error": "no"},
        }

    monkeypatch.setattr(pairs, "take_turns", pretend)
    revisions = [Revision(name, "c", "t", tmp_path / name) for name in "01"]
    result = time_size("hopper-64", revisions, pairs.Arguments("0", "1"), lambda text: None)
    assert result["verdict"] == "FAILED" and result["errors"] == {"new": "no"}


def test_the_table_tells_ratios(tmp_path):
    revision = {"label": "1a2b"}
    record = {
        "revisions": {"old": revision, "new": revision},
        "pairs": 2,
        "seconds": 4.0,
        "least_ratio": 0.97,
        "device": {},
        "machine": {"processor": "a processor"},
        "sizes": {"cartpole-4": compare([1e5, 1e5], [1e5, 0.9e5])},
    }
    assert "| cartpole-4 | 100,000 | 95,000 | 0.950 | 0.925, 0.975 | SLOWER |" in unpadded(
        text(record)
    )


def test_sizes_divide_and_unknown_ones_are_refused():
    assert all(size.num_envs * size.num_steps % 4 == 0 for size in SIZES.values())
    with pytest.raises(JaxrlError, match="cartpole-5"):
        pairs.main(pairs.Arguments("HEAD", sizes=("cartpole-5",)))
