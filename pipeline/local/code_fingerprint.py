"""Hashes of the source code that a component runs; other code does not affect them."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from components.image_example_gen.sources.opening import ENTRY_POINTS as SOURCE_ENTRY_POINTS
from pipeline.installation import PACKAGES
from trainer import built_in_encoders
from trainer.config import EncoderSettings


def modules_fingerprint(modules: Iterable[str]) -> str:
    """Hashes modules of nnclr, all modules of nnclr that they import, and the templates in their folders.

    Args:
        modules: Dotted names of the modules to start from.
    """
    sources: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        path = _source_file(name)
        if name not in sources and path is not None:
            sources[name] = path
            pending += _imports(name, path)
    files = {path for source in sources.values() for path in (source, *source.parent.glob("*.j2"))}
    return _files_hash(sorted(files))


def encoder_fingerprint(settings: EncoderSettings) -> str:
    """Hashes the modules of a built-in encoder, which nothing imports, or the package of a user's own encoder.

    Args:
        settings: Settings of the encoder.

    Returns:
        The hash; an empty string for a network of Keras.
    """
    if settings.is_of_keras:
        return ""
    if settings.name in built_in_encoders.BUILT_IN:
        return modules_fingerprint([built_in_encoders.BUILT_IN[settings.name].entry_point(settings.name).module])
    (declared,) = metadata.entry_points(group=built_in_encoders.GROUP, name=settings.name)
    return _package_hash(declared.module)


def sources_fingerprint() -> str:
    """Hashes the packages that declare a user's own kinds of sources; returns an empty string if there are none."""
    declared = sorted({point.module for point in metadata.entry_points(group=SOURCE_ENTRY_POINTS)})
    return "-".join(_package_hash(module) for module in declared)


def _package_hash(module: str) -> str:
    package = module.partition(".")[0]
    spec = importlib.util.find_spec(package)
    directories = [Path(directory) for directory in (spec.submodule_search_locations or ())] if spec else []
    files = [path for directory in directories for path in directory.rglob("*.py")]
    if spec and spec.origin and not directories:
        files = [Path(spec.origin)]
    return _files_hash(sorted(files))


def _files_hash(files: list[Path]) -> str:
    combined = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        combined.update(f"{path.parent.name}/{path.name}:{content}\n".encode())
    return combined.hexdigest()


@functools.cache
def _source_file(module: str) -> Path | None:
    """Returns the source file of a module of nnclr, or None if the name is not one of nnclr's modules."""
    package, _, below = module.partition(".")
    if package not in PACKAGES:
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    stem = Path(spec.origin).parent.joinpath(*below.split(".")) if below else Path(spec.origin).parent
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@functools.cache
def _imports(module: str, path: Path) -> tuple[str, ...]:
    """Returns the names that a source file imports anywhere, and the package of the module itself."""
    names = [module.rpartition(".")[0]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # A name that is imported from a package may be one of its modules.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)
