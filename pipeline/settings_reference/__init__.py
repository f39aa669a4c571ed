"""Every setting with its type, allowed values, default and description, read from the models of `pipeline.config`.

`python -m pipeline.settings_reference` writes the files that are generated from it, see `generated`.
"""

import difflib
import json
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline import config
from trainer.errors import SettingsError

_Schema = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: Full dotted name, as `--set` takes it. `[]` stands for the elements of a list, and `NAME` for a key of a
            mapping: `kubeflow.steps.NAME.tolerations[].key`.
        type: Type in YAML's terms: `integer`, `list of 2 numbers`.
        allowed: Allowed values or their range as Markdown; empty if the type allows every value.
        default: Value that holds if nothing is set, as a JSON value.
        description: Description of the field.
    """

    name: str
    type: str
    allowed: str
    default: Any
    description: str


@dataclass(frozen=True)
class Section:
    """Settings that share everything but the last part of their names.

    Attributes:
        name: Dotted name; empty for the whole tree.
        description: Description of the field, or the first paragraph of the model's docstring.
        settings: Settings of the section itself, without those of its subsections.
    """

    name: str
    description: str
    settings: tuple[Setting, ...]


def json_schema(model: type[BaseModel] = config.Settings) -> _Schema:
    """Returns the JSON schema of all settings.

    It differs from pydantic's own in that nothing is referenced, so that each setting has the default of its path: two
    sections of the same model may have different ones.
    """
    schema = model.model_json_schema()
    return _inlined(schema, schema.get("$defs", {}), model().model_dump(mode="json"))


def schema_text() -> str:
    """Returns the JSON schema of all settings as the content of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def sections(model: type[BaseModel] = config.Settings) -> list[Section]:
    """Returns all sections in the order of the models' fields; each comes before its subsections."""
    return _sections(json_schema(model), "")


def matching(prefix: str) -> list[Section]:
    """Returns the settings whose names start with a prefix, in their sections.

    Raises:
        SettingsError: If no setting's name starts with the prefix; the message names similar settings.
    """
    known = sections()
    kept = [
        Section(section.name, section.description, settings)
        for section in known
        if (settings := tuple(setting for setting in section.settings if _begins_with(setting.name, prefix)))
    ]
    if not kept:
        close = _similar(prefix, known)
        hint = f"Did you mean {_either(close)}?" if close else "nnclr settings lists all of them."
        raise SettingsError(f"No setting's name starts with {prefix!r}. {hint}")
    return kept


def differences(preset: str) -> dict[str, Any]:
    """Returns the settings that a preset changes: name to value.

    Raises:
        SettingsError: If there is no such preset.
    """
    tree = config.load(preset).model_dump(mode="json")
    settings = [setting for section in sections() for setting in section.settings]
    values = {setting.name: _value(tree, setting) for setting in settings}
    return {setting.name: values[setting.name] for setting in settings if values[setting.name] != setting.default}


