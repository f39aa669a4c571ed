"""`make test-fast`: a pytest plugin that leaves out test files that run pipelines, train, export or start processes.

Which these are is read from their imports, so that there is no list of tests to keep: a test file counts with all that
it imports, inside its functions as well, and other modules of this project with what they import when they are loaded.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
# TensorFlow and Beam load in seconds. What takes long are pipelines, registries, and graphs of whole training steps.
_HEAVY_LIBRARIES = {"tfx", "mlflow", "kfp", "tensorflow_datasets"}
_HEAVY_MODULES = {"trainer.model", "trainer.export"}
_PROCESSES = {"subprocess", "multiprocessing"}
_OWN = {"pipeline", "components", "trainer", "tests"}


def pytest_configure() -> None:
    """Raises an error if a module has been renamed."""
    for module in _HEAVY_MODULES:
        assert _file(module), f"tests/fast.py names {module}, which does not exist"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out a file of tests that is heavy; None leaves the decision to pytest."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    name = ".".join(collection_path.relative_to(_REPOSITORY).with_suffix("").parts)
    return True if _is_heavy(name, frozenset()) else None


@functools.cache
def _is_heavy(module: str, above: frozenset[str]) -> bool:
    """Whether a module of this repository imports something heavy, itself or through others than those `above` it."""
    file = _file(module)
    if file is None or module in above:
        return False
    heavy = _HEAVY_LIBRARIES | _HEAVY_MODULES | (_PROCESSES if module.startswith("tests.") else set())
    for imported in _imported(file, everywhere=module.rpartition(".")[2].startswith("test_")):
        package = imported.partition(".")[0]
        if {imported, package} & heavy or (package in _OWN and _is_heavy(imported, above | {module})):
            return True
    # A package is loaded before its modules.
    parent = module.rpartition(".")[0]
    return bool(parent) and _is_heavy(parent, above | {module})


def _file(module: str) -> Path | None:
    path = _REPOSITORY.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(file: Path, everywhere: bool) -> Iterator[str]:
    """The modules that a file imports: anywhere, or as it is loaded."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))
