"""The house rules of CONTRIBUTING.md, read off the syntax trees of the code."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_CODE_LINES, MAX_FUNCTION_LINES, MAX_CLOSURE_DEPTH, MAX_POSITIONAL = 400, 70, 2, 6
MIN_TEST_RATIO = 0.6
Function = ast.FunctionDef | ast.AsyncFunctionDef

# What each part of jaxrl may import of jaxrl besides itself and `errors`. Part "" is
# jaxrl/__init__.py, which imports each public name when it is first used (tests/test_face.py).
# `config` holds the helpers for configuration dataclasses.
FOUNDATION = {"types", "core", "config"}
MODELS = FOUNDATION | {"nn", "envs", "data"}
LAYERS = {
    "": {"types", "envs", "algos", "train"},
    "errors": set(),
    "types": set(),
    "core": {"types"},
    "config": {"types", "core"},
    "nn": FOUNDATION,
    "envs": FOUNDATION,
    "data": MODELS,
    "algos": MODELS,
    "templates": MODELS,
    "train": MODELS | {"algos", "analysis"},
    "analysis": set(),
    "cli": MODELS | {"algos", "train", "analysis"},
    "__main__": {"cli"},
}
JAX_STACK = {"jax", "jaxlib", "flax", "optax", "chex", "orbax", "gymnax", "brax", "mujoco"}
FILES = {"os", "io", "pathlib", "shutil", "tempfile", "pickle", "json", "subprocess"}
CLOCKS = {"time", "datetime"}
CONSOLES = {"logging", "rich", "tyro", "matplotlib", "wandb", "tensorboardX", "orbax"}
FORBIDDEN_IN = {
    "errors": JAX_STACK,
    "types": JAX_STACK - {"jax"},
    "core": (JAX_STACK - {"jax", "chex", "optax"}) | FILES | CLOCKS | CONSOLES,
    "nn": FILES | CLOCKS | CONSOLES,
    "algos": FILES | CLOCKS | CONSOLES,
    "templates": FILES | CLOCKS | CONSOLES,
    "analysis": JAX_STACK,
}
DEVICES_AND_CALLBACKS = re.compile(
    r"jax\.(devices|local_devices|(local_)?device_count|device_put|process_index|distributed|sharding|make_mesh"
    r"|debug|pure_callback|experimental\.(io_callback|mesh_utils|multihost_utils))(\.|$)"
)
NEVER = re.compile(r"(jax\.pmap|distrax|tensorflow_probability|hydra|omegaconf)(\.|$)")
GLOBAL_RNG = re.compile(
    r"numpy\.random\.(?!default_rng|Generator|SeedSequence|BitGenerator|RandomState|PCG64|Philox)\w+"
)


class Source:
    """One file: its text, its tree and what its names stand for."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        self.package = [
            part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"
        ]
        self.is_package = path.name == "__init__.py"
        self.aliases = dict(self._aliases())

    @property
    def part(self) -> str:
        """The part of jaxrl that this file belongs to: core, nn, … ("" for jaxrl/__init__.py)."""
        return self.package[1] if len(self.package) > 1 else ""

    def at(self, line: int, text: str) -> str:
        return f"{self.name}:{line}: {text}"

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, full dotted name) of each thing imported, wherever in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield node.lineno, f"{self._module(node)}.{alias.name}"

    def references(self) -> Iterator[tuple[int, str]]:
        """(line, full dotted name) of each import and of each name that an import stands behind."""
        yield from self.imports()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute | ast.Name):
                head, _, rest = ast.unparse(node).partition(".")
                if head in self.aliases:
                    yield node.lineno, f"{self.aliases[head]}.{rest}".rstrip(".")

    def functions(self) -> Iterator[tuple[Function, int, bool]]:
        """(function, how many functions enclose it, whether a class holds it)."""

        def walk(node: ast.AST, depth: int) -> Iterator[tuple[Function, int, bool]]:
            for child in ast.iter_child_nodes(node):
                is_function = isinstance(child, Function)
                if is_function:
                    yield child, depth, isinstance(node, ast.ClassDef)
                yield from walk(child, depth + is_function)

        return walk(self.tree, 0)

    def public(self) -> Iterator[tuple[ast.ClassDef | Function, bool]]:
        """(definition, whether it is a method) of what other modules may use."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield node, False
                if isinstance(node, ast.ClassDef):
                    methods = (item for item in node.body if isinstance(item, Function))
                    yield from ((item, True) for item in methods if not item.name.startswith("_"))

    def _module(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        base = self.package[: len(self.package) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])

    def _aliases(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    head = alias.name.partition(".")[0]
                    yield (alias.asname, alias.name) if alias.asname else (head, head)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield alias.asname or alias.name, f"{self._module(node)}.{alias.name}"


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    return tuple(
        Source(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))
    )


def library() -> tuple[Source, ...]:
    return sources("jaxrl")


def everything() -> tuple[Source, ...]:
    return sources("jaxrl", "experiments", "benchmarks", "tests")


def hold(rule: str, violations: list[str]) -> None:
    if violations:
        pytest.fail(
            f"{rule} ({len(violations)}):\n  " + "\n  ".join(sorted(set(violations))), pytrace=False
        )


def positional(function: Function, is_method: bool) -> list[ast.arg]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in function.decorator_list)
    return arguments[1:] if is_method and not static else arguments


def test_imports_run_one_way():
    violations = []
    for source in library():
        if source.part not in LAYERS:
            violations.append(
                source.at(1, f"jaxrl.{source.part} has no place in the order of imports")
            )
            continue
        allowed = LAYERS[source.part] | {source.part, "errors"}
        for line, name in source.imports():
            head, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if head in ("experiments", "benchmarks", "tests"):
                violations.append(source.at(line, f"the library imports {name}"))
            if head == "jaxrl" and target and target in LAYERS and target not in allowed:
                violations.append(
                    source.at(line, f"{source.part or 'jaxrl/__init__.py'} imports {name}")
                )
    hold(
        "types ← core ← {nn, envs, data} ← algos ← train ← {cli, experiments, benchmarks}",
        violations,
    )


def test_no_files_import_each_other_in_a_circle():
    """Imports inside of functions, and those for type checkers alone, make no circle."""
    names = {".".join(source.package): source.name for source in library()}
    graph = {}
    for source in library():
        found = set()
        for node in source.tree.body:
            if isinstance(node, ast.ImportFrom):
                modules = [f"{source._module(node)}.{alias.name}" for alias in node.names]
                found |= {names.get(each, names.get(source._module(node))) for each in modules}
        graph[source.name] = found - {None, source.name}
    while leaves := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in leaves:
            del graph[name]
    hold(
        "no circles between files", [f"{name} → {', '.join(sorted(graph[name]))}" for name in graph]
    )


def test_each_part_stays_free_of_what_it_does_not_need():
    violations = [
        source.at(line, f"{source.part} imports {name}")
        for source in library()
        for line, name in source.imports()
        if name.partition(".")[0] in FORBIDDEN_IN.get(source.part, ())
    ]
    hold(
        "core: jax, chex and optax; analysis: no jax; algos: no file, clock, logger or console",
        violations,
    )


def test_algorithms_know_no_device_and_call_no_host():
    violations = [
        source.at(line, name)
        for source in library()
        if source.part in ("core", "nn", "algos", "templates")
        for line, name in source.references()
        if DEVICES_AND_CALLBACKS.match(name)
    ]
    hold("devices belong to the runner, and nothing calls the host inside a step", violations)


def test_never_used():
    violations = [
        source.at(line, name)
        for source in everything()
        for line, name in source.references()
        if NEVER.match(name)
    ]
    hold("no pmap, distrax, TensorFlow Probability or Hydra", violations)


def test_no_global_random_numbers():
    violations = [
        source.at(line, f"{name}: use numpy.random.default_rng(seed)")
        for source in everything()
        for line, name in source.references()
        if GLOBAL_RNG.match(name)
    ]
    hold("NumPy's global generator is not used", violations)


def test_files_hold_one_thing():
    lengths = [
        (source, code_lines(source))
        for source in everything()
        if source.name.split("/")[0] != "tests"
    ]
    hold(
        f"a file has at most {MAX_CODE_LINES} lines of code beside its docstrings: divide it, "
        "never squeeze it",
        [source.at(1, f"{length} lines") for source, length in lengths if length > MAX_CODE_LINES],
    )


def test_functions_are_short_flat_and_take_few_arguments():
    violations = []
    for source in everything():
        for function, depth, is_method in source.functions():
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                violations.append(source.at(function.lineno, f"{function.name} has {lines} lines"))
            if depth > MAX_CLOSURE_DEPTH:
                violations.append(
                    source.at(function.lineno, f"{function.name} is {depth} closures deep")
                )
            count = len(positional(function, is_method))
            if count > MAX_POSITIONAL:
                violations.append(
                    source.at(
                        function.lineno, f"{function.name} takes {count} positional arguments"
                    )
                )
    hold(
        f"at most {MAX_FUNCTION_LINES} lines, {MAX_CLOSURE_DEPTH} closures deep, {MAX_POSITIONAL} "
        "arguments",
        violations,
    )


def test_only_the_console_prints():
    console = re.compile(r"jaxrl/(cli/.*|train/output/console\w*(\.py|/.*))")
    violations = [
        source.at(node.lineno, ast.unparse(node)[:60])
        for source in library()
        if not console.fullmatch(source.name)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    hold("print is for jaxrl/cli and jaxrl/train/output/console", violations)


def test_what_is_public_is_documented_and_annotated():
    violations = []
    for source in library():
        for node, is_method in source.public():
            if not is_method and not ast.get_docstring(node):
                violations.append(source.at(node.lineno, f"{node.name} has no docstring"))
            if isinstance(node, Function):
                bare = [
                    item.arg
                    for item in positional(node, is_method) + node.args.kwonlyargs
                    if not item.annotation
                ]
                if bare or node.returns is None:
                    missing = ", ".join([*bare, *(["its result"] if node.returns is None else [])])
                    violations.append(
                        source.at(node.lineno, f"{node.name} leaves {missing} without a type")
                    )
    hold("public functions and classes have a docstring, and types", violations)


def test_no_todo_without_an_issue():
    bare = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\s*\(#\d+\))")
    violations = [
        source.at(token.start[0], token.string)
        for source in everything()
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
        if token.type == tokenize.COMMENT and bare.search(token.string)
    ]
    hold("a note of work to do names its issue: (#12)", violations)


def code_lines(source: Source) -> int:
    """Lines that are neither empty nor comments nor docstrings,
    of whatever they are the docstrings."""
    docstrings = {
        number
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(map(str.strip, source.text.splitlines()), start=1)
    return sum(
        bool(line) and not line.startswith("#") and number not in docstrings
        for number, line in lines
    )


def test_there_is_enough_test_code():
    tests, code = (sum(map(code_lines, sources(folder))) for folder in ("tests", "jaxrl"))
    assert tests >= MIN_TEST_RATIO * code, f"{tests} lines of tests for {code} lines of jaxrl"
