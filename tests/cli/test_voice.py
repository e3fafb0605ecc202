"""A command outlives its output: closed, full, in ASCII, or not there at all."""

import contextlib
import os
import signal
import subprocess
import sys
import types

import pytest

from jaxrl import cli
from jaxrl.cli import COMMANDS, WORKING
from jaxrl.train import player, recorder
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.output import console, report
from jaxrl.train.output.voice import spelt
from tests.train.tiny import ARGUMENTS, ITERATIONS

FULL = "/dev/full"
OUTPUTS = ["closed pipe", "full", "ascii", "none"]
PRINTED_NOTHING = {"closed pipe": 141, "full": 2, "ascii": 0, "none": 2}

needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full")


def opened(output, path):
    """A stream that cannot be written, or hardly."""
    if output == "none":
        return None
    if output == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
        return open(writer, "w")
    if output == "full":
        return open(FULL, "w")
    return open(path, "w", encoding="ascii")


class Unheard:
    """Runs commands whose output cannot be written, or hardly."""

    def __init__(self, output, folder):
        self.output, self.folder = output, folder

    def __call__(self, *words) -> int:
        """The status of a command."""
        with contextlib.ExitStack() as stack:
            streams = [opened(self.output, self.folder / name) for name in ("out", "err")]
            for stream in filter(None, streams):
                # Writes what is still in its buffer, as Python does when it ends.
                stack.callback(stream.close)
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            return cli.main([str(word) for word in words])


@pytest.fixture(params=OUTPUTS)
def unheard(request, tmp_path):
    if request.param == "full" and not os.path.exists(FULL):
        pytest.skip("no /dev/full")
    return Unheard(request.param, tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a name that is not ASCII."""
    folder = tmp_path_factory.mktemp("voice") / "rün"
    assert cli.main(["train", "ppo", *ARGUMENTS, "--folder", str(folder), "--quiet"]) == 0
    return folder


def test_a_run_may_lose_its_voice_and_not_its_life(unheard, tmp_path):
    folder = tmp_path / "…"
    assert unheard("train", "ppo", *ARGUMENTS, "--folder", folder) == 0
    assert max(Checkpoints(folder).iterations()) == ITERATIONS
    assert (folder / "plots" / "learning_curve.png").exists()


@pytest.mark.parametrize("unheard", ["closed pipe", "ascii"], indirect=True)
def test_commands_that_write_files_end_as_they_always_do(unheard, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "render", lambda *_, **__: "…")
    assert unheard("resume", finished) == 0
    assert unheard("render", finished) == 0
    assert unheard("plot", finished, "--output", tmp_path / "curve.png") == 0
    assert unheard("collect", finished, "--episodes", 2, "--output", tmp_path / "made.npz") == 0
    assert (tmp_path / "curve.png").exists() and (tmp_path / "made.npz").exists()


def test_commands_that_only_print_end_like_other_tools(unheard, finished):
    for words in (["eval", finished, "--episodes", 4], ["envs", "cart"], ["--version"], ["--help"]):
        assert unheard(*words) == PRINTED_NOTHING[unheard.output], words


def test_errors_keep_their_status(unheard):
    assert unheard("train", "ppo", "--env", "ünknown") == 2
    assert unheard("frobnicate") == 2
    assert unheard("eval") == 2


@pytest.mark.parametrize("command", ["train ppo", *COMMANDS])
def test_help_ends_quietly(unheard, command):
    assert unheard(*command.split(), "--help") == PRINTED_NOTHING[unheard.output]


def test_ascii_help_can_be_read(monkeypatch, tmp_path):
    with open(tmp_path / "help", "w", encoding="ascii") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert cli.main(["eval", "--help"]) == 0
    text = (tmp_path / "help").read_text()
    assert "--episodes INT" in text and "\\u" not in text
    assert spelt("a … │─╭ ≥ \udcff é", "ascii") == "a ... |-+ \\u2265 \\udcff \\xe9"
    assert spelt("…", "utf-8") == "…"


@pytest.mark.parametrize("columns", ["1", "2", "3"])
def test_a_terminal_of_few_columns(columns, monkeypatch, capsys):
    """The parser's help does not end below four."""
    monkeypatch.setenv("COLUMNS", columns)
    cli.prepare_process()
    assert int(os.environ["COLUMNS"]) == cli.NARROWEST


def test_an_evaluation_shows_how_far_it_is(finished, monkeypatch, capsys):
    monkeypatch.setattr(player, "FIRST_PIECE", 1)
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    assert cli.main(["eval", str(finished), "--episodes", "4"]) == 0
    assert "playing, deterministic: step 1 of at most 20, 0 of 4 episodes" in capsys.readouterr()[0]


def test_collecting_shows_how_far_it_is(finished, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(recorder, "PIECE", 1)
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    words = ["collect", str(finished), "--episodes", "4", "--output", str(tmp_path / "it.npz")]
    assert cli.main(words) == 0
    assert "playing, deterministic: step 1 of at most 20, 0 of 4 episodes" in capsys.readouterr()[0]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_every_command(command, number, monkeypatch, capfd):
    def signalled(words):
        signal.raise_signal(number)
        raise AssertionError("it went on")

    monkeypatch.setattr(cli, "_command", lambda name: signalled)
    assert cli.main([command]) == 128 + number
    assert "again: stop at once" in capfd.readouterr().err


def test_what_fails_because_it_was_interrupted_is_no_error(monkeypatch, capsys):
    def signalled(words):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("half a module") from None

    monkeypatch.setattr(cli, "_command", lambda name: signalled)
    assert cli.main(["envs"]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


FIRST_FILE = """
import os, sys
from jaxrl import cli
cli._main = lambda *_: 0
cli.main(["--version"])
file = os.open(os.devnull, os.O_RDONLY)  # a checkpoint, say
sys.exit(10 + file)
"""


def shell(words: str) -> types.SimpleNamespace:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {words}"], capture_output=True, text=True, check=False
    )
    return types.SimpleNamespace(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_one(closed):
    assert shell(f"-c '{FIRST_FILE}' {closed}").status >= 13


@needs_full
@pytest.mark.parametrize("module", ["jaxrl", "jaxrl.cli"])
def test_processes_end_quietly(module):
    pipe = shell(f"-m {module} --help | true; exit ${{PIPESTATUS[0]}}")
    assert (pipe.status in (0, 141), pipe.err) == (True, "")
    full = shell(f"-m {module} --help > {FULL}")
    assert full.status == 2
    assert full.err == "error: standard output cannot be written: No space left on device\n"
    silent = shell(f"-m {module} --version > {FULL} 2> {FULL}")
    assert (silent.status, silent.err) == (2, "")


def test_every_command_either_works_or_prints():
    assert set(WORKING) | {"eval", "envs", "check"} == set(COMMANDS)
