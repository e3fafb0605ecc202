"""The experiments are scripts: they find each other in their own folder."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def beside_the_experiments(monkeypatch):
    """Imports as the experiments have them."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
