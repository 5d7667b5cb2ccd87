"""Bring pages from outside `docs` into the site, and point the links of all pages at them.

On GitHub every page is read where it lies, and links lead from file to file. The site has only the
folder `docs`. So README, CONTRIBUTING and CHANGELOG become pages of the site, and a link to a file
that the site does not have keeps its text and loses its target.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Pages from outside `docs`, and what they are called in the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.M | re.S)


def on_files(files: Files, config) -> Files:
    """Add the pages from outside."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Rewrite the links of a page, outside code."""
    here = page.file.src_uri
    source = {target: name for name, target in PAGES.items()}.get(here, f"docs/{here}")
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [_relink(markdown[end : code.start()], source, here, files), code[0]]
        end = code.end()
    return "".join([*parts, _relink(markdown[end:], source, here, files)])


def _relink(text: str, source: str, here: str, files: Files) -> str:
    """Rewrite the links of `source`, a file of the repository, for the page `here`."""

    def replaced(link: re.Match) -> str:
        mark, words, address = link.groups()
        path, sharp, anchor = address.partition("#")
        if re.match(r"\w+:", address) or not path:
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        target = PAGES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(target) is None:
            return link[0] if target.startswith("..") or mark else words
        relative = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"{mark}[{words}]({relative}{sharp}{anchor})"

    return LINK.sub(replaced, text)
