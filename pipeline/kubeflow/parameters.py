"""What may differ from run to run of one compiled pipeline, and where it goes."""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config import Settings

# A target of this form is an environment variable of the step.
ENVIRONMENT = "env:"
# In a step's inputs, so that no execution property is hidden.
PREFIX = "run_parameter_"

REGISTRY_URI = "registry_uri"


@dataclass(frozen=True)
class RunParameter:
    """A parameter of a run.

    Attributes:
        name: as it is given to a run.
        kind: its type, as Kubeflow Pipelines calls it.
        default: what holds if it is not given.
        description: for people.
        targets: by task, where the value goes: execution properties, and with dots the fields of those that hold JSON;
            or `env:NAME`.
    """

    name: str
    kind: Literal["STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE"]
    default: str | int | float
    description: str
    targets: dict[str, tuple[str, ...]]

    def as_input(self) -> dict[str, Any]:
        """As the compiled pipeline declares it."""
        return {"parameterType": self.kind, "defaultValue": self.default, "description": self.description}


def run_parameters(settings: Settings) -> list[RunParameter]:
    """The parameters of a pipeline with these settings, whose values are the defaults."""
    recorded = "provenance.settings"
    found = [
        RunParameter(
            *("source", "STRING", settings.data.source or "", "the images, see data.source"),
            {"DataResolver": ("source",), "RegistryPusher": (f"{recorded}.data.source",)},
        ),
        RunParameter(
            *("span", "STRING", settings.data.span or "", "which of many to take, see data.span; the newest if empty"),
            {"DataResolver": ("span",), "RegistryPusher": (f"{recorded}.data.span",)},
        ),
        RunParameter(
            *("fingerprint", "STRING", "", "identity of the images, if it is known; computed from them if empty"),
            {"DataResolver": ("fingerprint",)},
        ),
        RunParameter(
            *("only_new", "NUMBER_INTEGER", int(settings.data.only_new), "1 trains nothing on what was trained on"),
            {"DataResolver": ("only_new",)},
        ),
        RunParameter(
            *("floor", "NUMBER_DOUBLE", settings.evaluator.floor or 0.0, "least probe accuracy, see evaluator.floor"),
            {
                "DataResolver": ("settings.evaluator.floor",),
                "LinearProbeEvaluator": ("settings.floor",),
                "RegistryPusher": (f"{recorded}.evaluator.floor",),
            },
        ),
        RunParameter(
            *("champion_alias", "STRING", settings.registry.alias, "alias that marks the champion"),
            {
                "DataResolver": ("settings.registry.alias",),
                "ChampionResolver": ("alias",),
                "RegistryPusher": ("alias", f"{recorded}.registry.alias"),
            },
        ),
        RunParameter(
            *(REGISTRY_URI, "STRING", "", "MLflow server; MLFLOW_TRACKING_URI of the step if empty"),
            dict.fromkeys(
                ("DataResolver", "ChampionResolver", "RegistryPusher"), (f"{ENVIRONMENT}MLFLOW_TRACKING_URI",)
            ),
        ),
    ]
    # A duration in steps or examples is not one in epochs.
    if settings.trainer.duration is None:
        found.append(
            RunParameter(
                *("epochs", "NUMBER_INTEGER", settings.trainer.epochs, "length of the training"),
                {
                    "DataResolver": ("settings.trainer.epochs",),
                    "Trainer": ("custom_config.settings.epochs",),
                    "RegistryPusher": (f"{recorded}.trainer.epochs",),
                },
            )
        )
    return found
