"""Files of somebody's, made of what `jaxrl new` writes, with or without a mistake in them."""

import importlib
import itertools
import sys
from importlib import resources

import pytest

_numbers = itertools.count()


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Write a template with changes into a working folder of its own: the name of its module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    written = []

    def write(template: str, *changes: tuple[str, str]) -> str:
        text = (resources.files("jaxrl.templates") / f"{template}.py").read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {template}"
            text = text.replace(old, new)
        name = f"outside_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)
