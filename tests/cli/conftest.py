"""Running a command in the process of the tests, and keeping it from compiling."""

import pytest

from jaxrl import cli
from jaxrl.train.population import Population
from tests.train.tiny import shared_compilations


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture
def run(capsys):
    """Run a command that is to end with `status`: what it printed on standard output,
    and on standard error."""

    def command(*arguments, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == status
        return capsys.readouterr()

    return command


@pytest.fixture
def ask(capsys):
    """Run a command: (exit status, standard output, standard error),
    with lines joined at single spaces."""

    def command(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        output, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return status, output, " ".join(errors.replace("│", " ").split())

    return command


@pytest.fixture
def nothing_compiles(monkeypatch):
    """A request that gets as far as the compiler fails."""

    def compile_something(*_, **__):
        raise AssertionError("a bad request reached the compiler")

    monkeypatch.setattr(Population, "call", compile_something)
