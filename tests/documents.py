"""The commands that the documents show, for the tests that read or run them."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
#: What people read, in the order in which they may read it.
DOCUMENTS = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "infra" / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
]

_BLOCK = re.compile(r"^( *)```console\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Za-z_]+=.*")
_SEPARATORS = ("&&", "|", "&")


class Command(NamedTuple):
    """A command of a document.

    Attributes:
        document: Its path, relative to the repository.
        words: The program and its arguments, without variables, comments and redirections.
        inline: Whether it stands in a sentence, where it may lack arguments.
        output: The file that its output is redirected to, if any.
    """

    document: str
    words: tuple[str, ...]
    inline: bool = False
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"


def console_commands(text: str, document: str = "") -> Iterator[Command]:
    """Yields the commands after the prompts of a document's console blocks."""
    for _, block in _BLOCK.findall(text):
        for line in re.findall(r"^ *\$ (.*)", block.replace("\\\n", " "), re.MULTILINE):
            yield from _commands(line, document)


def inline_commands(text: str, document: str) -> Iterator[Command]:
    """Yields the commands of nnclr that stand in sentences; words in capitals stand for a user's own."""
    sentences = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`(nnclr [^`]*)`", sentences):
        for command in _commands(" ".join(code.split()), document):
            yield command._replace(inline=True)


def all_commands() -> list[Command]:
    """Returns the commands of all documents."""
    found = []
    for path in DOCUMENTS:
        text, document = path.read_text(encoding="utf-8"), str(path.relative_to(REPOSITORY))
        found += [*console_commands(text, document), *inline_commands(text, document)]
    return found


def _commands(line: str, document: str) -> Iterator[Command]:
    # A comment begins at a # that follows a space.
    words = shlex.split(line, comments=True)
    for is_separator, group in itertools.groupby(words, key=_SEPARATORS.__contains__):
        if is_separator:
            continue
        command = list(itertools.dropwhile(_ASSIGNMENT.fullmatch, group))
        if ">" in command:
            *command, _, output = command
            yield Command(document, tuple(command), output=output)
        elif command:
            yield Command(document, tuple(command))
