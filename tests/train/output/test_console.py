import errno
import io
import os
import warnings

import numpy as np
import pytest

from jaxrl.errors import RunWarning
from jaxrl.train.output.console import Console, Progress, Rate, duration, human, number
from jaxrl.train.player import Played


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0"),
        (950, "950"),
        (999.6, "1k"),
        (1_200, "1.2k"),
        (12_340, "12.3k"),
        (999_600, "1M"),
        (1_234_567, "1.23M"),
        (10_000_000, "10M"),
        (3.45e9, "3.45B"),
        (10**12, "1T"),
        (5 * 10**15, "5000T"),
    ],
)
def test_human_counts(count, text):
    assert human(count) == text


def test_durations_and_numbers():
    assert [duration(x) for x in (4.6, 750, 11220, 187200 + 14400)] == [
        "0:05",
        "12:30",
        "3:07:00",
        "2d 08:00:00",
    ]
    assert [
        number(x) for x in (None, np.nan, 0.123456, 195.34, -3.5, 2_000_000.0, 3, 2**40, "ppo")
    ] == [
        "-",
        "-",
        "0.1235",
        "195.3",
        "-3.5",
        "2e+06",
        "3",
        str(2**40),
        "ppo",
    ]
    assert number(np.array([[1.0, 2.0, np.nan]])) == "1.5"


def test_the_rate_is_recent_and_without_compilation(clock):
    rate = Rate(clock)
    assert rate.per_second is None
    rate.add(0)
    clock.now += 60  # compilation
    rate.exclude(50)
    rate.add(1000)
    assert rate.per_second == pytest.approx(100)
    for step in range(2, 12):
        clock.now += 10
        rate.add(1000 + 5000 * (step - 1))
    assert rate.per_second == pytest.approx(500)  # the slow beginning has left the window


def lines(stream):
    return stream.getvalue().splitlines()


def progress_to(stream, clock, **options):
    return Progress(Console(stream=stream, **options), 100, 10_000, clock=clock)


def test_a_log_gets_a_plain_line_every_ten_seconds_or_evaluation(clock):
    stream = io.StringIO()
    with progress_to(stream, clock) as progress:
        progress.update(0)
        for iteration in range(1, 51):
            clock.now += 1
            progress.update(iteration, episode_return=np.array([[1.0, np.nan]]))
        assert len(lines(stream)) == 6
        progress.update(50, evaluation_return=210.04)
        assert len(lines(stream)) == 7
        progress.update(51)
        assert len(lines(stream)) == 7
    assert "\x1b" not in stream.getvalue()
    last = lines(stream)[-1]
    assert last == "50/100  500k / 1M  10k steps/s  return 1  evaluation 210.0  0:50 < 0:50"


def test_the_last_iteration_is_always_shown_and_the_rate_counts_all_members(clock):
    stream = io.StringIO()
    with Console(stream=stream).progress(100, 10_000, num_members=4) as progress:
        progress._clock = progress._rate._clock = clock
        progress.update(98)
        clock.now += 1
        progress.update(99)
        progress.update(100)
    assert len(lines(stream)) == 2
    assert lines(stream)[-1].startswith("100/100  1M / 1M  80k steps/s")


