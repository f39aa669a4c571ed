"""Reads settings from YAML, merges and overrides them, and validates them with clear errors."""

import difflib
import reprlib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from trainer.errors import SettingsError

#: Type of a `PydanticCustomError` about a value that may be secret: the message to the user does not repeat it.
SECRET_VALUE = "secret_value"  # noqa: S105

_Model = TypeVar("_Model", bound=BaseModel)
# How messages show values: aliases in YAML can make a short text a value of any size.
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 3
_SHOWN.maxstring = _SHOWN.maxother = 500


class _UniqueKeyLoader(yaml.SafeLoader):
    """Loads YAML and refuses mappings with a key twice, of which PyYAML would silently drop one.

    Names are always texts: YAML 1.1 would take the names `on`, `off`, `yes` and `no` for truth values.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a name must be a text", key.start_mark)
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is set twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(file: Path) -> dict[str, Any]:
    """Reads a YAML file of settings.

    Raises:
        SettingsError: If the file cannot be read or is not a mapping.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {file} cannot be read: {error}.") from error
    return parsed(text, str(file))


def overridden(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Overrides single values of a tree.

    Args:
        tree: The tree of settings, which is not changed.
        overrides: Texts of the form NAME=VALUE, such as `trainer.epochs=2`. The values are YAML.

    Raises:
        SettingsError: If an override has another form.
    """
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise SettingsError(f"--set takes NAME=VALUE, for instance trainer.epochs=2, not {override!r}.")
        tree = merged(tree, _nested(path.split("."), _loaded(value, f"The value in --set {_SHOWN.repr(override)}")))
    return tree


def validated(model: type[_Model], tree: dict[str, Any]) -> _Model:
    """Validates a tree of settings.

    Raises:
        SettingsError: If a setting is unknown or its value is not allowed. The message names the setting, the value and
            what is allowed.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_explained(model, problem) for problem in error.errors())) from error


def parsed(text: str, where: str) -> dict[str, Any]:
    """Parses YAML.

    Args:
        text: The YAML text.
        where: Where the text comes from, for messages.

    Raises:
        SettingsError: If the text is not valid YAML or not a mapping.
    """
    tree = _loaded(text, where)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{where} contains no settings: expected lines of the form `name: value`.")
    return tree


def _loaded(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _UniqueKeyLoader)  # noqa: S506 (it is a SafeLoader)
    except RecursionError as error:
        raise SettingsError(f"{where} cannot be used: it is nested too deeply.") from error
    # PyYAML lets other errors pass, for instance of a date that does not exist or of a tag with a wrong value.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # Python's advice for a number of thousands of digits follows a semicolon.
        reason = " ".join(str(error).partition("; use sys.")[0].split())
        raise SettingsError(f"{where} cannot be used: {reason}.") from error


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merges two trees. Mappings are merged; any other value of `above` replaces that of `below`."""
    result = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of a tree by their names, such as `optimizer.learning_rate`."""
    result: dict[str, Any] = {}
    for name, value in tree.items():
        result |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return result


def _explained(root: type[BaseModel], problem: Any) -> str:
    """Returns one sentence that names the field, the value and what is allowed."""
    # pydantic marks a problem with a mapping's key, and not with its value, by a last part of its own.
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    field = ".".join(path)
    if problem["type"] == "extra_forbidden":
        model = _model_at(root, path[:-1])
        if moved := getattr(model, "moved", {}).get(path[-1]):
            return f"{field}: no such setting. It is now {moved}."
        allowed = sorted(model.model_fields) if model else []
        close = difflib.get_close_matches(path[-1], allowed, n=1)
        hint = f" Did you mean {'.'.join([*path[:-1], close[0]])}?" if close else ""
        where = f"{'.'.join(path[:-1])} has" if path[:-1] else "there are"
        return f"{field}: no such setting.{hint} Allowed: {where} {', '.join(allowed)}."
    if problem["type"] == SECRET_VALUE:
        return f"{field}: {problem['msg']}."
    return f"{field}: {_shown(problem['input'])} is not allowed. {problem['msg'].removeprefix('Value error, ')}."


def _shown(value: object) -> str:
    try:
        return _SHOWN.repr(value)
    except ValueError:
        # Python turns no such number into text.
        return "a number of thousands of digits"


def _model_at(kind: Any, path: list[str]) -> type[BaseModel] | None:
    """Returns the model at a path, which leads through fields, elements of lists and values of mappings."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not path:
            return kind
        return _model_at(kind.model_fields[path[0]].annotation, path[1:]) if path[0] in kind.model_fields else None
    # An element of a list or mapping has a part of the path; a member of a union, such as `Model | None`, has none.
    below = path if get_origin(kind) in (Union, UnionType) else path[1:]
    return next((model for part in get_args(kind) if (model := _model_at(part, below))), None)
