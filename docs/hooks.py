"""Hooks of the documentation site (mkdocs.yml)."""

import os.path
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Show links that leave docs/ as names of files: the repository has them, the site does not.

    tests/test_docs.py checks that they exist.
    """

    def shown(link: re.Match[str]) -> str:
        path = os.path.normpath(os.path.join(os.path.dirname(page.file.src_uri), link[2].partition("#")[0]))
        outside = path.removeprefix("../") if path.startswith("../") else ""
        if not outside:
            return link[0]
        return f"`{outside}`" if link[1].strip("/") in outside else f"{link[1]} (`{outside}`)"

    return LINK.sub(shown, markdown)
