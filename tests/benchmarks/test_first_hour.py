"""The first hour of new users: the pages have what they type, and a step that fails is shown."""

import pytest

from benchmarks import first_hour
from benchmarks.first_hour import ROOT, USERS, User


@pytest.fixture
def user(tmp_path):
    return User("somebody", first_hour.THIS, "pip", tmp_path, 20_000, None, tmp_path / "a.whl")


@pytest.mark.parametrize("name", USERS)
def test_the_pages_have_what_is_typed(user, name, monkeypatch):
    typed = []
    monkeypatch.setattr(first_hour, "interpreter", lambda version: f"python{version}")
    monkeypatch.setattr(
        User, "run", lambda self, page, command="", **_: typed.append((page, command or page))
    )
    play, user.python, user.installer = USERS[name]
    play(user)
    assert len(typed) > 2
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
    ours = ("jaxrl resume RUN", "jaxrl eval RUN", "jaxrl render RUN", "jaxrl export RUN")
    for documented, command in typed:
        if documented.startswith(("jaxrl", "make")) and documented not in ours:
            assert documented in pages
        assert "500000" not in command and "<" not in command


def test_budgets_are_cut_and_given(user, monkeypatch):
    typed = []
    monkeypatch.setattr(User, "run", lambda self, page, command: typed.append(command))
    user.small("jaxrl train ppo --total-steps 500000 --folder runs/x")
    user.small("jaxrl train ppo --total-steps 5000")
    user.small("jaxrl sweep mine:a2c", "--folder runs/x")
    user.small("jaxrl train iql --dataset pendulum-mixed")
    user.small("jaxrl eval runs/x")
    assert typed == [
        "jaxrl train ppo --total-steps 20000 --folder runs/x",
        "jaxrl train ppo --total-steps 5000",
        "jaxrl sweep mine:a2c --total-steps 20000 --folder runs/x",
        "jaxrl train iql --dataset pendulum-mixed --total-updates 20000",
        "jaxrl eval runs/x",
    ]


def test_a_step_that_fails_is_shown_and_ends_all(user, capfd):
    user.run("true")
    with pytest.raises(SystemExit, match="somebody: 'echo why; exit 3' ended with 3"):
        user.run("echo why; exit 3")
    assert "why" in capfd.readouterr().out
    assert [step.status for step in user.steps] == [0, 3]


def test_a_command_is_stopped_once_there_is_something_to_resume(user):
    wait = "trap 'exit 130' INT; echo 1 > begun; while true; do sleep 0.01; done"
    user.run("jaxrl train", wait, stop=user.folder / "begun", status=130)


def test_what_a_shell_has_set_is_not_a_new_users(user, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    user.run("env", 'test -z "$PYTHONPATH$JAX_NUM_CPU_DEVICES"')


def test_what_was_measured_names_no_place(user, tmp_path):
    user.run("ls", f"ls {tmp_path} {ROOT}")
    output = tmp_path / "first_hour"
    first_hour.write([user], "all steps succeeded", 1, output)
    text = output.with_suffix(".json").read_text() + output.with_suffix(".md").read_text()
    assert str(tmp_path) not in text and str(ROOT) not in text and "| `ls` |" in text