def as_yaml(value: Any) -> str:
    """Returns a JSON value as one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _value(tree: Any, setting: Setting) -> Any:
    for part in setting.name.split("."):
        if not isinstance(tree, dict) or part not in tree:
            # An element of a list, or a setting of a section that is null.
            return setting.default
        tree = tree[part]
    return tree


def _inlined(node: _Schema, definitions: _Schema, default: Any) -> _Schema:
    """Replaces references by what they refer to, and the defaults of fields by those of their path."""
    if "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]] | {k: v for k, v in node.items() if k != "$ref"}
    result = {key: value for key, value in node.items() if key not in ("title", "default", "$defs")}
    if "properties" in node:
        # The description of a model is its docstring.
        if "description" in node:
            result["description"] = " ".join(node["description"].split("\n\n")[0].split())
        result["properties"] = {
            name: _inlined(child, definitions, default[name] if isinstance(default, dict) else child.get("default"))
            for name, child in node["properties"].items()
        }
        return result
    result["default"] = default
    for key in ("anyOf", "prefixItems"):
        if key in node:
            result[key] = [_without_default(_inlined(part, definitions, None)) for part in node[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = _without_default(_inlined(node[key], definitions, None))
    if "patternProperties" in node:
        # pydantic allows only keys that match, and its schema does not say so.
        result["additionalProperties"] = False
    return result


def _without_default(node: _Schema) -> _Schema:
    return {key: value for key, value in node.items() if key != "default"}


def _sections(node: _Schema, name: str) -> list[Section]:
    settings: list[Setting] = []
    below: list[Section] = []
    for field, child in node["properties"].items():
        path = f"{name}.{field}" if name else field
        if "properties" in child:
            below += _sections(child, path)
            continue
        description = child.get("description", "").strip()
        settings.append(Setting(path, _either(_types(child)), _allowed(child), child["default"], description))
        # A section that may be null, or a list of sections.
        for part in child.get("anyOf", []):
            if "properties" in part:
                below += _sections(part, path)
        if "properties" in child.get("items", {}):
            below += _sections(child["items"], f"{path}[]")
        values = child.get("additionalProperties")
        if isinstance(values, dict) and "properties" in values:
            below += _sections(values, f"{path}.NAME")
    return [Section(name, node.get("description", ""), tuple(settings)), *below]


def _types(node: _Schema) -> list[str]:
    """Names the types that a value may have: `list of integers`, `null`."""
    if "anyOf" in node:
        return [kind for part in node["anyOf"] for kind in _types(part)]
    match node["type"]:
        case list(kinds):
            return kinds
        case "array":
            elements = _plural(node["items"] if "items" in node else node["prefixItems"][0])
            length = f"{node['minItems']} " if "prefixItems" in node else ""
            return [f"list of {length}{elements}"]
        case "object" if "properties" in node:
            return ["section"]
        case "object":
            values = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
            return [f"mapping of {_plural(next(value for value in values if value))}"]
        case kind:
            return [kind]


def _plural(node: _Schema) -> str:
    parts = [kind.partition(" ") for kind in _types(node)]
    return _either([f"{kind}s{space}{rest}" for kind, space, rest in parts])


def _allowed(node: _Schema) -> str:
    texts = []
    if "enum" in node:
        texts.append(_either([f"`{value}`" for value in node["enum"]]))
    elif "const" in node:
        texts.append(f"`{node['const']}`")
    elif "examples" in node:
        texts.append(f"for instance {_either([f'`{as_yaml(example)}`' for example in node['examples']])}")
    elif "pattern" in node:
        texts.append(f"matches `{node['pattern']}`")
    texts += [_range(node)]
    texts += [f"keys match `{pattern}`" for pattern in node.get("patternProperties", {})]
    if "propertyNames" in node:
        texts.append(f"keys are {_either([f'`{name}`' for name in node['propertyNames']['enum']])}")
    inner = [*node.get("anyOf", []), *node.get("prefixItems", [])]
    inner += [node[key] for key in ("items", "additionalProperties") if isinstance(node.get(key), dict)]
    texts += [_allowed(part) for part in inner if "properties" not in part]
    if node.get("minItems") and "prefixItems" not in node:
        texts.append(f"at least {node['minItems']} element{'s' if node['minItems'] > 1 else ''}")
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _range(node: _Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return ", ".join(f"{word} {node[key]}" for key, word in words.items() if key in node)


def _either(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    return " or ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])


def _begins_with(name: str, prefix: str) -> bool:
    """Returns whether a name starts with a prefix, in which any key may take the place of `NAME`."""
    *whole, last = prefix.split(".")
    parts = name.split(".")[: len(whole) + 1]
    if len(parts) <= len(whole):
        return False
    same = all(part in (given, "NAME") for part, given in zip(parts, whole, strict=False))
    return same and (parts[-1].startswith(last) or parts[-1] == "NAME")


def _similar(prefix: str, known: list[Section]) -> list[str]:
    names = [name for section in known for name in (section.name, *(setting.name for setting in section.settings))]
    close = [name for name in names if name.endswith(f".{prefix}")]
    close = close or difflib.get_close_matches(prefix, names, n=3, cutoff=0.8)
    last_parts = difflib.get_close_matches(prefix, {_last_part(name) for name in names}, n=1)
    return close or [name for name in names if _last_part(name) in last_parts]


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]
