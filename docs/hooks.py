"""What the site shows beside the pages of this folder: the tutorial's notebook, and two files of the folder above, as pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ABOVE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}  # file: page on the site


def notebook(path: Path) -> str:
    """A notebook as Markdown: its code, and what it printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += ["```text\n" + "".join(out["text"]).rstrip() + "\n```" for out in cell.get("outputs", ())]
    return "\n\n".join([*parts, f"[This page as a notebook]({path.name})"])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {page: (ROOT / name).read_text() for name, page in ABOVE.items() if name != "README.md"}
    for page, text in (pages | {"tutorial.md": notebook(ROOT / "docs" / "tutorial.ipynb")}).items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links out of this folder lead to the pages that stand for those files; a notebook's to its page, but for its own."""
    for name, page in ABOVE.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown.replace("[tutorial](tutorial.ipynb)", "[tutorial](tutorial.md)")


def on_page_content(html: str, **_: Any) -> str:
    """Names that docstrings mark as reStructuredText does, without their marks: the last part of a name that is shortened there, too."""
    html = re.sub(r":(?:mod|class|func|meth|data|attr):(?=<code>)", "", html)
    return re.sub(r"<code>~[\w.]*?(\w+)</code>", r"<code>\1</code>", html)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Links of the page for an address that is not there lead from the site's own folder, wherever it lies."""
    return re.sub(r'((?:href|src)=|"(?:base|search)": )"/', r'\1"./', output_content) if template_name == "404.html" else output_content
