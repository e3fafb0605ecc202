"""What the documentation says: links resolve, Python runs, commands parse,
signatures and metrics are the code's."""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import cli
from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.algos.registry import algorithm_names, load
from jaxrl.analysis.runs import load_run
from jaxrl.cli import check, dataset, export, from_file, report, spelling
from jaxrl.cli import train as command
from jaxrl.config import possible
from jaxrl.envs import registry
from jaxrl.envs.suites.probe import ActionReward
from jaxrl.train import build as building
from jaxrl.train.build import build
from jaxrl.train.devices.distributed import Processes
from jaxrl.train.experiment import RunSettings
from jaxrl.train.inputs import Input
from jaxrl.types import Actor, Agent, feed_forward
from tests.algos.offline import of_episodes

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
RUNNABLE = [
    "README.md",
    "docs/python.md",
    "docs/faq.md",
    "docs/coming-from.md",
    "docs/add-your-environment.md",
    "docs/add-your-algorithm.md",
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z]{2,}|…")
SITE = (ROOT / "mkdocs.yml").read_text()
OFFLINE = {"bc", "td3_bc", "rebrac", "iql", "ofql", "dql", "fql"}
OFFLINE |= {"decision_mamba", "decision_transformer"}
COUNTERS = {"iteration", "transitions", "seconds"}


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    return [text for kind, text in FENCED.findall(page.read_text()) if kind == language]


