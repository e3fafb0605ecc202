"""A configuration as the parser reads it: a dataclass of its settings by flat name.

Those of the chosen parts are among them.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from jaxrl.cli.options import names_given
from jaxrl.config import Family, chosen, no_such_option, override, possible, replace_leaves


def parts_named(config: Any, prog: str, words: Sequence[str]) -> dict[str, str]:
    """The parts that `words` name, by flat name."""
    given = names_given(words)
    parts = chosen(choose_parts(config, prog, words))
    return {name: part for name, part in parts.items() if name in given}


def choose_parts(config: Any, prog: str, words: Sequence[str]) -> Any:
    """`config` with the parts that `words` name: which options there are depends on them.

    What is no name of a part stays for the parser, which knows what else there is to say.
    """
    while usual := chosen(config):
        fields = [(name, str, dataclasses.field(default=part)) for name, part in usual.items()]
        early: Any = dataclasses.make_dataclass("Parts", fields)
        asked, _ = tyro.cli(early, prog=prog, args=words, return_unknown_args=True, add_help=False)
        known = {
            each.setting.name: each.setting.family
            for each in possible(config)
            if each.setting.family
        }
        named = {
            name: part
            for name, part in vars(asked).items()
            if ":" in part or part in known[name].names()
        }
        config = override(config, named)
        if chosen(config).keys() == usual.keys():
            return config
    return config


def form_of(config: Any) -> Any:
    """A filled form: an object of a dataclass made for `config`, with a field per setting."""
    return _form(config, "", is_part=False)


def filled(config: Any, form: Any) -> Any:
    """`config` as a form of its kind says."""
    return replace_leaves(config, _values(form))


def refuse_unchosen(config: Any, words: Sequence[str]) -> None:
    """Refuse the options among `words` that only a part which was not chosen has."""
    names = [each.setting.name for each in possible(config) if each.choices]
    given = names_given(words)
    for name in names:
        if name in given:
            raise no_such_option(config, name)


def _form(config: Any, prefix: str, *, is_part: bool) -> Any:
    """`form_of` a configuration inside of one, whose settings' names begin with `prefix`.

    The form's fields say what is basic; the options of a part, in a group of their own, of which.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    docs = field_docs(config.__class__)
    kinds: dict[str, Any] = {}
    values: dict[str, Any] = {}
    declared: dict[str, Any] = {}
    basic = {each.name for each in dataclasses.fields(config) if each.metadata.get("basic")}
    if not is_part:
        basic |= _undeclared(type(config))
    for field in dataclasses.fields(config):
        name = prefix + field.name
        value = getattr(config, field.name)
        text = docs.get(field.name, "")
        family = field.metadata.get("family")
        declared[name] = {"basic": field.name in basic}
        if family:
            values[name] = family.name_of(value)
            kinds[name] = _choice(family, value, text)
            declared[group := f"{name}_{type(value).__name__}"] = {"part": name}
            name = group
        elif not dataclasses.is_dataclass(value):
            values[name] = value
            kinds[name] = Annotated[hints[field.name], tyro.conf.arg(help=text or None)]
        if dataclasses.is_dataclass(value) and dataclasses.fields(value):
            inner = prefix + field.metadata.get("prefix", "")
            values[name] = _form(value, inner, is_part=family is not None)
            kinds[name] = Annotated[type(values[name]), tyro.conf.OmitArgPrefixes]
    fields = [
        (name, kind, dataclasses.field(metadata=declared[name])) for name, kind in kinds.items()
    ]
    made = dataclasses.make_dataclass(type(config).__name__, fields, frozen=True, kw_only=True)
    made.__doc__ = type(config).__doc__
    return made(**values)


def _undeclared(kind: type) -> set[str]:
    """The fields of those classes, of which `kind` is made, that declare none of them basic.

    A budget is that in any case, and says nothing of the others.
    """
    fields = {each.name: each for each in dataclasses.fields(kind)}
    found: set[str] = set()
    for each in kind.__mro__:
        own = inspect.get_annotations(each).keys() & fields.keys()
        declared = [fields[name].metadata for name in own]
        if not any(one.get("basic") and "budget" not in one for one in declared):
            found |= own
    return found


def _choice(family: Family, current: Any, text: str) -> Any:
    """The type of the option that chooses a part."""
    members = family.members(current)
    lines = [text]
    for name, each in members.items():
        summary, _, _ = (inspect.getdoc(type(each)) or "").partition("\n")
        lines.append(f"{name}: {summary}")
    lines.append("Or package.module:Name.")
    about = "\n".join(lines)
    return Annotated[Literal[tuple(members)], tyro.conf.arg(help=about)]


def _values(form: Any) -> dict[str, Any]:
    """What a form says, by flat name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(form):
        value = getattr(form, field.name)
        found |= _values(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


@functools.cache
def field_docs(config_class: type) -> dict[str, str]:
    """The string under each field of a class and of those that it derives from."""
    docs: dict[str, str] = {}
    for each in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        try:
            (statement,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            # A class without a source, made in a console.
            continue
        body = statement.body if isinstance(statement, ast.ClassDef) else []
        for field, following in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = following.value if isinstance(following, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    docs[field.target.id] = " ".join(text.value.split())
    return docs
