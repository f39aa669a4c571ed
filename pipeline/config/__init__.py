"""One typed tree of settings, and where its values come from: a preset, a file, `--set`, in rising precedence."""

import re
from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from components.linear_probe_evaluator.config import EvaluatorSettings
from pipeline.config.kubeflow import KubeflowSettings
from trainer import settings_tree
from trainer.config import Strict, TrainerSettings
from trainer.errors import SettingsError

# The value of data.source that stands for the embedded sample.
SAMPLE = "sample"
# JSON schema of the settings, for completion in editors: beside the presets, and beside what `nnclr init` writes.
SCHEMA_FILE = "settings.schema.json"
# How a YAML file names its schema to editors.
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


class DataSettings(Strict):
    """What is ingested."""

    source: str | None = Field(
        None,
        description="an STL-10 directory or stl10_binary.tar.gz, a TFDS data_dir with stl10, or a folder of pictures; "
        "local or gs://; with {YYYY}, {MM}, {DD} or {SPAN} in it, the newest complete one of many; "
        f"`{SAMPLE}` is the embedded sample",
    )
    span: str | None = Field(
        None, description="the one of many to take instead of the newest: 2026-11-24, or the digits of {SPAN}"
    )
    settled_minutes: Annotated[float, Field(ge=0)] | None = Field(
        10.0,
        description="one of many is complete if it has a file _SUCCESS, or if nothing in it changed for so long; null: "
        "_SUCCESS alone counts",
    )
    only_new: bool = Field(
        False, description="train nothing if an earlier run did so with the same images and the same settings"
    )
    image_size: Annotated[int, Field(ge=31, le=1024)] = Field(96, description="height and width to train at, pixels")
    max_rejected: Annotated[int, Field(ge=0)] = Field(0, description="undecodable pictures that are tolerated")

    @field_validator("span", mode="before")
    @classmethod
    def _as_written(cls, span: Any) -> Any:
        # YAML makes a date of it.
        if isinstance(span, date) and not isinstance(span, datetime):
            return span.isoformat()
        if isinstance(span, int):
            raise ValueError(
                f"YAML takes it for a number, which has no leading zeros: write it in quotes, '\"{span}\"'"
            )
        return span


class RegistrySettings(Strict):
    """Where a blessed encoder goes. The server is named by MLFLOW_TRACKING_URI, never here."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")] = "nnclr-encoder"
    alias: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = "champion"
    artifact_location: str | None = Field(
        None,
        description="where the files of a new registered model go, local or gs://; the registry's own place if null",
    )
    serving_directory: str | None = Field(
        None, description="folder that TensorFlow Serving watches, local or gs://; nothing is published there if null"
    )

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if alias == "latest" or re.fullmatch(r"[vV]\d+", alias):
            raise ValueError("MLflow keeps `latest` and `v1`, `v2`, ... for itself: choose another alias")
        return alias


class Settings(Strict):
    """All settings of a pipeline."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")] = Field(
        "nnclr", description="of the pipeline; caching works within one name"
    )
    data: DataSettings = DataSettings()
    trainer: TrainerSettings = TrainerSettings()
    evaluator: EvaluatorSettings = EvaluatorSettings()
    registry: RegistrySettings = RegistrySettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
    beam: dict[str, str | int | float | bool] = Field(
        # What Beam's DirectRunner falls back to where it cannot download its Prism binary: in process, no download.
        {"runner": "FnApiRunner"},
        description="Beam pipeline options, for ingest and statistics",
    )

    def deciding(self) -> dict[str, Any]:
        """The settings that decide on an encoder, and on whether it is released, as JSON values."""
        return {
            "data": self.data.model_dump(mode="json", include={"image_size", "max_rejected"}),
            "trainer": self.trainer.model_dump(mode="json", exclude={"devices"}),
            "evaluator": self.evaluator.model_dump(mode="json", exclude={"data"}),
            "registry": self.registry.model_dump(mode="json", include={"alias"}),
        }

    def beam_pipeline_args(self) -> list[str]:
        """The Beam options as arguments."""
        # Workers in processes of their own must meet TFX before TFDV: it brings a module that this TFDV misses.
        flags = ["--beam_plugin=tfx"]
        for name, value in self.beam.items():
            if value is True:
                flags.append(f"--{name}")
            elif value is not False:
                flags.append(f"--{name}={value}")
        return flags


def presets() -> dict[str, str]:
    """The shipped presets: name to YAML text.

    The text lacks the line that names the schema: a copy of a preset has no schema beside it.
    """
    folder = resources.files("pipeline").joinpath("presets")
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8").removeprefix(SCHEMA_LINE)
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }


def load(preset: str | None = None, file: Path | None = None, overrides: list[str] | None = None) -> Settings:
    """Reads the settings.

    Args:
        preset: name of a shipped preset.
        file: YAML file in the form of a preset, on top of it.
        overrides: `trainer.epochs=2` and the like, on top of both; the values are YAML.

    Raises:
        SettingsError: a setting is unknown or has a value that is not allowed; it names field, value and what is.
    """
    tree: dict[str, Any] = {}
    if preset is not None:
        known = presets()
        if preset not in known:
            raise SettingsError(f"There is no preset {preset!r}; there are: {', '.join(known)}.")
        tree = settings_tree.parsed(known[preset], f"preset {preset}")
    if file is not None:
        tree = settings_tree.merged(tree, settings_tree.read(file))
    return settings_tree.validated(Settings, settings_tree.overridden(tree, overrides or []))
