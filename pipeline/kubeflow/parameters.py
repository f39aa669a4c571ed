"""The parameters of a compiled pipeline's runs: settings, and the MLflow server, that may differ from run to run."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pipeline.config import Settings

# A target of this form is an environment variable of the step.
ENVIRONMENT = "env:"
# Prefix of the parameters among a step's inputs, so that they hide no execution property.
PREFIX = "run_parameter_"

REGISTRY_URI = "registry_uri"

# Names of the parameters, and the settings that they override.
_SETTINGS = {
    "source": "data.source",
    "span": "data.span",
    "fingerprint": "data.fingerprint",
    "only_new": "data.only_new",
    "floor": "evaluator.floor",
    "champion_alias": "registry.alias",
    "epochs": "trainer.epochs",
}
# The execution property of each step that holds settings as JSON, and the section of the settings that it holds. Dots
# lead into JSON.
_HOLDERS = {
    "DataResolver": ("settings", ""),
    "ImageExampleGen": ("settings", "data"),
    "DataGate": ("settings", "gate"),
    "ChampionResolver": ("settings", "registry"),
    "Trainer": ("custom_config.settings", "trainer"),
    "LinearProbeEvaluator": ("settings", "evaluator"),
    "LabelledExampleGen": ("settings", "data"),
    "RegistryPusher": ("settings", ""),
}
_REGISTRY_STEPS = ("DataResolver", "ChampionResolver", "RegistryPusher")
# Types of settings, as Kubeflow Pipelines calls them. It has no booleans in TFX's specs: 0 and 1 stand for them.
_TYPES = {"string": "STRING", "integer": "NUMBER_INTEGER", "boolean": "NUMBER_INTEGER", "number": "NUMBER_DOUBLE"}
_EMPTY: dict[str, Any] = {"STRING": "", "NUMBER_INTEGER": 0, "NUMBER_DOUBLE": 0.0}


@dataclass(frozen=True)
class RunParameter:
    """A parameter of a run.

    Attributes:
        name: Name under which a run is given the parameter.
        type: Type, as Kubeflow Pipelines calls it.
        default: Value of a run that is not given the parameter.
        description: Description for people.
        targets: By step, where the value goes: a path into the step's execution properties, or `env:NAME`.
    """

    name: str
    type: str
    default: str | int | float
    description: str
    targets: dict[str, str]

    def as_input(self) -> dict[str, Any]:
        """Returns the parameter as a compiled pipeline declares it."""
        return {"parameterType": self.type, "defaultValue": self.default, "description": self.description}


def run_parameters(settings: Settings, properties: dict[str, dict[str, str]]) -> list[RunParameter]:
    """Returns the parameters of a pipeline.

    Args:
        settings: All settings of the pipeline, whose values are the defaults.
        properties: The constant execution properties of each step, by name.
    """
    server = RunParameter(
        REGISTRY_URI,
        "STRING",
        "",
        "Address of the MLflow server. If empty, MLFLOW_TRACKING_URI of the step.",
        dict.fromkeys(_REGISTRY_STEPS, f"{ENVIRONMENT}MLFLOW_TRACKING_URI"),
    )
    # A duration in steps or examples, or a time limit, takes the place of the epochs.
    replaced = settings.trainer.duration or settings.trainer.time_limit
    names = [name for name in _SETTINGS if name != "epochs" or not replaced]
    return [*(_of_setting(name, _SETTINGS[name], settings, properties) for name in names), server]


def _of_setting(name: str, setting: str, settings: Settings, properties: dict[str, dict[str, str]]) -> RunParameter:
    *sections, field = setting.split(".")
    model: BaseModel = settings
    for section in sections:
        model = getattr(model, section)
    schema = type(model).model_json_schema()["properties"][field]
    # A setting that may be null lists its types.
    kind = _TYPES[next(one for one in (schema, *schema.get("anyOf", ())) if one.get("type") in _TYPES)["type"]]
    value = getattr(model, field)
    targets = {}
    for step, (holder, section) in _HOLDERS.items():
        path = setting.removeprefix(f"{section}.") if section else setting
        if step in properties and (path != setting or not section) and _holds(properties[step], f"{holder}.{path}"):
            targets[step] = f"{holder}.{path}"
    default = _EMPTY[kind] if value is None else int(value) if isinstance(value, bool) else value
    return RunParameter(name, kind, default, f"{schema['description']} See {setting}.", targets)


def _holds(content: Any, path: str) -> bool:
    """Returns whether a path leads to a value. Texts on the way are JSON."""
    for name in path.split("."):
        content = json.loads(content) if isinstance(content, str) else content
        if name not in content:
            return False
        content = content[name]
    return True
