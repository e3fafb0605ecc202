"""What the site makes of links that leave docs/: pictures come along, the rest leads to the code.

Named by mkdocs.yml as a hook. On a code host the links work as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "main"
LINK = re.compile(r"(?<=\]\()(\.\./[^)\s#]*)")
PICTURES = {".png", ".gif", ".svg", ".jpg"}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page's text, with links that the site can follow."""
    folder = posixpath.dirname(page.file.src_uri)

    def followed(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, link[1]))
        path = ROOT / target
        if target.startswith("docs/") or not path.exists():
            return link[1]  # to another page; or broken, which the build says
        if path.suffix not in PICTURES:
            kind = "tree" if path.is_dir() else "blob"
            return f"{config.repo_url.rstrip('/')}/{kind}/{BRANCH}/{target}"
        if files.get_file_from_path(target) is None:
            from mkdocs.structure.files import File

            files.append(File.generated(config, target, abs_src_path=str(path)))
        return posixpath.relpath(target, folder or ".")

    return LINK.sub(followed, markdown)
