"""HTML that is built of elements: text is escaped, whoever wrote it, and only elements are not."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already. Only the functions of this file, and our own files, make it."""


def element(tag: str, *inside: str, **attributes: object) -> Markup:
    """An element: `element("td", "a < b", class_="number")`; attributes that are None are left out.

    Underscores in attributes are dashes, and a last one is dropped.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is not None:
            written = html.escape(str(value), quote=True)
            words.append(f'{name.rstrip("_").replace("_", "-")}="{written}"')
    return Markup(f"<{' '.join(words)}>{joined(inside)}</{tag}>")


def joined(parts: Iterable[str]) -> Markup:
    """Parts one after the other; what is no markup is escaped."""
    return Markup(
        "".join(part if isinstance(part, Markup) else html.escape(part) for part in parts)
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()
) -> Markup:
    """A table whose first row names its columns; those at the places `numbers` hold numbers."""

    def cells(tag: str, row: Sequence[str]) -> Markup:
        return joined(
            element(tag, cell, class_="number" if place in numbers else None)
            for place, cell in enumerate(row)
        )

    body = [element("tr", cells("td", row)) for row in rows]
    whole = element(
        "table",
        element("thead", element("tr", cells("th", head))),
        element("tbody", *body),
    )
    return element("div", whole, class_="wide")


def section(title: str, *inside: str) -> Markup:
    """A part of the page under its title."""
    return element("section", element("h2", title), *inside)


def folded(title: str, *inside: str) -> Markup:
    """What is shown once somebody asks for it."""
    return element("details", element("summary", title), *inside)
