"""A hook of MkDocs: pages that lie outside docs/, and links as they are in the repository.

The documents link to each other as files of the repository, so that they can be read there. On the site, docs/ is the
top folder, and files other than documents are missing.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
#: Documents outside docs/ that are pages of the site. README.md is its first page.
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "infra/README.md", "tests/benchmarks/PERFORMANCE.md")

_log = logging.getLogger("mkdocs.hooks.repository")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents outside docs/."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the page with links to pages of the site; a link to another file of the repository becomes its text."""
    source = page.file.src_uri
    # Python-Markdown, unlike GitHub, takes what is indented by less for the end of the list.
    for block in re.findall(r"^ {1,3}```.*", markdown, re.MULTILINE):
        _log.warning("%s: the block %r in a list must be indented by four spaces.", source, block.strip())
    folder = posixpath.dirname(source if source in OUTSIDE else f"docs/{source}")

    def replaced(link: re.Match) -> str:
        mark, text, target, anchor = link.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        uri = path.removeprefix("docs/")
        if files.get_file_from_path(uri) is not None:
            return f"{mark}[{text}]({posixpath.relpath(uri, posixpath.dirname(source) or '.')}{anchor or ''})"
        # MkDocs warns of a link to a file that does not exist.
        return text if (REPOSITORY / path).exists() else link[0]

    return _LINK.sub(replaced, markdown)