def test_a_terminal_gets_one_live_line(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    console = Console(stream=stream)
    with Progress(console, 100, 10_000, clock=clock) as progress:
        progress.update(0)
        clock.now += 2
        progress.update(50, episode_return=12.5, evaluation_return=99.0)
        console.note("a [note] that is kept")
    text = stream.getvalue()
    assert "\x1b[" in text and "a [note] that is kept" in text
    assert "50/100  500k / 1M  250k steps/s  return 12.5  evaluation 99  0:02 < 0:02" in text


def test_a_dumb_terminal_gets_plain_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with progress_to(stream, clock) as progress:
        progress.update(0)
    assert len(lines(stream)) == 1 and "\x1b[?25l" not in stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_prints_nothing(clock, kind):
    stream = kind()
    console = Console(quiet=True, stream=stream)
    with Progress(console, 100, 10_000, clock=clock) as progress:
        progress.update(100, evaluation_return=1.0)
        console.note("text")
    console.summary([{"a": 1}])
    assert stream.getvalue() == ""


def test_the_bar_stops_when_training_fails(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(ZeroDivisionError), progress_to(stream, clock) as progress:
        progress.update(1)
        raise ZeroDivisionError
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_the_summary_is_a_table_in_plain_text():
    stream = io.StringIO()
    rows = [
        {"environment": "CartPole-v1", "mean_return": 499.123, "seeds": 8},
        {"environment": "[x]", "extra": None},
    ]
    Console(stream=stream).summary(rows, title="Results")
    text = stream.getvalue()
    assert (
        text.isascii()
        and "mean return" in text
        and "499.1" in text
        and "[x]" in text
        and "Results" in text
    )
    empty = io.StringIO()
    Console(stream=empty).summary([])
    assert empty.getvalue() == ""


def test_long_notes_are_not_folded_in_a_log():
    stream = io.StringIO()
    Console(stream=stream).note("word " * 100)
    assert len(lines(stream)) == 1


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_a_log_gets_no_control_codes_whatever_the_environment_says(clock, monkeypatch, name):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, "1")
    stream = io.StringIO()
    with progress_to(stream, clock) as progress:
        progress.update(0)
        progress.update(100)
    Console(stream=stream).summary([{"a": 1}])
    assert "\x1b" not in stream.getvalue() and len(lines(stream)) > 2


@pytest.mark.parametrize("columns", ["1", "0", "none"])
def test_a_narrow_terminal(clock, monkeypatch, columns):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    stream = Terminal()
    with progress_to(stream, clock) as progress:
        progress.update(50)
    Console(stream=stream).summary([{"a name": 1, "another": "x"}])
    assert "\x1b[38" not in stream.getvalue() and "\x1b[?25h" in stream.getvalue()


class Closing(Terminal):
    """A terminal that is closed in the middle of a progress bar."""

    def __init__(self):
        super().__init__()
        self.is_closed = False

    def write(self, text):
        if self.is_closed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)


def test_a_terminal_that_is_closed_in_the_middle_of_a_bar(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Closing()
    console = Console(stream=stream)
    with Progress(console, 100, 10_000, clock=clock) as progress:
        progress.update(1)
        stream.is_closed = True
        progress.update(50, evaluation_return=1.0)
        console.note("text")
    console.summary([{"a": 1}])


def test_a_reader_that_leaves_ends_nothing():
    """rich ends the process, silently and with status 1."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        console = Console(stream=stream)
        for _ in range(3):
            console.note("text")
        console.summary([{"a": 1}])


def evaluated(steps: int, ended: int = 0, mode: str = "deterministic") -> Played:
    return Played(mode, steps, 100_000_000, ended, 100)


def test_a_long_evaluation_shows_how_far_it_is_and_warns_once(clock):
    stream = io.StringIO()
    with progress_to(stream, clock) as progress:
        progress.evaluating(evaluated(64))
        clock.now += 9
        progress.evaluating(evaluated(90_064))
        assert lines(stream) == []  # a short one says nothing
        clock.now += 1
        with pytest.warns(
            RunWarning, match="until the time limit of 100,000,000 steps: 2:46:"
        ) as w:
            progress.evaluating(evaluated(100_064, ended=3))
        assert "97 of 100 episodes go on" in str(w[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clock.now += 10
            progress.evaluating(evaluated(200_064, ended=3))
            progress.evaluating(evaluated(64, mode="stochastic"))
    assert lines(stream) == [
        "playing, deterministic: step 100k of at most 100M, 3 of 100 episodes have ended, at most "
        "2:46:30 left",
        "playing, deterministic: step 200k of at most 100M, 3 of 100 episodes have ended, at most "
        "2:46:20 left",
    ]
