"""The one gate for code that run folders name: `package.module:Name` is imported only if asked.

A run folder is data, as a dataset is, and may be a stranger's. Importing what it names would run
whatever the name stands for, so a stored name with a colon needs the user's word: the same name on
this command line, or `--trust`. A name without a colon is jaxrl's own or one that an installed
package adds by an entry point: to install a package was to trust it, and no folder can name
anything else of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxrl.errors import JaxrlError


@dataclass(frozen=True)
class Trust:
    """Whose code a run folder or a dataset may have imported."""

    trust: bool = False
    """Import whatever a run folder or a dataset names as package.module:Name:
    for those of people whose code you would run."""
    imports: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Import this name, package.module:Name, where a run folder or a dataset holds it;
    may be given several times."""

    def also(self, *names: str) -> Trust:
        """The same, and `names` that the user has typed."""
        return Trust(self.trust, (*self.imports, *(name for name in names if ":" in name)))

    def check(self, description: dict[str, Any], folder: Path | str) -> None:
        """Refuse a description whose environment or algorithm is code which nobody has asked for.

        Which settings are parts that are chosen by name, the algorithm says: they are held back one
        by one (`allow`) where the configuration is read.
        """
        for kind in ("environment", "algorithm"):
            name = description.get(kind)
            if isinstance(name, str) and ":" in name:
                self.allow(folder, kind, name)

    def check_measures(self, description: dict[str, Any], folder: Path | str) -> None:
        """Refuse measures that nobody has asked for: they are code, which only training needs."""
        names = description.get("run", {}).get("measures", ())
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str):
                self.allow(folder, "measure", name)

    def allow(self, folder: Path | str, kind: str, name: str) -> None:
        """Refuse `name`, package.module:Name, a folder's `kind`, unless it was asked for."""
        if self.trust or name in self.imports:
            return
        # What is to be typed is a plain name, or it might be a command of the stranger's.
        by_name = f"--imports {name}, or " if re.fullmatch(r"[\w.]+:\w+", name) else ""
        raise JaxrlError(
            f"{folder} names its {kind} as {name!r}, which would be imported and run. If you know "
            f"whose code that is, say so: {by_name}--trust for whatever it names."
        )


NOBODY = Trust()