def anchors(page):
    """The fragments that a page's headings get, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(page):
    """Every `jaxrl …` of a page's blocks and code spans,
    but for bare names and those with placeholders."""
    text = page.read_text()
    prose = FENCED.sub("", text)
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^    (.+)$", prose, re.MULTILINE) + re.findall(
        r"`(jaxrl \w+ [^`]+)`", prose
    )
    for line in lines:
        words = (
            shlex.split(re.sub(r"^(\w+=\S+ )+", "", line.strip()), comments=True)
            if "jaxrl " in line
            else []
        )
        if words[:1] == ["jaxrl"] and not any(
            PLACEHOLDER.search(word) for word in words if "=" not in word
        ):
            yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        path, _, fragment = target.partition("#")
        if re.match(r"https?:", path):
            continue
        file = (page.parent / path) if path else page
        if not file.exists() or (fragment and fragment not in anchors(file)):
            broken.append(target)
    assert not broken


def test_the_index_lists_every_page():
    listed = re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text())
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(listed) == pages - {"index.md"}
    # mkdocs.yml, by lines: what reads YAML is no dependency of the tests.
    navigation = re.findall(r"^ +- [^:]+: ([\w/-]+\.md)$", SITE, re.MULTILINE)
    assert sorted(navigation) == sorted(pages)


def test_the_site_has_every_public_name():
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^::: (.+)$", text, re.MULTILINE))
    for place in jaxrl._PUBLIC.values():
        module, _, attribute = f"jaxrl.{place}".partition(":")
        assert {module, f"{module}.{attribute}"} & shown, place
    for name in algorithm_names():
        config = load(name).config_class
        assert f"{config.__module__}.{config.__name__}" in shown


def test_links_out_of_the_docs_lead_to_the_repository():
    spec = importlib.util.spec_from_file_location("docs_links", DOCS / "links.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    copied = []
    files = types.SimpleNamespace(get_file_from_path=lambda path: copied.append(path) or path)
    config = types.SimpleNamespace(repo_url="https://example.org/jaxrl/")

    def followed(page, link):
        file = types.SimpleNamespace(src_uri=page)
        text = f"see [it]({link}), (../README.md)"
        found = hook.on_page_markdown(text, types.SimpleNamespace(file=file), config, files)
        return found.removeprefix("see [it](").removesuffix("), (../README.md)")

    code = "https://example.org/jaxrl/blob/main"
    assert followed("map.md", "../jaxrl/types.py") == f"{code}/jaxrl/types.py"
    assert followed("api/types.md", "../../jaxrl/types.py") == f"{code}/jaxrl/types.py"
    assert followed("ppo.md", "../CONTRIBUTING.md#commits") == f"{code}/CONTRIBUTING.md#commits"
    assert followed("ppo.md", "../jaxrl") == "https://example.org/jaxrl/tree/main/jaxrl"
    # A picture comes along; another page is the site's, and what is broken is left to its build.
    picture = "experiments/results/stepmix.png"
    assert followed("results.md", f"../{picture}") == picture == copied[-1]
    assert followed("api/types.md", f"../../{picture}") == f"../{picture}"
    for link in ("../ppo.md#metrics", "../../nothing.md", "https://x.org/../y"):
        assert followed("api/types.md", link) == link


def test_the_map_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("docs_map", ROOT / "docs" / "map.py")
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert (ROOT / "docs" / "map.md").read_text() == drawing.page(), (
        "draw it again: python docs/map.py"
    )
    for file in drawing.ANSWERS.values():
        assert (ROOT / "jaxrl" / file).is_file()


# What comes with jaxrl was trained with all optimisations, which tests do without.
@pytest.mark.filterwarnings("ignore:.*was trained under other settings of JAX")
@pytest.mark.parametrize("page", RUNNABLE)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    module = types.ModuleType("documented")  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    code = blocks(ROOT / page, "python")
    assert code
    # As users have it. Under vmap the checker takes the branches of a cond for two uses of a key.
    with jax.debug_key_reuse(False):
        for block in code:
            exec(compile(block, page, "exec"), vars(module))


def test_the_tuner_of_the_page_tunes(tmp_path, monkeypatch, capsys):
    """With fewer and shorter rounds than the page has; both numbers move, and each is told once."""
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(DOCS / "tuning.md", "python")
    for there, here in {
        "POPULATION, SEEDS = 8, 3": "POPULATION, SEEDS = 3, 2",
        "range(4)": "range(2)",
        "total_steps=100_000": "total_steps=2048, num_envs=4, hidden_sizes=(8,)",
    }.items():
        assert there in code
        code = code.replace(there, here)
    run = jaxrl.RunSettings(num_evaluations=1, evaluation_episodes=4)
    names = {"__name__": "tuning"}
    code = code.replace("progress=False,", "progress=False, run=QUICK,")
    with jax.debug_key_reuse(False):
        exec(code, names | {"QUICK": run})
    assert "learning_rate" in capsys.readouterr().out
    swept = [load_run(tmp_path / "runs" / "tuned" / number) for number in "01"]
    rates = [setting["learning_rate"] for each in swept for setting in each.settings]
    assert len(set(rates)) == 6 and [each.seeds for each in swept] == [[0, 1], [2, 3]]


def test_an_environment_takes_fewer_than_40_lines():
    first = blocks(ROOT / "docs" / "add-your-environment.md", "python")[0]
    assert "class Corridor" in first and len(first.splitlines()) < 40


@pytest.mark.parametrize(
    ("page", "template"), [("add-your-algorithm", "ars"), ("add-your-environment", "corridor")]
)
def test_a_page_shows_what_jaxrl_new_writes(page, template):
    first = blocks(ROOT / "docs" / f"{page}.md", "python")[0]
    assert first == (ROOT / "jaxrl" / "templates" / f"{template}.py").read_text()


def some_steps(env):
    """A dataset of an environment: one episode of twenty steps, in which nothing happens."""
    observed, acted = env.observation_space, env.action_space
    action = np.zeros((20, *acted.shape), acted.dtype)
    return of_episodes(env, np.zeros((20, *observed.shape)), action, np.ones(20), [20], False)


@pytest.fixture
def parse_only(monkeypatch, tmp_path):
    """Commands parse and check what they are given, and then do nothing but write templates."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for own_name in ("mine", "search"):
        monkeypatch.delitem(sys.modules, own_name, raising=False)
    monkeypatch.setattr(check, "_report", lambda console, findings: 0)
    own = types.ModuleType("corridor")
    own.Corridor = ActionReward
    own.parameter_norm = own.upright = lambda algorithm, state, inputs, key: 0.0
    for path in ("corridor", "my_package.my_module", "my_measures"):
        monkeypatch.setitem(sys.modules, path, own)
    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    monkeypatch.setattr(command, "environment_of", lambda *_: ("maze/point-large", {}))
    monkeypatch.setattr(command.loop, "train", lambda experiment, *_, **__: build(experiment))
    monkeypatch.setattr(command.loop, "check_request", lambda *_: None)
    monkeypatch.setattr(
        command.loop, "resume", lambda *_, **__: types.SimpleNamespace(experiment=None)
    )
    # Run folders and files of the reader's are not there, but for those that the page shows.
    read_file = from_file.read
    monkeypatch.setattr(
        from_file,
        "read",
        lambda path, trust: (
            read_file(path, trust) if path.suffix else {"env": "CartPole-v1", "seed": 3}
        ),
    )
    action = feed_forward(lambda policy, observation, key: jnp.zeros((), jnp.int32))
    baseline = Actor((), Agent(init=lambda key: (), modes={"deterministic": action}))
    saved = {"deep_stepmix": {"baseline": Input(baseline, sha256="")}}

    def read(factory, config, environment, env, trust):
        if factory.__name__ in OFFLINE:
            return {"dataset": Input(some_steps(env), sha256="")}
        return saved.get(factory.__name__, {})

    monkeypatch.setattr(building, "read_inputs", read)
    nobody = Input((), sha256="")
    monkeypatch.setattr(building, "read_first_policies", lambda experiment, player: nobody)
    for function in ("evaluate", "finish", "finish_turns"):
        monkeypatch.setattr(command.report, function, lambda *_, **__: 0)
    for function in ("plot", "render", "collect"):
        monkeypatch.setattr(command.report, function, lambda *_, **__: None)
    monkeypatch.setattr(command.report, "read_runs", lambda folders: [])
    monkeypatch.setattr(report, "read_runs", lambda folders: [])
    monkeypatch.setattr(report, "write_page", lambda shown, path: path.touch())
    monkeypatch.setattr(export, "write_csv", lambda runs, path: path.touch() or 0)
    kinds = {name: kind for name, (kind, _) in dataset.COMMANDS.items()}
    nothing = {name: (kind, lambda given: None) for name, kind in kinds.items()}
    monkeypatch.setattr(dataset, "COMMANDS", nothing)


