"""One typed tree of settings, and where its values come from: a preset, a file, `--set`, in rising precedence."""

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from components.run_settings import RunSettings
from pipeline.config.kubeflow import KubeflowSettings
from trainer import settings_tree
from trainer.errors import SettingsError

# The value of data.source that stands for the embedded sample.
SAMPLE = "sample"
# JSON schema of the settings, for completion in editors: beside the presets, and beside what `nnclr init` writes.
SCHEMA_FILE = "settings.schema.json"
# How a YAML file names its schema to editors.
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


class Settings(RunSettings):
    """All settings of a pipeline."""

    kubeflow: KubeflowSettings = KubeflowSettings()
    beam: dict[str, str | int | float | bool] = Field(
        # What Beam's DirectRunner falls back to where it cannot download its Prism binary: in process, no download.
        {"runner": "FnApiRunner"},
        description="Beam pipeline options of ingest, statistics and evaluation.",
    )

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
