"""Datasets from replay buffers: episodes again, up to the evaluation that is good enough."""

import signal
from unittest.mock import Mock

import numpy as np
import pytest

from jaxrl.data.recorded import describe
from jaxrl.data.replay import Row
from jaxrl.train import datasets
from jaxrl.train.datasets.parts import replayed as parts
from jaxrl.train.datasets.parts.replayed import episodes_of, replayed, stop_after, stop_at
from jaxrl.train.signals import Interrupted
from jaxrl.types import Box


def rows(terminated, truncated, environment):
    number = np.arange(len(environment), dtype=np.float32)
    return Row(
        observation=number[:, None],
        action=number[:, None] / len(number),
        reward=number,
        terminated=np.array(terminated, bool),
        truncated=np.array(truncated, bool),
        final_observation=number[:, None] + 2,
        origin=np.full(len(number), -1, np.int32),
        environment=np.array(environment, np.int32),
    )


def test_the_rows_of_each_environment_become_its_episodes():
    held = rows([0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1])
    recorded = episodes_of(held, Box(-2.0, 2.0, (1,)), describe("it", "by hand"))
    recorded.check()
    assert recorded.reward.tolist() == [0, 2, 4, 1, 3, 5]
    assert recorded.length.tolist() == [2, 1, 1, 2]
    assert recorded.terminated.tolist() == [0, 1, 0, 0, 0, 0]
    assert recorded.truncated.tolist() == [0, 0, 1, 1, 0, 1]  # the last rows are where it stopped
    assert recorded.final_observation.ravel().tolist() == [4, 6, 3, 7]
    np.testing.assert_allclose(recorded.action.ravel(), np.array([0, 2, 4, 1, 3, 5]) / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("iteration", "returns", "stops"),
    [(3, [-1.0, 1.0], True), (3, [-1.1, 1.0], False), (0, [9.0], False), (3, None, False)],
)
def test_a_run_ends_where_an_evaluation_is_good_enough(iteration, returns, stops):
    found = {} if returns is None else {"deterministic": np.array([[returns]])}
    pause = Mock(iteration=iteration, returns=found)
    stop_at(0.0)(pause)
    assert pause.stop.called == stops


def test_a_run_ends_after_so_many_transitions():
    pauses = [Mock(transitions=transitions) for transitions in (0, 499, 500, 600)]
    for pause in pauses:
        stop_after(500)(pause)
    assert [pause.stop.called for pause in pauses] == [False, False, True, True]


def test_of_a_run_that_a_signal_ended_there_is_no_dataset(monkeypatch):
    monkeypatch.setattr(parts, "train", lambda *_, **__: Mock(signal=signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        replayed(Mock(), stop_after(500))
    assert caught.value.number == signal.SIGTERM


@pytest.mark.slow
def test_a_pendulum_is_recorded_while_it_learns():
    recorded = datasets.build("pendulum-medium-replay", small=True)
    assert recorded.about["environment"] == "Pendulum-v1" and len(recorded) == 2_000
    assert np.all(recorded.length[:-1] == 200) and recorded.truncated[recorded.ends].all()
    assert np.abs(recorded.action).max() <= 2.0 and recorded.action.std() > 0.5
    assert len(recorded.length) == 10
    assert datasets.build("pendulum-medium-replay", small=True).sha256 == recorded.sha256