def needs_another_package(arguments):
    """Whether the command makes an environment of a suite that is not installed here."""
    environment = dict(zip(arguments, arguments[1:], strict=False)).get("--env")
    return any(
        environment in suite.IDS and registry.missing(suite) for suite in registry.suites().values()
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_command_lines_parse(page, parse_only, monkeypatch, capsys):
    # Environments of the reader's own take whatever options the page gives them.
    construct = registry.construct
    monkeypatch.setattr(
        registry,
        "construct",
        lambda name, *rest: ActionReward() if ":" in name else construct(name, *rest),
    )
    for block in blocks(page, "toml"):
        first = block.partition("\n")[0]
        if first.startswith("# "):
            Path(first.removeprefix("# ")).write_text(block)
    for arguments in command_lines(page):
        if arguments[1:2] == ["ars"]:  # the algorithm that the reader is writing
            continue
        if needs_another_package(arguments):
            continue
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = stop.code
        assert not status, f"jaxrl {shlex.join(arguments)}\n{capsys.readouterr()}"


def table_rows(page):
    """(theirs, ours, what differs) of each row of a page's tables of three columns."""
    rows = re.findall(r"^\| (.+?) \|(.*)\|(.*)\|$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return [tuple(cell.strip() for cell in row) for row in rows]


def test_the_command_line_knows_whatever_is_only_called_otherwise_elsewhere():
    renamed = []
    for theirs, ours, difference in table_rows(DOCS / "coming-from.md"):
        name, option = re.fullmatch(r"`(\w+)`", theirs), re.fullmatch(r"`--([a-z-]+)`", ours)
        if name and option and not difference:
            here = option[1].replace("-", "_")
            assert here in spelling.NAMES.get(name[1].lower(), (name[1].lower(),)), theirs
            renamed.append(here)
    assert len(renamed) > 15


def test_what_is_said_to_be_there_beside_others_is_shown():
    rows = [line for line in (DOCS / "comparison.md").read_text().splitlines() if "yes" in line]
    defined = {
        path: set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
        for path in (ROOT / "tests").rglob("*.py")
    }
    shown = 0
    for row in (line.split(" | ") for line in rows if line.startswith("| ")):
        assert len(row) == 8, row
        assert not row[1].startswith("yes") or re.search(r"\]\(|`", row[1]), row
        for test, file in re.findall(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)\)", row[1]):
            assert test in defined[ROOT / file], row
            shown += 1
    assert shown > 20


def test_every_command_is_documented():
    documented = {
        arguments[0] for arguments in command_lines(ROOT / "docs" / "cli.md") if arguments
    }
    kinds = r"^  (\w+) (?:ALGORITHM|RUN|KIND|NAME|\[TEXT\])"
    used = set(re.findall(kinds, cli.USAGE, re.MULTILINE))
    assert {"new", "check"} <= used <= documented


def contract_classes():
    """(module, class node) for each class that docs/contracts.md shows."""
    for block in blocks(ROOT / "docs" / "contracts.md", "python"):
        for part in re.split(r"^# (?=jaxrl)", block, flags=re.MULTILINE)[1:]:
            module, _, code = part.partition("\n")
            yield from ((module, node) for node in ast.parse(code).body)


@pytest.mark.parametrize(
    ("module", "shown"), [pytest.param(m, c, id=f"{m}.{c.name}") for m, c in contract_classes()]
)
def test_contracts_show_the_codes_signatures(module, shown):
    actual = getattr(importlib.import_module(module), shown.name)
    for node in shown.body:
        if isinstance(node, ast.FunctionDef):
            signature = inspect.signature(getattr(actual, node.name))
            assert [argument.arg for argument in node.args.args] == list(signature.parameters)
            assert ast.unparse(node.returns) == signature.return_annotation
        else:
            assert hasattr(actual, node.target.id) or node.target.id in actual.__annotations__
    if all(isinstance(node, ast.AnnAssign) for node in shown.body):
        names = getattr(actual, "_fields", None) or tuple(actual.__dataclass_fields__)
        assert tuple(node.target.id for node in shown.body) == names


def test_ppo_documents_every_metric_and_no_other():
    text = (ROOT / "docs" / "ppo.md").read_text()
    table = text.partition("## Metrics")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    algorithm = ppo(ActionReward(), PPOConfig(num_envs=2, num_steps=4, minibatch_size=4))
    _, metrics = jax.eval_shape(lambda key: algorithm.step(algorithm.init(key)), jax.random.key(0))
    assert sorted(documented) == sorted(COUNTERS | set(metrics))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_named_in_passing_exist(page):
    configs = [load(algorithm).config_class() for algorithm in algorithm_names()]
    known = {each.setting.name.replace("_", "-") for config in configs for each in possible(config)}
    known |= {field.name.replace("_", "-") for field in dataclasses.fields(Processes)}
    known |= {f"no-{field}" for field in known}
    options = [*(ROOT / "jaxrl" / "cli").glob("*.py"), ROOT / "jaxrl" / "train" / "trust.py"]
    words = (word for source in options for word in re.findall(r"[a-z_]+", source.read_text()))
    known |= {word.replace("_", "-") for word in words}
    known |= {"env-options", "no-tuned", "num-directions"}
    known |= {field.name.replace("_", "-") for field in dataclasses.fields(RunSettings)}
    named = re.findall(r"`(?:jaxrl [^`]*)?--([a-z][a-z_-]+)", FENCED.sub("", page.read_text()))
    spelt = {word.replace("_", "-") for word in named}
    assert not spelt - known - {"quick", "report-only", "tasks"}
