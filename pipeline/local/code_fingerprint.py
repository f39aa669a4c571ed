"""The sources of the code that a component runs, as one hash: it changes when they do, and with no other code."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from pipeline.installation import PACKAGES
from trainer.config import BUILT_IN_ENCODERS, ENCODER_ENTRY_POINTS


def fingerprint(modules: Iterable[str]) -> str:
    """Hashes modules of nnclr, all modules of nnclr that they import, and the templates beside these.

    Args:
        modules: names with dots.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name not in found and path is not None:
            found[name] = path
            waiting += _imports(name, path)
    files = {path for module in found.values() for path in (module, *module.parent.glob("*.j2"))}
    return _hash_of(sorted(files))


def of_encoder(name: str) -> str:
    """Hashes the package that declares an encoder of a user's own; an empty text for a built-in encoder."""
    if name in BUILT_IN_ENCODERS:
        return ""
    (declared,) = metadata.entry_points(group=ENCODER_ENTRY_POINTS, name=name)
    package = declared.module.partition(".")[0]
    spec = importlib.util.find_spec(package)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    files = [path for place in places for path in place.rglob("*.py")]
    if spec and spec.origin and not places:
        files = [Path(spec.origin)]
    return _hash_of(sorted(files))


def _hash_of(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.parent.name}/{path.name}:{content}\n".encode())
    return whole.hexdigest()


@functools.cache
def _file_of(module: str) -> Path | None:
    """The source of a module of nnclr; None for all others, and for names that are no modules."""
    package, _, below = module.partition(".")
    if package not in PACKAGES:
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*below.split(".")) if below else Path(spec.origin).parent
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@functools.cache
def _imports(module: str, path: Path) -> tuple[str, ...]:
    """Names that a source imports anywhere in it, and the packages that these lie in."""
    names = [module.rpartition(".")[0]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # What is imported from a package may be a module of it.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)
