"""What a public host runs and shows: workflows, hooks and the container say what is in the code."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from jaxrl import cli
from jaxrl.cli import train as command

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
PYTHONS = {
    line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)
}


def jobs(workflow: Path) -> list[dict]:
    return list(yaml.safe_load(workflow.read_text())["jobs"].values())


def commands(workflow: Path) -> list[list[str]]:
    """The words of every command that a workflow runs."""
    runs = [step["run"] for job in jobs(workflow) for step in job["steps"] if "run" in step]
    return [shlex.split(line, comments=True) for run in runs for line in run.splitlines()]


def test_there_is_a_workflow_for_each_promise():
    assert {path.stem for path in WORKFLOWS} == {"tests", "nightly", "wheel", "docs"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_its_actions_have_a_version(path):
    read = yaml.safe_load(path.read_text())
    assert read["permissions"] == {"contents": "read"}
    assert read["concurrency"]["cancel-in-progress"] is True
    for job in jobs(path):
        assert job["timeout-minutes"] <= 360
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert used and all(re.fullmatch(r"actions/[a-z-]+@v\d+", each) for each in used)
    # Only what publishes the documentation may write, and only there.
    writing = [job["permissions"] for job in jobs(path) if "permissions" in job]
    assert writing == ([{"pages": "write", "id-token": "write"}] if path.stem == "docs" else [])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_commands_of_a_workflow_exist(path, monkeypatch):
    monkeypatch.setattr(command.loop, "train", lambda *_, **__: None)
    monkeypatch.setattr(command.report, "finish", lambda *_: 0)
    found = commands(path)
    assert found
    for program, *words in found:
        if program == "make":
            targets = [word for word in words if "=" not in word]
            assert targets and set(targets) <= TARGETS, words
            for extras in (word for word in words if word.startswith("EXTRAS=")):
                asked = extras.removeprefix("EXTRAS=").split(",")
                assert set(asked) <= set(PROJECT["optional-dependencies"])
        if program.endswith("jaxrl"):
            assert cli.main(words) == 0, words
        for word in words:
            if re.match(r"(tests|benchmarks|experiments)/", word) or word == "constraints.txt":
                assert (ROOT / word).exists(), word


def test_what_has_to_pass_here_has_to_pass_there():
    here = re.findall(r"^make (\S+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    there = [words for path in WORKFLOWS if path.stem != "nightly" for words in commands(path)]
    assert here and all(["make", target, "PYTHON=python"] in there for target in here)


def test_every_python_that_is_promised_is_tested():
    (job,) = jobs(ROOT / ".github" / "workflows" / "tests.yml")
    assert set(job["strategy"]["matrix"]["python"]) == PYTHONS
    nightly = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())
    setup = nightly["jobs"]["first-hour"]["steps"][1]
    assert set(setup["with"]["python-version"].split()) == PYTHONS


def test_hooks_have_the_versions_of_the_tests():
    first, local = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pinned = f"ruff=={first['rev'].removeprefix('v')}"
    assert pinned in (ROOT / "constraints.txt").read_text().splitlines()
    assert [hook["id"] for hook in first["hooks"]] == ["ruff-check", "ruff-format"]
    program, target = local["hooks"][0]["entry"].split()
    assert program == "make" and target in TARGETS


def test_the_container_has_what_it_is_made_of_and_no_root():
    text = (ROOT / "Dockerfile").read_text()
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    assert {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= {
        *kept
    }
    assert set(re.findall(r"EXTRAS=([a-z]+\d+)", text)) <= set(PROJECT["optional-dependencies"])
    assert re.search(r"^USER jaxrl$.*^ENTRYPOINT \[\"jaxrl\"\]$", text, re.MULTILINE | re.DOTALL)
    assert re.search(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)[1] in PYTHONS


def test_templates_ask_for_the_version_and_the_command():
    read = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    asked = {part["id"]: part for part in read["body"]}
    assert {"version", "command", "printed"} <= asked.keys()
    assert "`jaxrl --version`" in asked["version"]["attributes"]["description"]
