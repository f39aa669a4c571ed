"""The messages of all errors that nnclr raises for a user's mistake, read from its sources without importing them."""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

REPOSITORY = Path(__file__).parents[2]
#: What stands for a value that a message names.
VALUE = "…"

_PACKAGES = ("trainer", "components", "pipeline")
# A sentence, or the part after a colon, that begins with one of these verbs tells the user what to do.
_VERBS = (
    "add allow call choose close convert copy correct create delete divide download empty end enlarge exclude "
    "finish free give ingest install keep leave lower make mount move name number permit put quote raise remove "
    "rename repair replace retry roll run set show start train upgrade use wait write"
)
# What is allowed is advice as well.
_ALLOWED = (
    r"there are: |\b(?:takes|needs|must (?:be|have|take|give|map|see)|expected|known \w+ are|it has|no option|"
    r"registered models|existing schedules|its parameters|placeholders are|for example|supports neither|counted from)\b"
)
_ADVICE = re.compile(rf"(?:^|[:;.,] )(?:or |and |then |otherwise )?(?:{'|'.join(_VERBS.split())})\b", re.IGNORECASE)


class Message(NamedTuple):
    """A message of the code.

    Attributes:
        text: The sentence, with `VALUE` for each value that it names.
        exit_code: The exit code of a command that ends with it; None if it is a part of another message.
        file: The module, relative to the repository.
    """

    text: str
    exit_code: int | None
    file: str

    @property
    def advises(self) -> bool:
        """Whether the message itself says what to do, or what is allowed."""
        return bool(_ADVICE.search(self.text) or re.search(_ALLOWED, self.text, re.IGNORECASE))


@functools.cache
def messages() -> list[Message]:
    """Returns all messages, by file and then in the order of their lines; equal messages of a file are one."""
    modules = {
        str(path.relative_to(REPOSITORY)): ast.parse(path.read_text(encoding="utf-8"))
        for package in _PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*.py"))
    }
    codes = _exit_codes(modules)
    found = []
    for file, tree in modules.items():
        scope = _texts(tree)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
        for call in sorted(calls, key=lambda call: call.lineno):
            name = ast.unparse(call.func).rpartition(".")[2]
            if name in codes:
                sentences = (" ".join(text.split()) for text in _alternatives(call.args[0], scope))
                found += [Message(text, codes[name], file) for text in sentences if re.search(r"\w", text)]
    return list(dict.fromkeys(found))


def remedies() -> dict[str, str]:
    """Returns what to do about the messages that do not say it themselves, as Markdown, by their texts."""
    entries = yaml.safe_load(Path(__file__).with_name("remedies.yaml").read_text(encoding="utf-8"))
    return {text: entry["remedy"] for entry in entries for text in entry["messages"]}


def _exit_codes(modules: Mapping[str, ast.Module]) -> dict[str, int | None]:
    """Returns the exit code of each class of errors; None for errors whose text becomes a part of another message."""
    numbers = dict(_numbers(modules["trainer/errors.py"]))
    classes = [node for tree in modules.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    codes: dict[str, int | None] = {}
    # A class may be defined in a module that is read before that of its base.
    for _ in classes:
        for node in classes:
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            known = [base for base in bases if base in codes or base == "Exception"]
            if known:
                own = [line.value for line in node.body if ast.unparse(line).startswith("exit_code = ")]
                codes[node.name] = numbers[own[0].id] if own else codes.get(known[0])
    return codes


def _numbers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yields the names and values of a module's tuples of numbers, as in `DONE, FAILED = 0, 1`."""
    for line in tree.body:
        if (
            isinstance(line, ast.Assign)
            and isinstance(line.targets[0], ast.Tuple)
            and isinstance(line.value, ast.Tuple)
        ):
            for name, value in zip(line.targets[0].elts, line.value.elts, strict=False):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                    yield name.id, value.value


def _texts(tree: ast.Module) -> dict[str, ast.expr]:
    """Returns the expressions of a module's constants, and of what its functions return, by their names."""
    texts = {}
    for line in tree.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            texts[line.targets[0].id] = line.value
        elif isinstance(line, ast.FunctionDef) and isinstance(line.body[-1], ast.Return) and line.body[-1].value:
            texts[line.name] = line.body[-1].value
    return texts


def _alternatives(node: ast.expr, scope: Mapping[str, ast.expr]) -> list[str]:
    """Returns the texts that an expression can have."""
    match node:
        case ast.Constant(str(text)):
            return [text]
        case ast.FormattedValue(ast.Name(name)) if isinstance(scope.get(name), ast.Constant):
            return _alternatives(scope[name], {}) if isinstance(scope[name].value, str) else [VALUE]
        case ast.Call(ast.Name(name)) if isinstance(scope.get(name), ast.JoinedStr | ast.Constant):
            return _alternatives(scope[name], {})
        case ast.IfExp():
            return _alternatives(node.body, scope) + _alternatives(node.orelse, scope)
        case ast.JoinedStr():
            parts = [_alternatives(part, scope)[0] for part in node.values]
            return [re.sub(f"{VALUE}+", VALUE, "".join(parts))]
    return [VALUE]
